//! The model: the expected state of the reactor.
//!
//! Callbacks run within `catch_unwind`, so nothing here panics: a violation is
//! recorded as a fault, and reported after the step.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use reactor::{Cause, CloseReason, TimeoutKind, TimerId, Token};

use crate::case::Peer;
use crate::schedule::{Action, PLACES, Spec, Transport, Trigger};

/// The message of an intended panic or error.
pub(crate) const INTENDED: &str = "intended";

/// A closing stream lingers for up to two seconds. After this time the model
/// allows both results.
const MIN_LINGER: Duration = Duration::from_millis(1_500);

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
    static TALLY: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Accesses the model of this thread's schedule. Posts must be `Send`, so they
/// cannot contain it.
pub(crate) fn world<R>(with: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(with)
}

/// Counts events, to verify that the schedules cover all of them.
pub(crate) fn count(what: impl Into<String>) {
    TALLY.with_borrow_mut(|tally| *tally.entry(what.into()).or_default() += 1);
}

pub(crate) fn tally() -> String {
    TALLY.with_borrow(|tally| {
        let lines: Vec<_> = tally.iter().map(|(what, times)| format!("{what}: {times}")).collect();
        lines.join("\n")
    })
}

/// Returns bytes of a pseudo-random stream, starting at `from`. Positions and
/// streams can be distinguished by their contents.
pub(crate) fn bytes(stream: usize, from: usize, len: usize) -> &'static [u8] {
    const PERIOD: usize = 65_521;
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let period: Vec<u8> = std::iter::repeat_with(&mut next).take(PERIOD).collect();
        period.repeat(5)
    });
    let start = (stream * 7_919 + from) % PERIOD;
    &BYTES[start..start + len]
}

#[derive(Default)]
pub(crate) struct World {
    /// All channels ever added, by number.
    pub(crate) channels: Vec<Channel>,
    /// The last channel at each place, and the one before.
    pub(crate) places: [Option<usize>; PLACES],
    pub(crate) former: [Option<usize>; PLACES],
    pub(crate) timers: Vec<Timer>,
    posted: usize,
    ran: usize,
    stop: bool,
    drain: Option<Drain>,
    drains: usize,
    /// The reactor is being dropped.
    pub(crate) ended: bool,
    pub(crate) faults: Vec<String>,
}

pub(crate) struct Drain {
    /// The number of this drain.
    number: usize,
    /// Channels are not closed before this instant.
    cut: Option<Instant>,
    /// Channels were closed at the deadline.
    over: bool,
}

/// The reason why a channel must close, other than a network error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequiredClose {
    Local,
    Shutdown,
    Failed { disconnect: bool },
    Panicked,
}

/// The expected state of one channel.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, in any combination")]
pub(crate) struct Channel {
    pub(crate) token: Token,
    pub(crate) spec: Spec,
    pub(crate) peer: Option<Peer>,
    pub(crate) plans: VecDeque<(Trigger, Action)>,
    pub(crate) wants_write: Rc<Cell<bool>>,
    /// `handle_connect` ran.
    pub(crate) connected: bool,
    /// Bytes that `send` accepted.
    pub(crate) accepted: usize,
    /// Bytes that the peer read.
    pub(crate) delivered: usize,
    /// Bytes that the peer wrote.
    pub(crate) written: usize,
    /// Bytes passed to the protocol.
    pub(crate) received: usize,
    /// The longest message that `send` accepted.
    longest: usize,
    /// Output reached the high-water mark, and not the low-water mark since.
    full: bool,
    /// Some of the output was sent in reply to input.
    has_replies: bool,
    /// How much was accepted above the high-water mark, beyond one message.
    excess: usize,
    paused: bool,
    /// `handle_eof` ran.
    pub(crate) eof: bool,
    pub(crate) shut: bool,
    /// The instant of the first `close`.
    closing: Option<Instant>,
    aborted: bool,
    /// `send` returned an error of the socket.
    failed: bool,
    required_close: Option<RequiredClose>,
    /// A call of `handle_error` is pending.
    error_pending: bool,
    /// The last drain it was notified of.
    drain_seen: usize,
    /// The earliest start of the idle timeout.
    idle_since: Instant,
    idle: Option<Duration>,
    pub(crate) closed: Option<Closed>,
    /// The peer has shut down its output.
    pub(crate) peer_ended: bool,
    /// The peer closed its socket.
    pub(crate) peer_closed: bool,
    peer_reset: bool,
    /// The peer has read to the end of input.
    pub(crate) peer_saw_end: bool,
}

