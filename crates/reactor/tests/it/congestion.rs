//! Invariant 5: what stops input, and what one callback may send.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use reactor::{
    Chat, ChatIo, ChatProtocol, CloseReason, Context, Io, Limits, Listener, OwnedDescriptor,
    Produced, Protocol, Reactor, Stream, Terminator, Token,
};

use crate::common::{
    Call, Echo, LocalStream, Log, Probe, local_pair, reports_resets, run, run_with, tcp_pair,
    turn_all,
};

const MIB: usize = 1 << 20;

/// Sends much first, and then reads as much.
struct Talker {
    len: usize,
    piece: usize,
    got: Rc<Cell<usize>>,
}

impl Talker {
    fn count(&self, cx: &mut Context, len: usize) {
        self.got.set(self.got.get() + len);
        if self.got.get() == 2 * self.len {
            cx.stop();
        }
    }
}

impl Protocol for Talker {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        vec![7; self.len].chunks(self.piece).try_for_each(|piece| io.send(piece))
    }
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.count(io.context(), data.len());
        Ok(())
    }
}

impl ChatProtocol for Talker {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        vec![7; self.len].chunks(self.piece).try_for_each(|piece| chat.push(piece))
    }
    fn collect_incoming_data(&mut self, chat: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
        self.count(chat.context(), data.len());
        Ok(())
    }
    fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }
}

fn pair(tcp: bool) -> [OwnedDescriptor; 2] {
    if tcp {
        let (one, other) = tcp_pair();
        [one.into(), other.into()]
    } else {
        let (one, other) = local_pair().unwrap();
        [one.into(), other.into()]
    }
}

#[test]
fn invariant_5_peers_that_both_send_first_do_not_wait_for_each_other() {
    let len = 12 * MIB;
    for (tcp, chat, piece) in [
        (true, false, len),
        (false, false, len),
        (false, false, 1000),
        (true, true, len),
        (false, true, 70_000),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let got = Rc::default();
        for socket in pair(tcp) {
            let talker = Talker { len, piece, got: Rc::clone(&got) };
            if chat {
                let chat = Chat::new(Terminator::Never, talker);
                reactor.add(Stream::new(socket, chat).unwrap()).unwrap();
            } else {
                reactor.add(Stream::new(socket, talker).unwrap()).unwrap();
            }
        }
        run(&mut reactor);
        assert_eq!(got.get(), 2 * len, "tcp: {tcp}, chat: {chat}, piece: {piece}");
    }
}

/// A client sends all at once to an echo server, and reads meanwhile.
#[test]
fn invariant_5_client_reads_while_it_uploads() {
    const LEN: usize = 50_000_000;
    struct Upload(usize, Log);
    impl Protocol for Upload {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.send(&vec![b'x'; LEN])
        }
        fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            self.0 += data.len();
            if self.0 == LEN {
                io.close();
            }
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
            self.1.note(format!("{} bytes back, {reason}", self.0));
            io.context().stop();
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let log = Log::default();
    let limits = Limits { stall_timeout: Some(Duration::from_secs(5)), ..Limits::default() };
    let upload = Stream::connect([addr], Upload(0, log.clone())).with_limits(limits);
    reactor.add(upload).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["50000000 bytes back, closed"]);
}

/// A server that sends much first and then replies to input: its replies are accepted,
/// and stop the input.
#[test]
fn invariant_5_replies_behind_other_output_stop_input() {
    let (ours, theirs) = local_pair().unwrap();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let probe = Probe::new("a", &log, |call, io| match call {
        Call::Connect => io.send(&vec![0; MIB]),
        Call::Read(data) => io.send(data),
        _ => Ok(()),
    });
    let token = reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_all(&mut reactor);
    theirs.set_nonblocking(true).unwrap();
    while (&theirs).write(&vec![0; 65536]).is_ok() {}
    turn_all(&mut reactor);
    assert_eq!(log.count("read"), 1, "{:?}", log.lines());
    assert!(reactor.get_mut::<Stream<Probe>>(token).is_some());
}

