//! Output of a [`Connection`] that passes a filter.

use std::io;

use crate::output_buffer::{OutputBuffer, SendMode};
use crate::stream::active::FilterPhase;
use crate::stream::closing::{CloseState, WriteHalf};
use crate::stream::connection::Connection;
use crate::stream::sending::{MAX_GATHERED, MAX_WRITE, MIN_DIRECT_WRITE, write_once};

/// The largest piece that [`Filter::send`](crate::Filter::send) is called with: one TLS
/// record.
const MAX_PIECE: usize = 16 * 1024;

impl Connection {
    /// Sends output that passes a filter. It is gathered until the callback returns, or the
    /// channel settles, or kept until the filter is ready.
    #[inline(never)]
    pub(super) fn send_filtered(&mut self, data: &[u8]) -> io::Result<()> {
        let max_gathered = MAX_GATHERED.min(self.limits().high_water);
        let gathered = self.unsent();
        if gathered > 0 && gathered + data.len() > max_gathered {
            self.pass_and_write(&[])?;
        }
        self.ensure_room(data.len())?;
        let (mode, can_pass) = (self.send_mode(), self.can_pass());
        let output = self.output.get_or_insert_default();
        output.set_mode(mode);
        output.set_blocked(true);
        if can_pass && data.len() >= MIN_DIRECT_WRITE {
            return self.pass_and_write(data);
        }
        output.push_plain(data);
        Ok(())
    }

    /// Passes what was gathered, then `data`, through the filter, and writes it.
    fn pass_and_write(&mut self, data: &[u8]) -> io::Result<()> {
        if !self.can_pass() {
            return Ok(());
        }
        if let Err(error) = self.pass_output(data) {
            return Err(self.fail_write(error));
        }
        if let Err(error) = self.write_filtered() {
            if let Some(output) = &mut self.output {
                output.reject(data.len());
            }
            return Err(self.fail_write(error));
        }
        Ok(())
    }

    /// Writes output that has passed a filter, unless the socket or the rate must allow it
    /// first.
    pub(super) fn write_filtered(&mut self) -> io::Result<()> {
        if self.is_connecting() || self.has_write_rate() || self.write_half == WriteHalf::Failed {
            return Ok(());
        }
        let is_blocked = self.filtering_mut().is_some_and(|filtering| filtering.wire.is_blocked);
        let Some(output) = self.output.as_mut().filter(|output| !is_blocked && !output.is_empty())
        else {
            return Ok(());
        };
        let written = write_once(&self.endpoint, output.front(MAX_WRITE))?;
        let low_water = self.config.limits.low_water();
        output.consume(written, || low_water);
        output.remove_pieces(written, low_water);
        output.set_blocked(true);
        let is_blocked = !output.is_empty();
        self.record_written(written);
        if let Some(filtering) = self.filtering_mut() {
            filtering.wire.is_blocked = is_blocked;
        }
        Ok(())
    }

    /// Like [`flush_gathered`](Self::flush_gathered), for output that is blocked, or
    /// passes a filter.
    #[cold]
    pub(super) fn flush_blocked(&mut self) -> io::Result<Option<Box<OutputBuffer>>> {
        if self.is_filtered() && !self.close_state.has_ended() {
            if self.can_pass() {
                self.pass_output(&[])?;
            }
            self.finish_filter()?;
            self.write_filtered()?;
            self.finish_shutdown()?;
            let spent = self.output.take_if(|out| out.is_empty() && out.user_len() == 0);
            if let Some(mut output) = spent {
                output.set_blocked(false);
                return Ok(Some(output));
            }
        }
        if let Some(output) = &mut self.output {
            output.set_mode(SendMode::Strict);
        }
        Ok(None)
    }

    /// Records that output which has passed a filter was written.
    #[cold]
    pub(super) fn record_filtered(&mut self, written: usize) {
        let (is_blocked, low_water) = (self.queued() > 0, self.limits().low_water());
        if let Some(output) = &mut self.output {
            output.remove_pieces(written, low_water);
            output.set_blocked(true);
        }
        if let Some(filtering) = self.filtering_mut() {
            filtering.wire.is_blocked = is_blocked;
        }
    }

    /// Output that passes a filter does not just join what was gathered.
    #[cold]
    pub(super) fn block_filtered_output(&mut self) {
        let is_filtered = self.is_filtered();
        self.set_output_blocked(is_filtered);
    }

    /// Queues what the filter itself sends.
    pub(super) fn push_wire(&mut self, wire: &[u8]) {
        if wire.is_empty() {
            return;
        }
        let (mode, high_water) = (self.send_mode(), self.limits().high_water);
        let output = self.output.get_or_insert_default();
        output.set_mode(mode);
        output.set_blocked(true);
        output.push_wire(wire, high_water);
    }

    /// Passes what was gathered, then `data`, through the filter.
    pub(super) fn pass_output(&mut self, data: &[u8]) -> io::Result<()> {
        let high_water = self.limits().high_water;
        let (Some(active), Some(output)) = (&mut self.active, &mut self.output) else {
            return Ok(());
        };
        let filter = active.filtering.as_mut().and_then(|filtering| filtering.current.as_mut());
        let Some(filter) = filter else { return Ok(()) };
        if output.plain_len() > 0 || !data.is_empty() {
            output.record_passed(!data.is_empty());
        }
        output.pass(data, MAX_PIECE, high_water, |plain, wire| filter.send(plain, wire))
    }

    /// Lets the filter end the output, if the stream is closing or shutting down.
    pub(super) fn finish_filter(&mut self) -> io::Result<()> {
        let is_due = self.write_half == WriteHalf::ShuttingDown
            || (self.write_half == WriteHalf::Open && self.close_state == CloseState::Flushing);
        if !is_due || !self.can_pass() || !self.is_filtered() {
            return Ok(());
        }
        self.pass_output(&[])?;
        let mut wire = Vec::new();
        if let Some(filtering) = self.filtering_mut() {
            filtering.phase = FilterPhase::Finished;
            if let Some(filter) = &mut filtering.current {
                filter.finish(&mut wire);
            }
        }
        self.push_wire(&wire);
        self.write_filtered()
    }

    /// Returns `true` if the filter has ended the output. What has not passed it is lost.
    pub(super) fn is_filter_finished(&self) -> bool {
        self.filter_phase() == Some(FilterPhase::Finished)
    }

    /// Returns `true` if the filter must still end the output before the socket's ends.
    pub(super) fn awaits_filter(&self) -> bool {
        self.is_filtered() && !self.is_filter_finished()
    }
}
