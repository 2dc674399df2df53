//! [`Progress`]: the live line on a terminal, and lines above it.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use cli::output::{self, STDOUT};
use indicatif::{ProgressBar, ProgressStyle};

use crate::options::Options;

/// Interval at which the line is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Time to remove the line. A stopped terminal (Ctrl-S) must not delay the end.
const CLEAR_TIMEOUT: Duration = Duration::from_millis(500);

/// What the line shows.
enum Update {
    /// A text beside the bar.
    Status(String),
    /// A line on standard output, above the bar.
    Line(String),
}

/// A live line on a separate thread, since a terminal may block. It is drawn
/// only if standard error is a terminal, and removed when dropped.
pub(crate) struct Progress {
    total: Option<Duration>,
    /// Dropped to end the thread. `None` without a thread.
    update_tx: Option<Sender<Update>>,
    cleared_rx: Option<Receiver<()>>,
}

impl Progress {
    /// Creates the line of a run. It is not yet drawn.
    pub(crate) fn new(options: &Options) -> Self {
        let total = options.duration().map(|time| time.saturating_add(options.warm_up()));
        Progress { total, update_tx: None, cleared_rx: None }
    }

    /// Draws the line from now on.
    pub(crate) fn start(&mut self) {
        let (update_tx, update_rx) = mpsc::channel();
        let (cleared_tx, cleared_rx) = mpsc::channel();
        let total = self.total;
        let draw = move || {
            draw_until_end(total, &update_rx);
            // The other end may have given up.
            let _ = cleared_tx.send(());
        };
        let thread = thread::Builder::new().name("progress".to_owned());
        if io::stderr().is_terminal() && thread.spawn(draw).is_ok() {
            self.update_tx = Some(update_tx);
            self.cleared_rx = Some(cleared_rx);
        }
    }

    /// Shows `text` beside the bar.
    pub(crate) fn set_status(&self, text: String) {
        if let Some(update_tx) = &self.update_tx {
            // Received until this is dropped.
            let _ = update_tx.send(Update::Status(text));
        }
    }

    /// Prints `text` on standard output, above the bar.
    pub(crate) fn print_line(&self, text: String) {
        match &self.update_tx {
            Some(update_tx) => drop(update_tx.send(Update::Line(text))),
            None => STDOUT.write_line(&text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.update_tx.take());
        if let Some(cleared_rx) = self.cleared_rx.take() {
            let _ = cleared_rx.recv_timeout(CLEAR_TIMEOUT);
        }
        output::flush();
    }
}

fn draw_until_end(total: Option<Duration>, update_rx: &Receiver<Update>) {
    let started_at = Instant::now();
    let bar = ProgressBar::new(total.map_or(1, as_millis));
    // `wide_msg` is cut at the edge of the terminal; a line that wraps is not removed whole.
    let template =
        if total.is_some() { "{bar:20} {prefix}{wide_msg}" } else { "{prefix}{wide_msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    loop {
        match update_rx.recv_timeout(DRAW_INTERVAL) {
            Ok(Update::Status(text)) => bar.set_message(text),
            Ok(Update::Line(text)) => bar.suspend(|| {
                STDOUT.write_line(&text);
                output::flush();
            }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let elapsed = started_at.elapsed();
        bar.set_position(as_millis(elapsed));
        let time = match total {
            Some(total) => format!("{:.0} s left  ", total.saturating_sub(elapsed).as_secs_f64()),
            None => format!("{:.0} s  ", elapsed.as_secs_f64()),
        };
        bar.set_prefix(time);
    }
    bar.finish_and_clear();
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
