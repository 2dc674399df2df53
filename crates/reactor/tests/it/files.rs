//! Descriptors other than sockets: pipes, files, `/dev/null`.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use reactor::{Address, FileDispatcher, Io, Protocol, Reactor, Stream, Token};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::common::{
    Call, Echo, Log, Probe, assert_echo, assert_idle, pattern, run, turn_all, turn_until,
};

/// Opens a file with the contents `data` for reading.
fn file(data: &[u8]) -> File {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    File::open(file.path()).unwrap()
}

/// Stores its input, and closes at end of file.
struct Collect(Rc<RefCell<Vec<u8>>>);

impl Protocol for Collect {
    fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().extend(data);
        Ok(())
    }
}

#[test]
fn pipe_is_read_to_its_end() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(FileDispatcher::from_fd(reader, Probe::passive("a", &log)).unwrap()).unwrap();
    writer.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    assert_idle(&mut reactor);
    drop(writer);
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a read 5", "a eof", "a close: closed by the peer"]);
}

#[test]
fn invariant_4_pipe_is_written_in_order_to_slow_reader() {
    let (mut reader, writer) = io::pipe().unwrap();
    let data = pattern(1_000_000);
    let mut stream = FileDispatcher::from_fd(writer, Echo).unwrap();
    stream.send(&data).unwrap();
    assert!(stream.unsent() > 0, "a pipe holds less than this");
    stream.close();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(stream).unwrap();
    let reading = thread::spawn(move || {
        let mut got = Vec::<u8>::new();
        let mut buffer = [0; 777];
        while let read @ 1.. = reader.read(&mut buffer).unwrap() {
            got.extend(&buffer[..read]);
        }
        got
    });
    run(&mut reactor);
    assert!(reading.join().unwrap() == data, "received data differs from the data sent");
}

#[test]
fn pipe_without_reader_closes_with_broken_pipe() {
    for waiting in [0, 1_000_000] {
        let (reader, writer) = io::pipe().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let mut stream = FileDispatcher::from_fd(writer, Probe::passive("a", &log)).unwrap();
        stream.send(&vec![0; waiting]).unwrap();
        let unsent = stream.unsent();
        reactor.add(stream).unwrap();
        turn_all(&mut reactor);
        assert_eq!(log.lines(), ["a connect"]);
        drop(reader);
        run(&mut reactor);
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].to_lowercase().starts_with("a close: broken pipe"), "{lines:?}");
        assert_eq!(lines[1].ends_with(&format!(", {unsent} bytes unsent")), waiting > 0);
    }
}

#[test]
fn invariant_6_paused_pipe_without_writer_does_not_spin_or_lose_input() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut stream = FileDispatcher::from_fd(reader, Probe::passive("a", &log)).unwrap();
    stream.pause();
    let token = reactor.add(stream).unwrap();
    writer.write_all(b"hello").unwrap();
    drop(writer);
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["a connect"]);
    reactor.get_mut::<Stream<Probe>>(token).unwrap().resume();
    run(&mut reactor);
    assert_eq!(log.lines()[1..], ["a read 5", "a eof", "a close: closed by the peer"]);
}