/// A stream of replies to a peer that does not read: at most the documented 128 KiB.
#[test]
fn invariant_5_echo_server_queues_at_most_128_kib() {
    let (ours, theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let token = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    theirs.set_nonblocking(true).unwrap();
    for _ in 0..100 {
        while (&theirs).write(&vec![0; 65536]).is_ok() {}
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    let unsent = reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent();
    assert!(unsent > 64 * 1024 && unsent <= 128 * 1024, "{unsent}");
}

/// How a reply consists of several messages.
const REPLIES: [(&str, &[usize]); 4] = [
    ("head, body and end", &[11, 10_000_000, 2]),
    ("head, large body and end", &[11, 50_000_000, 2]),
    ("large pieces", &[100_000; 100]),
    ("lines", &[1_000; 8_000]),
];

fn read_reply(mut peer: LocalStream) -> usize {
    peer.write_all(b"get\n").unwrap();
    thread::sleep(Duration::from_millis(100));
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    rest.len()
}

#[test]
fn reply_in_several_messages_may_exceed_high_water() {
    struct Get(&'static [usize]);
    impl ChatProtocol for Get {
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            self.0.iter().try_for_each(|&len| chat.push(&vec![b'v'; len]))?;
            chat.close_when_done();
            Ok(())
        }
    }
    for (name, reply) in REPLIES {
        for chat in [false, true] {
            let (ours, theirs) = local_pair().unwrap();
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            if chat {
                reactor.add(Stream::new(ours, Chat::new("\n", Get(reply))).unwrap()).unwrap();
            } else {
                let probe = Probe::new("a", &log, |call, io| {
                    if matches!(call, Call::Read(_)) {
                        reply.iter().try_for_each(|&len| io.send(&vec![b'v'; len]))?;
                        io.close();
                    }
                    Ok(())
                });
                reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
            }
            let got = run_with(&mut reactor, move || read_reply(theirs));
            assert_eq!(got, reply.iter().sum(), "{name}, chat: {chat}: {:?}", log.lines());
        }
    }
}

/// A callback that never stops sending meets the limit.
#[test]
fn invariant_5_callback_may_exceed_high_water_by_a_limit() {
    let limits = Limits { max_excess: 100_000, ..Limits::default() };
    for call in [Call::Connect, Call::Timer, Call::Write] {
        let (ours, _theirs) = local_pair().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let seen = log.clone();
        let mut probe = Probe::new("a", &log, move |now, io| {
            if now == Call::Connect {
                io.set_timer(Duration::from_millis(1));
            }
            if now == call {
                let error = loop {
                    if let Err(error) = io.send(&[0; 1_000]) {
                        break error;
                    }
                };
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                seen.note(format!("unsent {}", io.unsent()));
                io.context().stop();
            }
            Ok(())
        });
        probe.writable = call == Call::Write;
        reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
        run(&mut reactor);
        let lines = log.lines();
        let unsent = lines.iter().find_map(|line| line.strip_prefix("unsent ")).unwrap();
        let unsent: usize = unsent.parse().unwrap();
        let excess = if call == Call::Write { 0 } else { limits.max_excess };
        let bound = limits.high_water + 1_000 + excess;
        assert!(unsent >= bound - 3_000 && unsent <= bound, "{call:?}: {unsent} of {bound}");
    }
}

/// One of the two streams of a relay, as the documentation of `Connection::pause` describes
/// it.
#[cfg(unix)] // Unix sockets
struct Half {
    target: PathBuf,
    other: Option<Token>,
    holds_back: bool,
}

#[cfg(unix)] // Unix sockets
impl Half {
    #[cfg(unix)] // Unix sockets
    fn other<'a>(&self, io: &'a mut Io<'_>) -> Option<&'a mut Stream<Half>> {
        io.context().get_mut(self.other?)
    }
}

#[cfg(unix)] // Unix sockets
impl Protocol for Half {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if self.other.is_none() {
            let target = self.target.clone();
            let half = Half { target, other: Some(io.token()), holds_back: false };
            let upstream = Stream::connect_unix(&self.target, half);
            self.other = Some(io.context().add(upstream)?);
        }
        Ok(())
    }
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        let Some(other) = self.other(io) else { return Ok(()) };
        other.send(data)?;
        if other.unsent() > 0 {
            other.protocol_mut().holds_back = true;
            io.pause();
        }
        Ok(())
    }
    fn writable(&self) -> bool {
        self.holds_back
    }
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.holds_back = false;
        if let Some(other) = self.other(io) {
            other.resume();
        }
        Ok(())
    }
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.other(io).map_or(Ok(()), |other| other.shutdown())
    }
    fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) {
        if let Some(other) = self.other(io) {
            other.close();
        }
    }
}

/// Writes `len` bytes, then ends; returns how many bytes it reads meanwhile, or after that.
#[cfg(unix)] // Unix sockets
fn duplex(mut stream: impl Read + Write, len: usize, piece: usize) -> usize {
    let data = vec![1; piece];
    let mut written = 0;
    while written < len {
        stream.write_all(&data[..piece.min(len - written)]).unwrap();
        written += piece;
    }
    let mut got = Vec::new();
    stream.take(len as u64).read_to_end(&mut got).unwrap();
    got.len()
}

