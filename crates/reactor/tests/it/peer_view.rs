//! What the peer of a TCP connection sees at its end: the end of input after all
//! output, or a reset if something was cut short.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Chat, ChatIo, ChatProtocol, Context, Io, Limits, Reactor, Stream};

use socket2::SockRef;

use crate::common::{
    Call, Log, Probe, reports_resets, run, run_with, silence_panics, tcp_pair, turn_until,
};

const MS: Duration = Duration::from_millis(1);

/// How a stream ends after it has read a question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Close,
    CloseByToken,
    CloseByTokenWithUnreadInput,
    CloseByTokenWithUnsentOutput,
    Abort,
    AbortAfterEof,
    Error,
    DisconnectError,
    Panic,
    IdleTimeout,
    StallTimeout,
    MessageTimeout,
    DrainDeadline,
    CloseAll,
    DropReactor,
}

impl End {
    /// Returns `true` if the peer must not take the stream for a complete one.
    fn resets(self) -> bool {
        !matches!(self, End::Close | End::CloseByToken | End::CloseByTokenWithUnreadInput)
    }

    const ALL: [End; 15] = [
        End::Close,
        End::CloseByToken,
        End::CloseByTokenWithUnreadInput,
        End::CloseByTokenWithUnsentOutput,
        End::Abort,
        End::AbortAfterEof,
        End::Error,
        End::DisconnectError,
        End::Panic,
        End::IdleTimeout,
        End::StallTimeout,
        End::MessageTimeout,
        End::DrainDeadline,
        End::CloseAll,
        End::DropReactor,
    ];
}

/// Reads a line, and never completes the next one.
struct Line;

impl ChatProtocol for Line {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        chat.push(b"half an")
    }
}