pub(crate) struct Closed {
    unsent: usize,
    /// The kernel delivers all accepted output in any case.
    sure: bool,
    /// The kernel delivers all accepted output if the peer wrote at most this;
    /// `None` after a reset, which may discard what was not read.
    unless_beyond: Option<usize>,
}

impl Channel {
    pub(crate) fn new(
        spec: Spec,
        token: Token,
        peer: Option<Peer>,
        wants_write: Rc<Cell<bool>>,
    ) -> Self {
        let now = Instant::now();
        Channel {
            token,
            plans: spec.plan.iter().map(|(on, what)| (*on, (**what).clone())).collect(),
            idle: spec.idle,
            spec,
            peer,
            wants_write,
            connected: false,
            accepted: 0,
            delivered: 0,
            written: 0,
            received: 0,
            longest: 0,
            full: false,
            has_replies: false,
            excess: 0,
            paused: false,
            eof: false,
            shut: false,
            closing: None,
            aborted: false,
            failed: false,
            required_close: None,
            error_pending: false,
            drain_seen: 0,
            idle_since: now,
            closed: None,
            peer_ended: false,
            peer_closed: false,
            peer_reset: false,
            peer_saw_end: false,
        }
    }

    /// Returns `true` if callbacks other than error and close are allowed.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none()
            && self.closing.is_none()
            && !self.aborted
            && self.required_close.is_none()
    }

    fn takes_output(&self) -> bool {
        self.closed.is_none() && self.closing.is_none() && !self.aborted && !self.failed
    }

    /// Returns `true` if a write may have failed. Then input that has arrived is read, and
    /// output is accepted no more.
    fn may_have_failed(&self) -> bool {
        self.failed || self.peer_closed || self.peer_reset
    }

    /// Returns `true` if it may close by itself at any time.
    fn is_in_danger(&self) -> bool {
        self.peer_closed
            || self.peer_reset
            || self.idle.is_some()
            || self.spec.stall.is_some()
            || self.spec.transport == Transport::Refused
            || (self.eof && self.shut)
    }

    fn low_water(&self) -> usize {
        self.spec.low_water.min(self.spec.high_water - 1)
    }

    fn saw_unsent(&mut self, unsent: usize) {
        self.full &= unsent > self.low_water();
        if !self.full {
            self.excess = 0;
        }
    }

    fn takes_long(&self) -> bool {
        self.closing.is_some_and(|since| since.elapsed() > MIN_LINGER)
    }

    pub(crate) fn take_plan(&mut self, on: Trigger) -> Option<Action> {
        let at = self.plans.iter().position(|plan| plan.0 == on)?;
        self.plans.remove(at).map(|plan| plan.1)
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn close(&mut self) {
        self.closing.get_or_insert_with(Instant::now);
    }

    pub(crate) fn abort(&mut self) {
        self.aborted = true;
    }

    pub(crate) fn require_close(&mut self, cause: RequiredClose) {
        if self.closed.is_none() {
            self.required_close.get_or_insert(cause);
        }
    }

    /// Records that the running callback fails.
    pub(crate) fn fail(&mut self, cause: RequiredClose) {
        self.error_pending = cause != (RequiredClose::Failed { disconnect: true });
        self.require_close(cause);
    }

    pub(crate) fn set_idle_timeout(&mut self, after: Option<Duration>) {
        self.idle = after;
        self.idle_since = Instant::now();
    }

    pub(crate) fn peer_resets(&mut self) {
        self.peer_closed = true;
        self.peer_reset = true;
    }

    /// Returns `true` if nothing can happen without a further action.
    fn is_settled(&self) -> bool {
        if self.closed.is_some() {
            return self.peer.is_none() || self.peer_saw_end;
        }
        if !self.is_open() || self.spec.transport == Transport::Refused {
            return false;
        }
        let hung_up = self.paused && self.shut && self.peer_ended;
        if self.peer_reset && !hung_up {
            return false;
        }
        let read_all = self.paused || self.eof || {
            self.received == self.written && !self.peer_ended && !self.peer_closed
        };
        let sent_all = self.peer_closed
            || (self.delivered == self.accepted && (!self.shut || self.peer_saw_end));
        let wrote = self.shut || self.peer_closed || !self.wants_write.get();
        self.connected && read_all && sent_all && wrote && !(self.eof && self.shut)
    }
}

