//! A timer that fires N times, without drift.
//!
//! ```text
//! cargo run --package reactor --example periodic N [MILLISECONDS]
//! ```
//!
//! A timer fires slightly late, and its work takes time. If each one were set
//! relative to the current time, the delays would add up. So it is set relative
//! to the time at which the previous one was due.

use std::env;
use std::time::{Duration, Instant};

use anyhow::bail;
use reactor::{Context, Reactor};

struct Ticker {
    start: Instant,
    period: Duration,
    /// The time at which the next timer is due.
    due: Instant,
    done: u32,
    count: u32,
}

impl Ticker {
    /// The closure owns the ticker, so no `Rc` is needed.
    fn set(mut self, cx: &mut Context) {
        self.due += self.period;
        cx.call_at(self.due, |cx| self.tick(cx));
    }

    fn tick(mut self, cx: &mut Context) {
        self.done += 1;
        println!("{} after {:.3} ms", self.done, self.start.elapsed().as_secs_f64() * 1e3);
        if self.done < self.count {
            // Without another timer the loop has no work, and ends.
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