#[test]
fn direction_not_opened_is_rejected() {
    let (reader, _writer) = io::pipe().unwrap();
    let mut stream = FileDispatcher::from_fd(reader, Echo).unwrap();
    let error = stream.send(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(error.to_string().ends_with("is open for reading only"), "{error}");
    assert_eq!(stream.unsent(), 0);
    assert_eq!(stream.shutdown().unwrap_err().kind(), ErrorKind::Unsupported);

    // Open for writing only: it is not read and causes no wake-up.
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (mut reader, writer) = io::pipe().unwrap();
    let token =
        reactor.add(FileDispatcher::from_fd(writer, Probe::passive("a", &log)).unwrap()).unwrap();
    assert_idle(&mut reactor);
    let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
    stream.send(b"x").unwrap();
    assert_eq!(stream.shutdown().unwrap_err().kind(), ErrorKind::Unsupported);
    stream.send(b"y").unwrap();
    stream.close();
    run(&mut reactor);
    let mut got = String::new();
    reader.read_to_string(&mut got).unwrap();
    assert_eq!(got, "xy");
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn descriptor_number_is_the_address() {
    let (reader, _writer) = io::pipe().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
    let stream = FileDispatcher::from_fd(reader, Echo).unwrap();
    assert_eq!(stream.peer_addr(), Address::Descriptor(number));
    assert_eq!(stream.local_addr().unwrap(), Address::Descriptor(number));
}

/// epoll does not accept regular files, as they never block. The test for
/// asyncore's `file_dispatcher` also reads one through the loop.
#[test]
fn invariant_7_regular_file_is_read_while_others_are_served() {
    let data = pattern(1_000_000);
    let got = Rc::default();
    let mut reactor = Reactor::new().unwrap();
    let (ours, neighbour) = UnixStream::pair().unwrap();
    let echo = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    let collect = Collect(Rc::clone(&got));
    let token = reactor.add(FileDispatcher::from_fd(file(&data), collect).unwrap()).unwrap();
    neighbour.set_nonblocking(true).unwrap();
    let mut turns = 0;
    while reactor.get_mut::<Stream<Collect>>(token).is_some() {
        let before = got.borrow().len();
        (&neighbour).write_all(b"x").unwrap();
        reactor.turn(Some(Duration::from_secs(1))).unwrap();
        (&neighbour).read_exact(&mut [0]).expect("served in each turn");
        assert!(got.borrow().len() - before <= 64 * 1024, "one buffer a turn");
        turns += 1;
        assert!(turns <= 20, "{turns} turns for 16 buffers");
    }
    assert!(*got.borrow() == data);
    // The closed file causes no further turns.
    assert_idle(&mut reactor);
    reactor.context().close(echo);
    run(&mut reactor);
}

#[test]
fn regular_file_is_written_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "first ").unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let mut stream = FileDispatcher::from_fd(file, Echo).unwrap();
    let mut reactor = Reactor::new().unwrap();
    stream.send(b"second ").unwrap();
    let token = reactor.add(stream).unwrap();
    assert_idle(&mut reactor);
    let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
    stream.send(b"third ").unwrap();
    stream.send(b"fourth").unwrap();
    stream.close();
    run(&mut reactor);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first second third fourth");
}

#[test]
fn dev_null_is_at_its_end_and_accepts_all_output() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        match call {
            Call::Connect => io.send(&vec![7; 1_000_000])?,
            Call::Eof => io.close(),
            _ => {}
        }
        Ok(())
    });
    reactor.add(FileDispatcher::from_fd(null, probe).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a eof", "a close: closed by the peer"]);
}

#[test]
fn invariant_6_always_ready_source_does_not_spin_once_paused_or_read() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    // It pauses after each read, and stays open at end of file.
    let probe = Probe::new("a", &log, |call, io| {
        if matches!(call, Call::Read(_)) {
            io.pause();
        }
        Ok(())
    });
    let token =
        reactor.add(FileDispatcher::from_fd(file(&vec![0; 100_000]), probe).unwrap()).unwrap();
    for expected in ["a read 65536", "a read 34464", "a eof"] {
        turn_until(&mut reactor, |_| log.has(expected));
        assert_idle(&mut reactor);
        assert_eq!(log.lines().last().unwrap(), expected);
        assert_eq!(reactor.next_deadline(), None);
        reactor.get_mut::<Stream<Probe>>(token).unwrap().resume();
    }
    assert_idle(&mut reactor);
    reactor.get_mut::<Stream<Probe>>(token).unwrap().close();
    run(&mut reactor);
    assert_eq!(log.count("close"), 1);
}

#[test]
fn invariant_1_always_ready_source_gets_no_callback_after_close() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let tokens: Rc<RefCell<Vec<Token>>> = Rc::default();
    for name in ["a", "b", "c", "d"] {
        let tokens = Rc::clone(&tokens);
        let all = Rc::clone(&tokens);
        let probe = Probe::new(name, &log, move |call, io| {
            let me = io.token();
            match call {
                Call::Read(_) => {
                    for &token in tokens.borrow().iter().filter(|&&token| token != me) {
                        io.context().close(token);
                    }
                }
                Call::Eof => io.close(),
                _ => {}
            }
            Ok(())
        });
        let stream = FileDispatcher::from_fd(file(&vec![0; 200_000]), probe).unwrap();
        all.borrow_mut().push(reactor.add(stream).unwrap());
    }
    // The first one to read closes the other three.
    turn_until(&mut reactor, |_| log.count("close: closed") == 3);
    assert_eq!(log.count("read"), 1, "{:?}", log.lines());
    run(&mut reactor);
    assert_eq!(log.count("read"), 4, "{:?}", log.lines());
    assert_eq!(log.count("eof"), 1);
    assert_eq!(log.count("close"), 4);
}

