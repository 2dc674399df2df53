//! Invariant 4: input that arrived before a write failed is delivered, then the stream
//! closes with the error of the write.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use reactor::{Chat, ChatIo, ChatProtocol, CloseReason, OwnedDescriptor, Reactor, Stream};

use crate::common::{
    Call, Log, Probe, local_pair, reports_resets, reset, run, run_with, tcp_pair, turn_until,
};

/// How the failing output is sent.
#[derive(Clone, Copy, Debug)]
enum Output {
    /// In a timer's callback, which ignores or returns the error.
    Gathered,
    Large,
    LargeAndReturned,
    /// By another channel, without a callback of its own.
    ByToken,
    /// By each callback that reads, which returns the error.
    Reply,
    /// Only its end: shutdown(2) fails too.
    Nothing,
}

const ALL: [Output; 5] =
    [Output::Gathered, Output::Large, Output::LargeAndReturned, Output::ByToken, Output::Reply];

fn check(output: Output, ours: OwnedDescriptor, lose_peer: impl FnOnce()) {
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let probe = Probe::new("a", &log, move |call, io| {
        let large = vec![1; 100_000];
        match (call, output) {
            (Call::Connect, _) => {
                io.set_timer(Duration::from_millis(200));
                Ok(())
            }
            (Call::Timer, Output::Gathered) => io.send(b"more"),
            (Call::Timer, Output::Large) => {
                let failed = io.send(&large).and_then(|()| io.send(&large));
                failed.unwrap_err();
                assert_eq!(io.send(b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
                Ok(())
            }
            (Call::Timer, Output::LargeAndReturned) => {
                io.send(&large)?;
                io.send(&large)
            }
            (Call::Read(_), Output::Reply) => io.send(&large),
            (Call::Timer, Output::Nothing) => io.shutdown(),
            _ => Ok(()),
        }
    });
    let token = reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    lose_peer();
    // Both the input and the loss have arrived when the timer expires.
    thread::sleep(Duration::from_millis(250));
    if let Output::ByToken = output {
        let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
        let _ = stream.send(b"more");
        let _ = stream.send(b"more");
    }
    run(&mut reactor);
    let lines = log.lines();
    let read: usize =
        lines.iter().filter_map(|line| line.strip_prefix("a read ")?.parse::<usize>().ok()).sum();
    assert_eq!(read, 150_000, "{output:?}: {lines:?}");
    assert!(!log.has("eof"), "{output:?}: {lines:?}");
    let last = lines.last().unwrap();
    let is_lost = last.contains("Broken pipe") || last.contains("Connection reset");
    assert!(is_lost, "{output:?}: {lines:?}");
}

#[test]
fn invariant_4_input_before_reset_is_delivered_after_failed_write() {
    for output in ALL {
        check_reset(output);
    }
}

#[test]
fn invariant_4_input_before_reset_is_delivered_after_failed_shutdown() {
    if reports_resets() {
        check_reset(Output::Nothing);
    }
}

fn check_reset(output: Output) {
    let (mut peer, ours) = tcp_pair();
    socket2::SockRef::from(&ours).set_recv_buffer_size(1 << 20).unwrap();
    check(output, ours.into(), move || {
        peer.write_all(&vec![0; 150_000]).unwrap();
        reset(peer);
    });
}

#[cfg(unix)] // Unix sockets: TCP would lose input to the reset
#[test]
fn invariant_4_input_before_close_is_delivered_after_failed_write() {
    for output in ALL {
        let (mut peer, ours) = local_pair().unwrap();
        check(output, ours.into(), move || peer.write_all(&vec![0; 150_000]).unwrap());
    }
}

/// A server answers an upload and closes without reading it.
#[test]
fn invariant_4_answer_during_upload_is_received() {
    struct Upload(Log);
    impl ChatProtocol for Upload {
        fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            let mut remaining = 100;
            chat.push_with_producer(move |buffer: &mut Vec<u8>| {
                buffer.resize(64 * 1024, 0);
                remaining -= 1;
                let done = remaining == 0;
                Ok(if done { reactor::Produced::End } else { reactor::Produced::Data })
            })
        }
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            let line = chat.take_collected();
            self.0.note(String::from_utf8(line).unwrap());
            Ok(())
        }
        fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
            self.0.note(format!("close: {reason}"));
        }
    }
    let (ours, mut peer) = tcp_pair();
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let chat = Chat::new("\n", Upload(log.clone()));
    reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
    run_with(&mut reactor, move || {
        thread::sleep(Duration::from_millis(100));
        peer.write_all(b"413 too large\nbye\n").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        peer.read_exact(&mut [0; 1000]).unwrap();
        reset(peer);
        thread::sleep(Duration::from_millis(200));
    });
    let lines = log.lines();
    assert_eq!(lines[..2], ["413 too large", "bye"], "{lines:?}");
}
