//! What the peer of a TCP connection sees at its end: the end of input after all
//! output, or a reset if something was cut short.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use reactor::{Chat, ChatIo, ChatProtocol, Context, Io, Limits, Reactor, Stream};

use crate::common::{Call, Log, Probe, run, silence_panics, tcp_pair, turn_until};

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
