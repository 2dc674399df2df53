//! The bytes of a connection: reading, writing, segments, resets, and its end.

use std::collections::BTreeSet;
use std::io;

use reactor::kernel::Fd;
use rustix::io::Errno;

use crate::connect::latency;
use crate::fault::Fault;
use crate::socket::{End, EndId, EndState, FinState, Segment};
use crate::trace::EventKind;
use crate::world::{Event, World};

/// How long a segment waits for an acknowledgement before it is sent again (Linux:
/// `TCP_RTO_MIN`), doubled each time up to two minutes, and how often
/// (`net.ipv4.tcp_retries2`).
const RETRANSMIT_TIMEOUT: u64 = 200_000_000;
const MAX_RETRANSMIT_TIMEOUT: u64 = 120_000_000_000;
const MAX_RETRIES: u32 = 15;

/// The longest that [`Fault::Delay`] holds a segment back.
const MAX_DELAY: u64 = 1_000_000_000;

impl World {
    // --- system calls -------------------------------------------------------

    pub(crate) fn read(&mut self, fd: Fd, buffer: &mut [u8]) -> io::Result<usize> {
        let (id, _) = self.end_of(fd)?;
        self.interrupt(id)?;
        let short = self.draw(id, Fault::ShortRead);
        let (_, end) = self.end_of(fd)?;
        if end.received.is_empty() {
            let result = match (end.error.take(), end.eof, end.state) {
                (Some(error), ..) => Err(error.into()),
                (None, true, _) | (None, _, EndState::Dead) => Ok(0),
                (None, false, EndState::Open) => Err(Errno::AGAIN.into()),
                (None, false, EndState::Connecting | EndState::Embryo) => {
                    Err(Errno::NOTCONN.into())
                }
            };
            let machine = end.machine;
            self.update_end_ready(id);
            self.record_read(machine, id, &result);
            return result;
        }
        let mut len = end.received.len().min(buffer.len());
        if let Some(mut rng) = short {
            len = rng.up_to(len);
        }
        for (to, from) in buffer.iter_mut().zip(end.received.drain(..len)) {
            *to = from;
        }
        let delay = latency(&end.link.clone(), &mut end.dice.rng);
        let (machine, other) = (end.machine, end.other);
        if let Some(other) = other {
            self.schedule(self.now + delay, Event::Ack { end: other, acked: 0 });
        }
        self.trace.mix(&buffer[..len]);
        self.update_end_ready(id);
        self.record_read(machine, id, &Ok(len));
        Ok(len)
    }

    fn record_read(&mut self, machine: usize, id: EndId, result: &io::Result<usize>) {
        let number = match result {
            Ok(len) => *len as u64,
            Err(error) => u64::MAX - u64::from(error.raw_os_error().map_or(0, i32::unsigned_abs)),
        };
        self.record_call(machine, &[id, number], || match result {
            Ok(0) => "read: end".to_owned(),
            Ok(len) => format!("read {}", count_bytes(*len)),
            Err(error) => format!("read: {error}"),
        });
    }

    pub(crate) fn write(&mut self, fd: Fd, data: &[u8]) -> io::Result<usize> {
        let (id, _) = self.end_of(fd)?;
        self.interrupt(id)?;
        let short = self.draw(id, Fault::ShortWrite);
        let is_orphan = {
            let (_, end) = self.end_of(fd)?;
            let other = end.other;
            end.is_unix() && other.is_none_or(|other| !self.ends.contains_key(&other))
        };
        let (_, end) = self.end_of(fd)?;
        let machine = end.machine;
        let result = match (end.error.take(), end.state) {
            (Some(error), _) => Err(error),
            (None, EndState::Dead) => Err(Errno::PIPE),
            (None, EndState::Connecting | EndState::Embryo) => Err(Errno::AGAIN),
            (None, EndState::Open) if end.fin != FinState::Open || is_orphan => Err(Errno::PIPE),
            (None, EndState::Open) if end.room() == 0 => Err(Errno::AGAIN),
            (None, EndState::Open) => {
                let len = end.room().min(data.len());
                Ok(short.map_or(len, |mut rng| rng.up_to(len)))
            }
        };
        if let Ok(len) = result {
            end.unsent.extend(&data[..len]);
            self.trace.mix(&data[..len]);
            self.pump(id);
        }
        self.update_end_ready(id);
        let number = match result {
            Ok(len) => len as u64,
            Err(error) => u64::MAX - u64::from(error.raw_os_error().unsigned_abs()),
        };
        self.record_call(machine, &[id, number], || match result {
            Ok(len) if len < data.len() => format!("write {len} of {}", count_bytes(data.len())),
            Ok(len) => format!("write {}", count_bytes(len)),
            Err(error) => format!("write: {error}"),
        });
        Ok(result?)
    }

