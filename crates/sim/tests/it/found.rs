//! Defects of the library that worlds have found, each as a conversation that showed it.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::rc::Rc;

use reactor::{
    Chat, ChatIo, ChatProtocol, Filter, Flow, Limits, Listener, Reactor, Stream, producer_from_iter,
};
use sim::{Fault, Faults, Link, Sim, check};

use crate::common::{
    LATENCY, Log, MINUTE, On, Probe, add_client, add_server, echo, passive, pattern, server_addr,
};

/// What the servers below send.
const LEN: usize = 100_000;

/// Adds a server that sends [`LEN`] bytes and resets the connection, to a client that reads
/// some of them at a time.
fn add_aborting_server(sim: &mut Sim, log: &Log) {
    sim.set_link(Link::default().with_latency(LATENCY, LATENCY).with_buffers(LEN, LEN));
    sim.set_faults(Faults::none().with(Fault::ShortRead, 1_000_000));
    add_server(sim, log, |on, io| {
        if on == On::Connect {
            io.send(&pattern(LEN))?;
            assert_eq!(io.unsent(), 0, "the system has taken all");
            io.abort();
        }
        Ok(())
    });
}

/// The world of echo-server with seed 79: a peer had sent all, and ended its output just after
/// a reset had arrived. What had arrived before the reset was lost, because shutdown(2) fails
/// with another error than a write.
#[test]
fn input_before_a_reset_is_read_after_shutdown() {
    check(0..100, |sim: &mut Sim| {
        let log = Log::new();
        add_aborting_server(sim, &log);
        let shuts_down_after = 1 + sim.choose(10);
        let mut reads = 0;
        add_client(sim, &log, move |on, io| match on {
            On::Read(_) => {
                reads += 1;
                if reads == shuts_down_after { io.shutdown() } else { Ok(()) }
            }
            on => echo(on, io),
        });
        sim.rest(MINUTE)?;
        if log.received("client") != pattern(LEN) {
            return Err(format!("{:?}", log.lines()).into());
        }
        let is_reset = log.has("client closed: Connection reset by peer");
        if is_reset { Ok(()) } else { Err(format!("{:?}", log.lines()).into()) }
    });
}

/// Passes bytes on as they are.
struct Transparent;

impl Filter for Transparent {
    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        flow.plain.extend_from_slice(raw);
        Ok(())
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend_from_slice(plain);
        Ok(())
    }
}

/// The swarm with seed 520: with a filter, output that `send` had rejected, because the
/// connection was lost, was counted as unsent.
#[test]
fn rejected_output_of_a_filtered_stream_is_not_unsent() {
    check(0..100, |sim: &mut Sim| {
        let log = Log::new();
        add_aborting_server(sim, &log);
        let sends_after = 1 + sim.choose(10);
        let (noted, has_failed) = (log.clone(), Rc::new(Cell::new(false)));
        let failed = Rc::clone(&has_failed);
        sim.machine("client", [10, 0, 0, 2], move |reactor: &mut Reactor| {
            let (failed, mut reads) = (Rc::clone(&failed), 0);
            let probe = Probe::new("client", &noted, move |on, io| match on {
                On::Read(_) => {
                    reads += 1;
                    if reads == sends_after {
                        failed.set(io.send(&pattern(20_000)).is_err());
                    }
                    Ok(())
                }
                on => passive(on, io),
            });
            let stream = Stream::connect([server_addr()], probe).with_filter(Transparent);
            reactor.add(stream).map(drop)
        })?;
        sim.rest(MINUTE)?;
        if has_failed.get() && log.lines().iter().any(|line| line.contains("unsent")) {
            return Err(format!("{:?}", log.lines()).into());
        }
        sim.note(if has_failed.get() { "rejected" } else { "accepted" });
        Ok(())
    });
}

/// The swarm with seeds 1264, 1559 and 2011: with a filter, replies that waited did not stop
/// the input, or not for long enough, and the next reply was rejected.
#[test]
fn replies_of_a_filtered_stream_stop_the_input() {
    check(0..25, |sim: &mut Sim| {
        sim.set_link(Link::default().with_latency(LATENCY, LATENCY).with_buffers(4096, 4096));
        let high_water = 1 + usize::try_from(sim.choose(70_000))?;
        let low_water = usize::try_from(sim.choose(high_water as u64))?;
        let write_rate = NonZeroU64::new(sim.choose(3) * 20_000);
        // One reply above the mark is accepted, and no more.
        let limits =
            Limits { high_water, low_water, max_excess: 0, write_rate, ..Limits::default() };
        let log = Log::new();
        let noted = log.clone();
        sim.machine("server", [10, 0, 0, 1], move |reactor: &mut Reactor| {
            let log = noted.clone();
            let accept = move |_: &_| Ok(Probe::new("server", &log, echo));
            let listener = Listener::bind(server_addr(), accept)?.with_limits(limits);
            reactor.add(listener.with_filter(|_| Ok(Transparent))).map(drop)
        })?;
        add_client(sim, &log, |on, io| {
            if on == On::Connect {
                io.send(&pattern(LEN))?;
                io.shutdown()?;
            }
            passive(on, io)
        });
        sim.rest(60 * MINUTE)?;
        if log.received("client") == pattern(LEN) && log.has("client closed: closed by the peer") {
            return Ok(());
        }
        Err(format!("{:?}", log.lines()).into())
    });
}

/// The swarm's chats with seed 41: a client that was to read in any case did not, while much
/// was queued behind a producer, and the server waited for it to read.
#[test]
fn chat_that_reads_while_congested_does_not_wait_for_its_output() {
    /// Replies to each line.
    struct Replies;
    impl ChatProtocol for Replies {
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            chat.push(&[b'x'; 2000])?;
            chat.push(b"\n")
        }
    }
    /// Sends all requests at once, behind a producer.
    struct Asks(usize);
    impl ChatProtocol for Asks {
        fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            chat.push_with_producer(producer_from_iter(["first\n"]))?;
            (1..self.0).try_for_each(|_| chat.push(&[&[b'y'; 500][..], b"\n"].concat()))
        }
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            chat.take_collected();
            self.0 -= 1;
            if self.0 == 0 {
                chat.close_when_done();
            }
            Ok(())
        }
    }
    check(0..50, |sim: &mut Sim| {
        sim.set_link(Link::default().with_latency(LATENCY, LATENCY).with_buffers(1000, 1000));
        let limits = Limits { high_water: 1000, stall_timeout: None, ..Limits::default() };
        sim.machine("server", [10, 0, 0, 1], move |reactor: &mut Reactor| {
            let listener = Listener::bind(server_addr(), |_| Ok(Chat::new("\n", Replies)))?;
            reactor.add(listener.with_limits(limits)).map(drop)
        })?;
        let count = 70 + usize::try_from(sim.choose(100))?;
        let client = sim.machine("client", [10, 0, 0, 2], move |reactor: &mut Reactor| {
            let stream = Stream::connect([server_addr()], Chat::new("\n", Asks(count)));
            let limits = Limits { read_while_congested: true, ..limits };
            let token = reactor.add(stream.with_limits(limits))?;
            // Otherwise each end waits for the other, forever.
            reactor.context().call_later(30 * MINUTE, move |cx| {
                assert!(!cx.channels().iter().any(|channel| channel.token == token));
            });
            Ok(())
        })?;
        sim.rest(60 * MINUTE)?;
        if sim.has_ended(client) { Ok(()) } else { Err("the client has not ended".into()) }
    });
}