pub(crate) struct Timer {
    pub(crate) id: TimerId,
    /// `None` for `call_later`.
    owner: Option<usize>,
    after: Duration,
    /// The earliest expiry; `None` for never.
    due: Option<Instant>,
    pending: bool,
    /// A call whose reactor may have dropped it at the deadline of a drain.
    may_be_dropped: bool,
}

/// The callbacks.
impl World {
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(what());
        }
    }

    /// Checks a callback of a channel.
    pub(crate) fn enter(&mut self, id: usize, on: Trigger, unsent: usize) {
        count(format!("callback {on:?}"));
        let channel = &mut self.channels[id];
        let mut faults = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("channel {id}, {on:?}: {what}"));
            }
        };
        expect(channel.closed.is_none(), "after the close");
        if !matches!(on, Trigger::Error | Trigger::Close) {
            expect(channel.is_open(), "although it is closing");
            expect(channel.connected != (on == Trigger::Connect), "connect must be first and once");
        }
        channel.saw_unsent(unsent);
        match on {
            Trigger::Connect => {
                expect(channel.spec.transport != Transport::Refused, "there is no listener");
                channel.connected = true;
            }
            Trigger::Read | Trigger::Eof => {
                expect(!channel.paused, "paused");
                let holds_back = channel.full && channel.has_replies;
                expect(!holds_back || channel.may_have_failed(), "output is congested");
                expect(!channel.eof, "after the end");
            }
            Trigger::Write => {
                expect(channel.wants_write.get(), "not wanted");
                let has_room = unsent <= channel.low_water();
                expect(has_room || channel.may_have_failed(), "no room");
                expect(!channel.shut, "shut down");
            }
            Trigger::Error => {
                expect(std::mem::take(&mut channel.error_pending), "no error is pending");
            }
            Trigger::Timer | Trigger::Drain | Trigger::Close => {}
        }
        if on == Trigger::Eof {
            expect(channel.peer_ended || channel.peer_closed, "the peer has not shut down");
            expect(!channel.peer_reset || channel.peer_ended, "the peer reset");
            let lost = channel.peer_closed && channel.spec.transport != Transport::Unix;
            expect(channel.received == channel.written || lost, "not all input was read");
            channel.eof = true;
        }
        self.faults.append(&mut faults);
        if on == Trigger::Drain {
            self.drain_reported(id);
        }
    }

    fn drain_reported(&mut self, id: usize) {
        let number = self.drain.as_ref().map(|drain| drain.number);
        let drain_seen = self.channels[id].drain_seen;
        self.expect(number.is_some_and(|number| number != drain_seen), || {
            format!("channel {id}, Drain: last notified of {drain_seen}, current is {number:?}")
        });
        self.channels[id].drain_seen = number.unwrap_or(0);
    }

    pub(crate) fn received(&mut self, id: usize, data: &[u8]) {
        let channel = &mut self.channels[id];
        let sent = channel.received + data.len() <= channel.written
            && data == bytes(2 * id, channel.received, data.len());
        channel.received += data.len();
        channel.idle_since = Instant::now();
        self.expect(sent, || format!("channel {id}: received data that the peer did not write"));
    }

    pub(crate) fn error_reported(&mut self, id: usize, cause: &Cause) {
        let expected = match self.channels[id].required_close {
            // The close was requested before the callback failed.
            Some(RequiredClose::Local) => is_intended(cause, false) || is_panic(cause),
            Some(RequiredClose::Failed { disconnect: false }) => is_intended(cause, false),
            Some(RequiredClose::Panicked) => is_panic(cause),
            _ => false,
        };
        self.expect(expected, || format!("channel {id}: unexpected error: {cause:?}"));
    }

    pub(crate) fn closed(&mut self, id: usize, reason: &CloseReason) {
        let cut = self.drain.as_ref().is_some_and(Drain::may_cut);
        let channel = &self.channels[id];
        let trouble = channel.peer_closed || channel.peer_reset;
        let soft = channel.closing.is_some() || channel.aborted;
        let (allowed, kind) = match &reason.cause {
            Cause::Local => (
                channel.required_close == Some(RequiredClose::Local) || (soft && !channel.eof),
                "local",
            ),
            Cause::PeerClosed => (channel.eof && (soft || channel.shut), "by the peer"),
            cause @ Cause::Error(error) => match channel.required_close {
                Some(RequiredClose::Failed { disconnect }) if is_intended(cause, disconnect) => {
                    (true, "failed callback")
                }
                _ if channel.spec.transport == Transport::Refused => {
                    (error.kind() == io::ErrorKind::ConnectionRefused, "refused")
                }
                _ => (trouble && is_network(error), "network error"),
            },
            cause @ Cause::Panicked(_) => (
                channel.required_close == Some(RequiredClose::Panicked) && is_panic(cause),
                "panic",
            ),
            Cause::Shutdown => {
                (channel.required_close == Some(RequiredClose::Shutdown) || cut, "shut down")
            }
            Cause::TimedOut(TimeoutKind::Idle) => {
                let passed = |idle| channel.idle_since.elapsed() >= idle;
                (channel.idle.is_some_and(passed) && channel.closing.is_none(), "idle")
            }
            Cause::TimedOut(TimeoutKind::Stall) => {
                (channel.spec.stall.is_some() && reason.unsent > 0, "stalled")
            }
            Cause::TimedOut(TimeoutKind::MutualStall) => {
                let stalled = channel.spec.stall.is_some() && reason.unsent > 0;
                (stalled && channel.paused, "stalled while paused")
            }
            _ => (false, "other"),
        };
        count(format!("close: {kind}"));
        let in_good_order = matches!(reason.cause, Cause::Local | Cause::PeerClosed)
            && channel.required_close.is_none()
            && !channel.aborted;
        // There is no connect if it is closed before, or the connection fails.
        let may_not_connect = match channel.spec.transport {
            Transport::Refused => true,
            Transport::Connect => trouble,
            Transport::Unix | Transport::Tcp => false,
        };
        let connected = channel.connected
            || may_not_connect
            || !channel.is_open()
            || matches!(reason.cause, Cause::Shutdown | Cause::TimedOut(_));
        let unsent = reason.unsent;
        let all = channel.accepted - channel.delivered;
        let error_pending = channel.error_pending;
        let sure =
            channel.spec.transport == Transport::Unix || (in_good_order && !channel.takes_long());
        let quiet = channel.received == channel.written;
        let describe = || format!("channel {id} closed: {reason:?}: ");
        self.expect(allowed, || describe() + "the reason is not allowed");
        self.expect(connected, || describe() + "never connected");
        self.expect(!in_good_order || unsent == 0, || describe() + "not flushed");
        self.expect(unsent <= all, || describe() + "the peer read more");
        self.expect(!error_pending, || describe() + "an error was not reported");
        let channel = &mut self.channels[id];
        let unless_beyond = in_good_order.then_some(if quiet { channel.written } else { 0 });
        channel.closed = Some(Closed { unsent, sure, unless_beyond });
        if matches!(reason.cause, Cause::Shutdown)
            && channel.required_close != Some(RequiredClose::Shutdown)
            && let Some(drain) = &mut self.drain
        {
            drain.over = true;
        }
    }
}