/// Both sides write first: the client in another thread than the one that reads, and the
/// server before it reads anything.
#[cfg(unix)] // Unix sockets
#[test]
fn invariant_5_relay_does_not_stall_if_both_sides_write_first() {
    const LEN: usize = 20_000_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    let server = UnixListener::bind(&path).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let relay = Listener::bind("127.0.0.1:0", move |_| {
        Ok(Half { target: path.clone(), other: None, holds_back: false })
    });
    let relay = relay.unwrap();
    let addr = relay.local_addr().as_inet().unwrap();
    reactor.add(relay).unwrap();
    let got = run_with(&mut reactor, move || {
        let mut got = Vec::new();
        for piece in [65_536, 30_000, 65_536, 65_537, 65_536] {
            let client = TcpStream::connect(addr).unwrap();
            let (server, _) = server.accept().unwrap();
            let mut reader = client.try_clone().unwrap();
            let writer = thread::spawn(move || {
                let data = vec![1; piece];
                for _ in 0..LEN / piece {
                    (&client).write_all(&data).unwrap();
                }
                (&client).write_all(&data[..LEN % piece]).unwrap();
            });
            let reading = thread::spawn(move || {
                let mut rest = vec![0; LEN];
                reader.read_exact(&mut rest).unwrap();
            });
            // The upload fills every buffer first.
            thread::sleep(Duration::from_millis(100));
            got.push(duplex(server, LEN, piece));
            writer.join().unwrap();
            reading.join().unwrap();
        }
        got
    });
    assert_eq!(got, [LEN; 5]);
}

#[test]
fn stall_timeout_names_both_ends_if_this_one_was_paused() {
    for paused in [false, true] {
        let (ours, mut theirs) = local_pair().unwrap();
        theirs.write_all(b"x").unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let probe = Probe::new("a", &log, move |call, io| {
            if call == Call::Connect {
                io.send(&vec![0; MIB])?;
                if paused {
                    io.pause();
                }
            }
            Ok(())
        });
        let limits = Limits { stall_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
        reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
        run(&mut reactor);
        let expected =
            if paused { "stall timeout: neither end reads, " } else { "stall timeout, " };
        let last = log.lines().pop().unwrap();
        assert!(last.starts_with(&format!("a close: timed out: {expected}")), "{last}");
    }
}

/// What was pushed behind a producer and is lost counts as unsent.
#[test]
fn invariant_4_output_behind_producer_counts_as_unsent() {
    struct Waits(Log);
    impl ChatProtocol for Waits {
        fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            chat.push_with_producer(|_: &mut Vec<u8>| Ok(Produced::Later))?;
            chat.push(b"12345")?;
            chat.push(b"678")
        }
        fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
            Ok(())
        }
        fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
            self.0.note(reason.to_string());
        }
    }
    if !reports_resets() {
        return;
    }
    let (ours, mut theirs) = tcp_pair();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let chat = Chat::new("\n", Waits(log.clone()));
    let token = reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
    turn_all(&mut reactor);
    reactor.context().close(token);
    turn_all(&mut reactor);
    assert_eq!(log.lines(), ["closed, 8 bytes unsent"]);
    assert_eq!(theirs.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Output that waits behind a producer does not stop it either.
#[test]
fn invariant_5_chat_that_reads_while_congested_parses_all_messages() {
    struct Asks(Log);
    impl ChatProtocol for Asks {
        fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            chat.push_with_producer(|_: &mut Vec<u8>| Ok(Produced::Later))?;
            // Many, and more bytes than the mark.
            (0..100).try_for_each(|_| chat.push(&[0; 1000]))
        }
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            self.0.note(String::from_utf8(chat.take_collected()).unwrap());
            Ok(())
        }
    }
    for read_while_congested in [false, true] {
        let (ours, mut theirs) = local_pair().unwrap();
        let log = Log::default();
        let mut reactor = Reactor::new().unwrap();
        let limits = Limits { read_while_congested, ..Limits::default() };
        let chat = Stream::new(ours, Chat::new("\n", Asks(log.clone()))).unwrap();
        reactor.add(chat.with_limits(limits)).unwrap();
        turn_all(&mut reactor);
        theirs.write_all(b"a\nb\n").unwrap();
        turn_all(&mut reactor);
        theirs.write_all(b"c\n").unwrap();
        turn_all(&mut reactor);
        let expected: &[&str] = if read_while_congested { &["a", "b", "c"] } else { &[] };
        assert_eq!(log.lines(), expected);
    }
}