    /// close(2): what was written is sent still, unless input is unread.
    pub(crate) fn close_end(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.fd = None;
        let (machine, state) = (end.machine, end.state);
        let resets = end.reset_on_close || !end.received.is_empty();
        self.record_call(machine, &[id, u64::from(resets)], || {
            if resets { "close, with a reset".to_owned() } else { "close".to_owned() }
        });
        match state {
            EndState::Connecting => drop(self.ends.remove(&id)),
            EndState::Open if resets => self.reset_end(id),
            EndState::Open => {
                if let Some(end) = self.ends.get_mut(&id)
                    && end.fin == FinState::Open
                {
                    end.fin = FinState::Wanted;
                }
                self.pump(id);
                self.drop_if_finished(id);
            }
            EndState::Embryo | EndState::Dead => self.drop_if_finished(id),
        }
    }

    // --- sending ------------------------------------------------------------

    /// Sends as much output as the peer has room for, and the end after all of it.
    pub(crate) fn pump(&mut self, id: EndId) {
        loop {
            let Some(end) = self.ends.get(&id) else { return };
            if end.state != EndState::Open {
                return;
            }
            let window = end.other.and_then(|other| self.ends.get(&other)).map_or(
                // The peer is gone: a reset will come back.
                end.link.receive_buffer,
                |other| {
                    let held = other.received.len() + end.flying_bytes;
                    other.link.receive_buffer.saturating_sub(held)
                },
            );
            let Some(end) = self.ends.get_mut(&id) else { return };
            let len = end.unsent.len().min(window).min(end.link.max_segment);
            if len > 0 {
                let rng = &mut end.dice.rng;
                let len = if rng.chance(500_000) { len } else { rng.up_to(len) };
                let data: Vec<_> = end.unsent.drain(..len).collect();
                end.unacked += len;
                self.transmit(id, Segment::Data(data));
            } else if end.unsent.is_empty() && end.fin == FinState::Wanted {
                end.fin = FinState::Sent;
                self.transmit(id, Segment::Fin);
            } else {
                return;
            }
        }
    }

    /// Puts a segment on its way. Segments of one connection arrive in their order.
    pub(crate) fn transmit(&mut self, id: EndId, segment: Segment) {
        let mut late = 0;
        if matches!(segment, Segment::Data(_)) {
            if self.draw(id, Fault::Loss).is_some() {
                late += RETRANSMIT_TIMEOUT;
            }
            if let Some(mut rng) = self.draw(id, Fault::Delay) {
                late += rng.below(MAX_DELAY);
            }
            if self.draw(id, Fault::Reset).is_some() {
                return self.cut(id);
            }
        }
        let now = self.now;
        let Some(end) = self.ends.get_mut(&id) else { return };
        let len = if let Segment::Data(data) = &segment { data.len() } else { 0 };
        let departs = end.busy_until.max(now);
        if let Some(bandwidth) = end.link.bandwidth {
            let takes = (len as u64).saturating_mul(1_000_000_000) / bandwidth.max(1);
            end.busy_until = departs + takes;
        }
        let takes = late + latency(&end.link.clone(), &mut end.dice.rng);
        let last = end.flying.back().map_or(0, |&(at, _)| at);
        let at = (end.busy_until.max(departs) + takes).max(last);
        end.flying_bytes += len;
        end.flying.push_back((at, segment));
        self.schedule(at, Event::Arrive { end: id });
    }

    /// Something in the network resets the connection: both ends see it.
    fn cut(&mut self, id: EndId) {
        let other = self.ends.get(&id).and_then(|end| end.other);
        for end in [Some(id), other].into_iter().flatten() {
            self.on_reset(end);
        }
    }

    /// Ends a connection with a reset, which arrives after what is on its way.
    pub(crate) fn reset_end(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.unsent.clear();
        end.received.clear();
        let was_open = matches!(end.state, EndState::Open | EndState::Embryo);
        end.state = EndState::Dead;
        end.listener = None;
        if was_open {
            self.transmit(id, Segment::Reset);
        }
        self.update_end_ready(id);
    }

    // --- arriving -----------------------------------------------------------

    /// The first segment that `id` has sent arrives, if there is a way.
    pub(crate) fn on_arrive(&mut self, id: EndId) {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Some(&(at, _)) = end.flying.front() else { return };
        if at > now {
            return;
        }
        let (machine, peer) = (end.machine, end.peer_machine);
        if !self.is_reachable(machine, peer) {
            return self.retransmit(id);
        }
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.retries = 0;
        let Some((_, segment)) = end.flying.pop_front() else { return };
        if let Segment::Data(data) = &segment {
            end.flying_bytes -= data.len();
        }
        // Those that waited behind it.
        if let Some(&(next, _)) = end.flying.front()
            && next <= now
        {
            self.schedule(now, Event::Arrive { end: id });
        }
        self.deliver(id, segment);
        self.drop_if_finished(id);
    }