#[test]
fn stop_works_while_a_source_is_always_ready() {
    let zero = File::open("/dev/zero").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let (ours, neighbour) = UnixStream::pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let read: Rc<Cell<usize>> = Rc::default();
    let count = Rc::clone(&read);
    let probe = Probe::new("zero", &Log::default(), move |call, _| {
        if let Call::Read(data) = call {
            count.set(count.get() + data.len());
        }
        Ok(())
    });
    reactor.add(FileDispatcher::from_fd(zero, probe).unwrap()).unwrap();
    for _ in 0..3 {
        assert_echo(&mut reactor, &neighbour);
    }
    let handle = reactor.handle();
    reactor.context().call_later(Duration::from_millis(5), move |_| handle.stop().unwrap());
    run(&mut reactor);
    assert!(read.get() > 0);
}

/// The mode belongs to the open file description, so other processes share it.
#[test]
fn descriptor_mode_is_restored_on_close() {
    for nonblocking in [false, true] {
        let (reader, _writer) = io::pipe().unwrap();
        let ours = reader.try_clone().unwrap();
        let mode = |of: &io::PipeReader| fcntl_getfl(of).unwrap() & OFlags::NONBLOCK;
        if nonblocking {
            rustix::fs::fcntl_setfl(&ours, fcntl_getfl(&ours).unwrap() | OFlags::NONBLOCK).unwrap();
        }
        let before = mode(&reader);
        let stream = FileDispatcher::from_fd(ours, Echo).unwrap();
        assert_eq!(mode(&reader), OFlags::NONBLOCK);
        let mut reactor = Reactor::new().unwrap();
        let token = reactor.add(stream).unwrap();
        turn_all(&mut reactor);
        assert_eq!(mode(&reader), OFlags::NONBLOCK);
        reactor.context().close(token);
        run(&mut reactor);
        assert_eq!(mode(&reader), before);
    }
}

/// The first of two that is closed leaves the mode to the other.
#[test]
fn streams_on_one_description_share_its_mode() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let is_nonblocking = || fcntl_getfl(&ours).unwrap().contains(OFlags::NONBLOCK);
    let mut reactor = Reactor::new().unwrap();
    let [one, other] = [(); 2].map(|()| {
        let log = Log::default();
        let stream = FileDispatcher::from_fd(ours.try_clone().unwrap(), Probe::passive("a", &log));
        reactor.add(stream.unwrap()).unwrap()
    });
    turn_all(&mut reactor);
    reactor.context().close(one);
    turn_all(&mut reactor);
    assert!(is_nonblocking(), "the first made the other one blocking");
    reactor.context().close(other);
    run(&mut reactor);
    assert!(!is_nonblocking(), "the last did not restore the mode");
}

/// It was writable when the batch was collected; that is not a hang-up.
#[test]
fn pipe_that_no_longer_wants_output_in_the_same_batch_stays_open() {
    struct Output {
        wants: bool,
        log: Log,
    }
    impl Protocol for Output {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn writable(&self) -> bool {
            self.wants
        }
        fn handle_close(&mut self, _: &mut Io<'_>, reason: &reactor::CloseReason) {
            self.log.note(reason.to_string());
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (closed, reads) = (Log::default(), Log::default());
    let output: Rc<Cell<Option<Token>>> = Rc::default();
    let target = Rc::clone(&output);
    let control = Probe::new("control", &reads, move |call, io| {
        if let (Call::Read(_), Some(output)) = (call, target.get()) {
            io.context().with_stream(output, |output: &mut Output, _| output.wants = false);
        }
        Ok(())
    });
    let (ours, mut peer) = UnixStream::pair().unwrap();
    // Its event comes first, as it was ready first.
    peer.write_all(b"x").unwrap();
    reactor.add(Stream::new(ours, control).unwrap()).unwrap();
    let (_reader, writer) = io::pipe().unwrap();
    let file = FileDispatcher::from_fd(writer, Output { wants: true, log: closed.clone() });
    output.set(Some(reactor.add(file.unwrap()).unwrap()));
    turn_until(&mut reactor, |_| reads.has("read"));
    assert_idle(&mut reactor);
    assert_eq!(closed.lines(), [""; 0]);
}