/// Output, and its delivery to the peer.
impl World {
    /// Checks the result of `send` with `len` bytes.
    pub(crate) fn sent(
        &mut self,
        id: usize,
        len: usize,
        outcome: &io::Result<()>,
        (before, after): (usize, usize),
        within: Option<Trigger>,
    ) {
        let channel = &mut self.channels[id];
        channel.saw_unsent(before);
        let is_reply = matches!(within, Some(Trigger::Read | Trigger::Eof));
        // The mark applies between callbacks, and in `handle_write`.
        let may_exceed = within.is_some_and(|on| on != Trigger::Write);
        let high = channel.spec.high_water;
        let is_open = channel.takes_output() && !channel.shut;
        let has_room = before == 0 || before < high;
        let ok = match outcome {
            Ok(()) if len == 0 => true,
            Ok(()) => {
                count("send: accepted");
                channel.accepted += len;
                channel.longest = channel.longest.max(len);
                channel.has_replies = is_reply || (channel.has_replies && before > 0);
                if after > 0 && after >= high {
                    channel.full = true;
                }
                if !has_room {
                    channel.excess += len;
                }
                // What was gathered in this callback may have been written first.
                is_open && (has_room || may_exceed || after < before + len) && after <= before + len
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                count("send: would block");
                is_open && !has_room && len > 0
            }
            Err(error) if error.raw_os_error().is_none() => {
                count("send: not connected");
                let may_fail = !is_open || channel.may_have_failed();
                error.kind() == io::ErrorKind::NotConnected && may_fail
            }
            Err(error) => {
                count("send: network error");
                channel.failed = true;
                (channel.peer_closed || channel.peer_reset) && is_network(error)
            }
        };
        self.expect(ok, || {
            format!("channel {id}: send of {len} with {before} queued, then {after}: {outcome:?}")
        });
        self.unsent(id, after);
    }

