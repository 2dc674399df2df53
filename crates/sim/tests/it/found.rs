//! Defects of the library that worlds have found, each as a conversation that showed it.

use sim::{Fault, Faults, Link, Sim, check};

use crate::common::{LATENCY, Log, MINUTE, On, add_client, add_server, echo, pattern};

/// The world of echo-server with seed 79: a peer had sent all, and ended its output just after
/// a reset had arrived. What had arrived before the reset was lost, because shutdown(2) fails
/// with another error than a write.
#[test]
fn input_before_a_reset_is_read_after_shutdown() {
    const LEN: usize = 100_000;
    check(0..100, |sim: &mut Sim| {
        sim.set_link(Link::default().with_latency(LATENCY, LATENCY).with_buffers(LEN, LEN));
        sim.set_faults(Faults::none().with(Fault::ShortRead, 1_000_000));
        let log = Log::new();
        add_server(sim, &log, |on, io| {
            if on == On::Connect {
                io.send(&pattern(LEN))?;
                assert_eq!(io.unsent(), 0, "the system has taken all");
                io.abort();
            }
            Ok(())
        });
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