    fn retransmit(&mut self, id: EndId) {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.retries += 1;
        if end.retries > MAX_RETRIES {
            end.state = EndState::Dead;
            end.error = Some(Errno::TIMEDOUT);
            end.flying.clear();
            end.flying_bytes = 0;
            end.unsent.clear();
            self.update_end_ready(id);
            return self.drop_if_finished(id);
        }
        let timeout = RETRANSMIT_TIMEOUT << end.retries.min(20);
        let at = now + timeout.min(MAX_RETRANSMIT_TIMEOUT);
        for (arrival, _) in &mut end.flying {
            *arrival = at.max(*arrival);
        }
        self.schedule(at, Event::Arrive { end: id });
    }

    fn deliver(&mut self, id: EndId, segment: Segment) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let (machine, peer, other) = (end.machine, end.peer_machine, end.other);
        let delay = latency(&end.link.clone(), &mut end.dice.rng);
        let (number, bytes) = match &segment {
            Segment::Handshake => (1, 0),
            Segment::Data(data) => (2, data.len()),
            Segment::Fin => (3, 0),
            Segment::Reset => (4, 0),
        };
        let numbers = [id, number, bytes as u64];
        self.trace.record(self.now, EventKind::Message, (machine, Some(peer)), &numbers, || {
            match &segment {
                Segment::Handshake => "handshake".to_owned(),
                Segment::Data(data) => format!("{}{}", count_bytes(data.len()), preview(data)),
                Segment::Fin => "end".to_owned(),
                Segment::Reset => "reset".to_owned(),
            }
        });
        let now = self.now;
        let Some((to, other)) = other.and_then(|to| Some((to, self.ends.get_mut(&to)?))) else {
            // There is no such connection any more: the peer answers with a reset.
            if !matches!(segment, Segment::Reset) {
                self.schedule(now + delay, Event::Reset { end: id });
            }
            return;
        };
        match segment {
            Segment::Handshake => {
                let listener = other.listener;
                if other.state == EndState::Embryo {
                    other.state = EndState::Open;
                }
                if let Some(listener) = listener {
                    self.queue_connection(to, listener);
                }
            }
            Segment::Data(data) => {
                if other.fd.is_none() && other.listener.is_none() {
                    // Nobody will read it: RFC 9293, 3.5.2; what it has not sent is lost.
                    return self.reset_end(to);
                }
                if other.state == EndState::Open {
                    other.received.extend(data);
                }
                self.schedule(now + delay, Event::Ack { end: id, acked: bytes });
                self.update_end_ready(to);
            }
            Segment::Fin => {
                other.eof = true;
                self.update_end_ready(to);
                self.drop_if_finished(to);
            }
            Segment::Reset => self.on_reset(to),
        }
    }

    /// The peer has taken bytes, or has room again.
    pub(crate) fn on_ack(&mut self, id: EndId, acked: usize) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.unacked = end.unacked.saturating_sub(acked);
        self.pump(id);
        self.update_end_ready(id);
        self.drop_if_finished(id);
    }

    /// A reset arrives. What has arrived before it can still be read (Linux).
    pub(crate) fn on_reset(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.state == EndState::Dead {
            return;
        }
        end.error = Some(match end.state {
            EndState::Connecting => Errno::CONNREFUSED,
            // Linux, tcp_reset(): the peer had ended its output before.
            _ if end.eof => Errno::PIPE,
            _ => Errno::CONNRESET,
        });
        end.state = EndState::Dead;
        end.unsent.clear();
        end.flying.clear();
        end.flying_bytes = 0;
        end.unacked = 0;
        self.update_end_ready(id);
        self.drop_if_finished(id);
    }

    fn drop_if_finished(&mut self, id: EndId) {
        if self.ends.get(&id).is_some_and(End::is_finished) {
            self.ends.remove(&id);
        }
    }

    // --- power --------------------------------------------------------------

    /// A machine loses power: its connections vanish, and their peers receive nothing.
    pub(crate) fn lose_connections(&mut self, machine: usize) {
        let lost = |end: &End| end.machine == machine;
        let lost_clients: BTreeSet<_> =
            self.ends.iter().filter(|(_, end)| lost(end)).map(|(&id, _)| id).collect();
        self.ends.retain(|_, end| {
            // What is not established yet never will be.
            let is_abandoned = end.state == EndState::Embryo
                && end.other.is_some_and(|client| lost_clients.contains(&client));
            !lost(end) && !is_abandoned
        });
    }
}

fn count_bytes(count: usize) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// Returns the beginning of what is sent, for a trace.
fn preview(data: &[u8]) -> String {
    let shown = &data[..data.len().min(16)];
    let text = String::from_utf8_lossy(shown);
    let more = if shown.len() < data.len() { "…" } else { "" };
    format!(" \"{}{more}\"", text.escape_debug())
}
