//! A timer that goes off N times, and does not drift.
//!
//! ```text
//! cargo run --package reactor --example periodic N [MILLISECONDS]
//! ```
//!
//! A timer goes off a little late, and its work takes a while. Were the next one
//! set for a period from then, all that would add up. So it is set for a period
//! from when this one was due; what is late is made up for.

use std::env;
use std::time::{Duration, Instant};

use anyhow::bail;
use reactor::{Context, Reactor};

struct Ticker {
    start: Instant,
    period: Duration,
    /// When the next one is due.
    due: Instant,
    done: u32,
    count: u32,
}

impl Ticker {
    /// The closure owns the ticker until then, so that it needs no `Rc`.
    fn set(mut self, cx: &mut Context) {
        self.due += self.period;
        cx.call_at(self.due, |cx| self.tick(cx));
    }

    fn tick(mut self, cx: &mut Context) {
        self.done += 1;
        println!("{} after {:.3} ms", self.done, self.start.elapsed().as_secs_f64() * 1e3);
        if self.done < self.count {
            // Without another the loop has nothing left to wait for, and ends.
            self.set(cx);
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1).map(|arg| arg.parse::<u32>());
    let (Some(Ok(count)), Some(Ok(millis)), None) =
        (args.next(), args.next().or(Some(Ok(1000))), args.next())
    else {
        bail!("usage: periodic N [MILLISECONDS]");
    };
    let mut reactor = Reactor::new()?;
    let start = Instant::now();
    let period = Duration::from_millis(millis.into());
    if count > 0 {
        Ticker { start, period, due: start, done: 0, count }.set(reactor.context());
    }
    Ok(reactor.run()?)
}