    pub(crate) fn unsent(&mut self, id: usize, unsent: usize) {
        let channel = &self.channels[id];
        let most = channel.spec.high_water + channel.longest + channel.excess;
        let all = channel.accepted - channel.delivered;
        self.expect(unsent <= most.min(all), || {
            format!("channel {id}: {unsent} bytes queued, of {all} and at most {most}")
        });
    }

    pub(crate) fn delivered(&mut self, id: usize, data: &[u8]) {
        let channel = &mut self.channels[id];
        let unsent = channel.closed.as_ref().map_or(0, |closed| closed.unsent);
        let ok = channel.delivered + data.len() + unsent <= channel.accepted
            && data == bytes(2 * id + 1, channel.delivered, data.len());
        channel.delivered += data.len();
        self.expect(ok, || format!("channel {id}: the peer read what was not sent"));
    }

    /// Checks an end of input or an error at the peer.
    pub(crate) fn delivered_end(&mut self, id: usize, error: Option<&io::Error>) {
        let channel = &mut self.channels[id];
        channel.peer_saw_end = true;
        let (delivered, accepted) = (channel.delivered, channel.accepted);
        let ok = if let Some(closed) = &channel.closed {
            let lost =
                !closed.sure && closed.unless_beyond.is_none_or(|most| channel.written > most);
            lost || delivered + closed.unsent == accepted
        } else {
            // Only the output of our side has ended.
            let ending = channel.shut || channel.closing.is_some();
            error.is_none() && ending && delivered == accepted
        };
        self.expect(ok && error.is_none_or(is_network), || {
            format!("channel {id}: the peer read {delivered} of {accepted}, then {error:?}")
        });
    }

    pub(crate) fn peer_write_failed(&mut self, id: usize, error: &io::Error) {
        let closed = self.channels[id].closed.is_some();
        self.expect(closed && is_network(error), || {
            format!("channel {id}: the peer cannot write: {error}")
        });
    }
}

/// Access to channels.
impl World {
    pub(crate) fn is_live(&self, id: usize) -> bool {
        self.channels[id].closed.is_none()
    }

    /// Returns the channel at a place; if it is closed, the one at the next
    /// place with an open channel.
    pub(crate) fn at(&self, place: usize) -> Option<usize> {
        let live = (place..place + PLACES)
            .filter_map(|place| self.places[place % PLACES])
            .find(|&id| self.is_live(id));
        live.or(self.places[place])
    }

    pub(crate) fn add(&mut self, at: usize, channel: Channel) -> usize {
        count(format!("add {:?}", channel.spec.transport));
        let id = self.channels.len();
        self.channels.push(channel);
        self.former[at] = self.places[at].replace(id);
        let over = self.ended || self.drain.as_ref().is_some_and(|drain| drain.over);
        self.expect(!over, || format!("channel {id} was added while the reactor shuts down"));
        id
    }