fn react(end: End, call: Call<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match (call, end) {
        (Call::Read(_), End::StallTimeout | End::CloseByTokenWithUnsentOutput) => {
            io.send(&vec![0; 20_000_000])?;
            if end == End::CloseByTokenWithUnsentOutput {
                let token = io.token();
                io.context().call_later(50 * MS, move |cx| cx.close(token));
            }
            return Ok(());
        }
        (Call::Read(_), _) => io.send(b"half an")?,
        (Call::Eof, End::AbortAfterEof) => io.abort(),
        _ => {}
    }
    if !matches!(call, Call::Read(_)) {
        return Ok(());
    }
    match end {
        End::Close => io.close(),
        End::CloseByToken | End::CloseByTokenWithUnreadInput => {
            let token = io.token();
            if end == End::CloseByTokenWithUnreadInput {
                io.pause();
            }
            io.context().call_later(100 * MS, move |cx| cx.close(token));
        }
        End::Abort => {
            // The output of this callback is discarded too.
            let token = io.token();
            io.context().call_later(Duration::ZERO, move |cx| {
                if let Some(stream) = cx.get_mut::<Stream<Probe>>(token) {
                    stream.abort();
                }
            });
        }
        End::Error => return Err(io::Error::other("no")),
        End::DisconnectError => return Err(ErrorKind::ConnectionReset.into()),
        End::Panic => panic!("a panic in handle_read"),
        End::IdleTimeout => io.set_idle_timeout(Some(50 * MS)),
        End::DrainDeadline => io.context().drain(50 * MS),
        End::CloseAll | End::DropReactor => {
            io.context().call_later(20 * MS, Context::stop);
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn invariant_4_peer_can_tell_complete_stream_from_truncated_one() {
    if !reports_resets() {
        return;
    }
    silence_panics();
    for end in End::ALL {
        let (mut peer, ours) = tcp_pair();
        peer.set_read_timeout(Some(10_000 * MS)).unwrap();
        let log = Log::default();
        let mut reactor = Reactor::new().unwrap();
        if end == End::MessageTimeout {
            let chat = Chat::new("\n", Line).with_message_timeout(50 * MS);
            reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
            peer.write_all(b"a question\nand an in").unwrap();
        } else {
            let probe = Probe::new("a", &log, move |call, io| react(end, call, io));
            let limits = Limits { stall_timeout: Some(100 * MS), ..Limits::default() };
            reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
            peer.write_all(b"a question").unwrap();
        }
        if end == End::AbortAfterEof {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        if end == End::CloseByTokenWithUnreadInput {
            turn_until(&mut reactor, |_| log.has("read"));
            peer.write_all(b"another question").unwrap();
        }
        run(&mut reactor);
        if end == End::CloseAll {
            reactor.close_all();
        }
        drop(reactor);
        let outcome = loop {
            match peer.read(&mut [0; 4096]) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        let expected = if end.resets() { Err(ErrorKind::ConnectionReset) } else { Ok(()) };
        assert_eq!(outcome, expected, "{end:?}: {:?}", log.lines());
    }
}

/// Sends much when connected, and closes when the reactor drains.
fn sends_much(log: &Log) -> Probe {
    Probe::new("a", log, |call, io| {
        match call {
            Call::Connect => io.send(&vec![9; 3 << 20])?,
            Call::Drain => io.close(),
            _ => {}
        }
        Ok(())
    })
}

/// At the end of a server, a client reads what it was sent slowly and steadily; it may
/// send meanwhile.
fn check_slow_reader(sends: bool) {
    let (mut peer, ours) = tcp_pair();
    SockRef::from(&peer).set_recv_buffer_size(16 * 1024).unwrap();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Stream::new(ours, sends_much(&log)).unwrap()).unwrap();
    reactor.context().call_later(100 * MS, |cx| cx.drain(15_000 * MS));
    let client = thread::spawn(move || {
        thread::sleep(200 * MS);
        let (mut buffer, mut got) = (vec![0; 40_000], 0);
        loop {
            if sends {
                let _ = peer.write_all(b"and this");
            }
            match peer.read(&mut buffer) {
                Ok(0) => return Ok(got),
                Ok(read) => got += read,
                Err(error) => return Err(format!("{error} after {got} bytes")),
            }
            thread::sleep(50 * MS); // 3 MiB in 4 s or more
        }
    });
    run(&mut reactor);
    assert_eq!(client.join().unwrap(), Ok(3 << 20), "{:?}", log.lines());
    assert_eq!(log.lines().last().unwrap(), "a close: closed");
}

#[test]
fn invariant_4_close_waits_for_slow_reader() {
    check_slow_reader(false);
}

#[test]
fn invariant_4_close_waits_for_slow_reader_that_sends() {
    check_slow_reader(true);
}

/// A peer that neither reads nor ends, and one that sends forever, hold a closing stream
/// up for a limited time.
#[test]
fn invariant_4_close_timeout_limits_an_orderly_close() {
    for floods in [false, true] {
        let (peer, ours) = tcp_pair();
        let log = Log::default();
        let mut reactor = Reactor::new().unwrap();
        let limits =
            Limits { close_timeout: Some(300 * MS), stall_timeout: None, ..Limits::default() };
        let probe = Probe::new("a", &log, move |call, io| {
            if matches!(call, Call::Read(_)) {
                io.send(&vec![0; if floods { 10 } else { 100_000 }])?;
                io.close();
            }
            Ok(())
        });
        SockRef::from(&peer).set_recv_buffer_size(4096).unwrap();
        (&peer).write_all(&vec![0; 100_000]).unwrap();
        reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
        let begin = Instant::now();
        let writer = thread::spawn(move || {
            while floods && (&peer).write_all(&[0; 1000]).is_ok() {
                thread::sleep(MS);
            }
            peer
        });
        run(&mut reactor);
        let (lines, lasted) = (log.lines(), begin.elapsed());
        assert_eq!(lines.last().unwrap(), "a close: timed out: close timeout", "{lines:?}");
        assert!(lasted >= 300 * MS && lasted < 2_000 * MS, "{lasted:?}");
        drop(writer.join().unwrap());
    }
}

/// A peer that does not read is given up after the linger timeout; the kernel keeps what
/// it has.
#[test]
fn invariant_4_close_gives_up_on_peer_that_does_not_read() {
    let (mut peer, ours) = tcp_pair();
    SockRef::from(&peer).set_recv_buffer_size(4096).unwrap();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.send(&vec![0; 200_000])?;
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    let begin = Instant::now();
    run(&mut reactor);
    let lasted = begin.elapsed();
    assert!(lasted > 1_500 * MS && lasted < 6_000 * MS, "{lasted:?}");
    assert_eq!(log.lines().last().unwrap(), "a close: closed");
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 200_000);
}

/// An idle timeout that expires during an orderly close does not change its reason.
#[test]
fn invariant_2_idle_timeout_does_not_interrupt_a_close() {
    let (mut peer, ours) = tcp_pair();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { idle_timeout: Some(200 * MS), ..Limits::default() };
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.send(&vec![0; 20_000_000])?;
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
    let got = run_with(&mut reactor, move || {
        thread::sleep(600 * MS);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).map(|_| rest.len()).map_err(|error| error.kind())
    });
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
    assert_eq!(got, Ok(20_000_000));
}