    pub(crate) fn not_added(&mut self, error: &io::Error) {
        count("add: refused");
        let ends = self.ended || self.drain.as_ref().is_some_and(Drain::may_cut);
        self.expect(ends, || format!("cannot add: {error}"));
    }

    /// Checks the result of `get_mut` outside the channel's own callback.
    pub(crate) fn reached(&mut self, id: usize, found: bool) {
        let cut = self.drain.as_ref().is_some_and(Drain::may_cut);
        let channel = &self.channels[id];
        let must = channel.is_open() && !channel.is_in_danger() && !cut;
        let may = channel.closed.is_none() && channel.required_close.is_none();
        self.expect(if found { may } else { !must }, || {
            format!("channel {id}: found by its token: {found}")
        });
    }
}

/// Timers, posts and turns.
impl World {
    /// Returns the number of the next timer.
    pub(crate) fn next_timer(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn timer_set(
        &mut self,
        id: TimerId,
        owner: Option<usize>,
        before: Instant,
        after: Duration,
    ) {
        let due = before.checked_add(after);
        self.timers.push(Timer { id, owner, after, due, pending: true, may_be_dropped: false });
    }

    pub(crate) fn channel_timer_fired(&mut self, owner: usize, id: TimerId) {
        match self.timers.iter().position(|timer| timer.id == id) {
            Some(index) => {
                let its = self.timers[index].owner == Some(owner);
                self.expect(its, || format!("channel {owner}: the timer of another channel"));
                self.timer_fired(index);
            }
            None => self.fault(format!("channel {owner}: a timer that it did not set")),
        }
    }

    pub(crate) fn timer_fired(&mut self, index: usize) {
        count("timer fired");
        let now = Instant::now();
        let timer = &mut self.timers[index];
        let pending = std::mem::replace(&mut timer.pending, false);
        let early = timer.due.is_none_or(|due| now < due);
        let after = timer.after;
        let overtaken = self.timers[..index].iter().position(|earlier| {
            earlier.pending && earlier.after <= after && self.is_certain(earlier)
        });
        self.expect(pending, || format!("timer {index} fired twice, or was cancelled"));
        self.expect(!early, || format!("timer {index} fired early"));
        self.expect(overtaken.is_none(), || format!("timer {index} fired before {overtaken:?}"));
    }

    /// Returns `true` if it certainly fires when it expires.
    fn is_certain(&self, timer: &Timer) -> bool {
        let cut = self.drain.as_ref().is_some_and(Drain::may_cut);
        if timer.owner.is_none() && (cut || timer.may_be_dropped) {
            return false;
        }
        timer.due.is_some()
            && timer.owner.is_none_or(|owner| {
                let owner = &self.channels[owner];
                owner.is_open() && !owner.is_in_danger() && !cut
            })
    }

    /// Checks the result of `cancel`.
    pub(crate) fn timer_cancelled(&mut self, index: usize, was: bool, calling: Option<usize>) {
        count(format!("cancel: {was}"));
        let timer = &self.timers[index];
        let must = timer.pending && self.is_certain(timer);
        let gone = timer.owner.is_some_and(|owner| !self.is_live(owner) && calling != Some(owner));
        let may = timer.pending && timer.due.is_some() && !gone;
        self.timers[index].pending &= !was;
        self.expect(if was { may } else { !must }, || format!("cancelled timer {index}: {was}"));
    }

    /// Returns the number of the next post.
    pub(crate) fn next_post(&self) -> usize {
        self.posted
    }

    pub(crate) fn posted(&mut self, accepted: bool) {
        self.posted += usize::from(accepted);
        let ended = self.ended;
        self.expect(accepted != ended, || format!("post accepted: {accepted}"));
    }

    pub(crate) fn post_ran(&mut self, number: usize) {
        count("post ran");
        let expected = self.ran;
        self.ran = number + 1;
        self.expect(number == expected && !self.ended, || {
            format!("post {number} ran, {expected} was next")
        });
    }

    pub(crate) fn stop(&mut self) {
        self.stop = true;
    }

    pub(crate) fn drain(&mut self, before: Instant, timeout: Duration) {
        count("drain");
        let cut = before.checked_add(timeout);
        if let Some(drain) = &mut self.drain {
            drain.cut = drain.cut.into_iter().chain(cut).min();
        } else {
            self.drains += 1;
            self.drain = Some(Drain { number: self.drains, cut, over: false });
        }
    }

    /// Checks the result of a turn.
    pub(crate) fn turned(&mut self, has_work: bool) {
        let live = self.channels.iter().any(|channel| channel.closed.is_none());
        // The deadline of a drain drops calls, and does not wait for jobs.
        let cut = self.drain.as_ref().is_some_and(Drain::may_cut);
        let is_call =
            |timer: &&Timer| timer.pending && timer.owner.is_none() && timer.due.is_some();
        let calls = self.timers.iter().any(|timer| is_call(&timer));
        let certain_calls =
            self.timers.iter().filter(is_call).any(|timer| !cut && !timer.may_be_dropped);
        let posts = self.posted > self.ran;
        let may = !self.stop && (live || calls || posts);
        let must = !self.stop && (live || certain_calls || (posts && !cut));
        self.expect(if has_work { may } else { !must }, || format!("the turn returned {has_work}"));
        if cut {
            let calls = self.timers.iter_mut().filter(|timer| timer.owner.is_none());
            calls.for_each(|timer| timer.may_be_dropped = true);
        }
        if let Some(Drain { number, .. }) = self.drain {
            let unnotified = self.channels.iter().position(|channel| {
                channel.connected && channel.is_open() && channel.drain_seen != number
            });
            self.expect(unnotified.is_none(), || {
                format!("{unnotified:?} was not notified of the drain")
            });
        }
        if !has_work {
            self.stop = false;
            self.drain = None;
        }
    }

    /// Returns `true` if nothing can happen without a further action.
    pub(crate) fn is_settled(&self) -> bool {
        self.posted == self.ran
            && !self.timers.iter().any(|timer| self.is_awaited(timer))
            && self.channels.iter().all(Channel::is_settled)
    }

    fn is_awaited(&self, timer: &Timer) -> bool {
        let is_live = |owner| self.is_live(owner);
        timer.pending && timer.due.is_some() && timer.owner.map_or(!timer.may_be_dropped, is_live)
    }

    /// Returns `true` if also no deadline is set.
    pub(crate) fn is_idle(&self) -> bool {
        self.drain.as_ref().is_none_or(|drain| drain.cut.is_none())
            && self.channels.iter().filter(|channel| channel.closed.is_none()).all(|channel| {
                channel.idle.is_none()
                    && channel.spec.idle.is_none()
                    && channel.spec.stall.is_none()
            })
    }

    pub(crate) fn unsettled(&self) -> String {
        let channels: Vec<usize> =
            (0..self.channels.len()).filter(|&id| !self.channels[id].is_settled()).collect();
        let timers = self.timers.iter().filter(|timer| self.is_awaited(timer)).count();
        let posts = self.posted - self.ran;
        format!("channels {channels:?}, {timers} timers, {posts} posts")
    }
}

impl Drain {
    fn may_cut(&self) -> bool {
        self.cut.is_some_and(|cut| cut <= Instant::now())
    }
}

/// The error that an action makes a callback return.
pub(crate) fn intended(disconnect: bool) -> io::Error {
    let kind = if disconnect { io::ErrorKind::ConnectionReset } else { io::ErrorKind::Other };
    io::Error::new(kind, INTENDED)
}

fn is_intended(cause: &Cause, disconnect: bool) -> bool {
    matches!(cause, Cause::Error(error)
        if error.raw_os_error().is_none()
            && error.to_string() == INTENDED
            && error.kind() == intended(disconnect).kind())
}

fn is_panic(cause: &Cause) -> bool {
    matches!(cause, Cause::Panicked(message) if **message == *INTENDED)
}

/// Returns `true` for an error that the kernel reports after the peer closed.
fn is_network(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    error.raw_os_error().is_some()
        && matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected)
}
