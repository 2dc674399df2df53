//! The parts of a schedule, and their random generation.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The maximum number of open channels.
pub(crate) const PLACES: usize = 8;

/// The steps, and the way it ends.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) ops: Vec<Op>,
    pub(crate) finale: Finale,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// An action outside of the loop.
    Do(Action),
    /// The action of the channel at a place in its next callback of a kind.
    Plan(usize, Trigger, Action),
    /// A post from another thread.
    ThreadPost(Action),
    PeerWrites(usize, usize),
    PeerReads(usize, usize),
    PeerEnds(usize),
    PeerDrops(usize),
    PeerResets(usize),
    /// A number of turns that do not wait.
    Turn(usize),
    /// A turn that waits briefly.
    Wait,
    /// The peers read, and turns run until all work is complete.
    Settle,
    CloseAll,
}

/// An action that is possible wherever the reactor is accessible.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Send(Target, usize),
    Close(Target),
    Abort(Target),
    /// `Context::close`.
    CloseToken(Target),
    Shutdown(Target),
    Pause(Target, bool),
    /// Makes `Protocol::writable` return `true`.
    WantWrite(Target),
    IdleTimeout(Target, Option<Duration>),
    /// Looks up the channel by its token.
    Look(Target),
    Add(usize, Spec),
    Timer(Duration),
    Later(Duration, Box<Action>),
    /// Cancels the timer that was set this many timers ago.
    Cancel(usize),
    Post(Box<Action>),
    Stop,
    Drain(Duration),
    /// Returns an error from the callback: a disconnect, or another one.
    Fail {
        disconnect: bool,
    },
    Panic,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The channel whose callback is running; the first one if there is none.
    Own,
    /// The channel at a place, or at the next place with an open one.
    At(usize),
    /// The previous channel at a place, which is closed.
    Former(usize),
}

/// A channel to add.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) transport: Transport,
    pub(crate) high_water: usize,
    pub(crate) low_water: usize,
    pub(crate) small_buffers: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) stall: Option<Duration>,
    /// Stays open at end of input.
    pub(crate) stays: bool,
    /// Answers each read with the same number of bytes.
    pub(crate) answers: bool,
    pub(crate) plan: Option<(Trigger, Box<Action>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Unix,
    Tcp,
    /// TCP, connected by our side.
    Connect,
    /// There is no listener.
    Refused,
}

/// A callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    Connect,
    Read,
    Write,
    Eof,
    Timer,
    Drain,
    Error,
    Close,
}

/// How a schedule ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finale {
    /// The peers shut down, and all input and output is delivered.
    Graceful,
    CloseAll,
    Drop,
}

pub(crate) fn schedule() -> impl Strategy<Value = Schedule> {
    let finale = prop_oneof![Just(Finale::Graceful), Just(Finale::CloseAll), Just(Finale::Drop)];
    (vec(op(), 1..250), finale).prop_map(|(ops, finale)| Schedule { ops, finale })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => (1..4_usize).prop_map(Op::Turn),
        10 => (place(), spec()).prop_map(|(at, spec)| Op::Do(Action::Add(at, spec))),
        16 => action().prop_map(Op::Do),
        10 => (target(), size()).prop_map(|(to, n)| Op::Do(Action::Send(to, n))),
        24 => (place(), trigger(), action()).prop_map(|(at, on, what)| Op::Plan(at, on, what)),
        14 => (place(), size()).prop_map(|(at, n)| Op::PeerWrites(at, n)),
        10 => (place(), size()).prop_map(|(at, n)| Op::PeerReads(at, n)),
        2 => place().prop_map(Op::PeerEnds),
        1 => place().prop_map(Op::PeerDrops),
        1 => place().prop_map(Op::PeerResets),
        2 => action().prop_map(Op::ThreadPost),
        1 => Just(Op::Wait),
        1 => Just(Op::Settle),
        1 => prop_oneof![9 => Just(Op::Turn(1)), 1 => Just(Op::CloseAll)],
    ]
}

/// An action that may contain another one.
fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        10 => leaf(),
        1 => (place(), spec()).prop_map(|(at, spec)| Action::Add(at, spec)),
        1 => (delay(), leaf()).prop_map(|(after, what)| Action::Later(after, Box::new(what))),
        1 => leaf().prop_map(|what| Action::Post(Box::new(what))),
    ]
}

fn leaf() -> impl Strategy<Value = Action> {
    prop_oneof![
        16 => (target(), size()).prop_map(|(to, n)| Action::Send(to, n)),
        2 => target().prop_map(Action::Close),
        1 => target().prop_map(Action::Abort),
        2 => target().prop_map(Action::CloseToken),
        2 => target().prop_map(Action::Shutdown),
        2 => (target(), any::<bool>()).prop_map(|(to, on)| Action::Pause(to, on)),
        2 => target().prop_map(Action::WantWrite),
        1 => (target(), option::of(timeout()))
            .prop_map(|(to, after)| Action::IdleTimeout(to, after)),
        2 => target().prop_map(Action::Look),
        5 => delay().prop_map(Action::Timer),
        2 => (0..6_usize).prop_map(Action::Cancel),
        1 => prop_oneof![
            2 => Just(Action::Stop),
            1 => Just(Action::Drain(Duration::MAX)),
            1 => delay().prop_map(Action::Drain),
        ],
        1 => any::<bool>().prop_map(|disconnect| Action::Fail { disconnect }),
        1 => Just(Action::Panic),
    ]
}

fn place() -> impl Strategy<Value = usize> {
    0..PLACES
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        5 => place().prop_map(Target::At),
        4 => Just(Target::Own),
        1 => place().prop_map(Target::Former),
    ]
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        2 => Just(Trigger::Connect),
        5 => Just(Trigger::Read),
        2 => Just(Trigger::Write),
        1 => Just(Trigger::Eof),
        2 => Just(Trigger::Timer),
        1 => Just(Trigger::Drain),
        1 => Just(Trigger::Error),
        2 => Just(Trigger::Close),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let transport = prop_oneof![
        8 => Just(Transport::Unix),
        3 => Just(Transport::Tcp),
        3 => Just(Transport::Connect),
        1 => Just(Transport::Refused),
    ];
    let marks = prop_oneof![
        2 => Just((64 * 1024, 16 * 1024)),
        2 => Just((4_096, 1_000)),
        1 => Just((100, 100)),
        1 => Just((1, 0)),
    ];
    let limits = (marks, any::<bool>(), rarely(timeout()), rarely(timeout()));
    let on = prop_oneof![Just(Trigger::Connect), trigger()];
    let plan = option::of((on, leaf().prop_map(Box::new)));
    (transport, limits, any::<bool>(), any::<bool>(), plan).prop_map(
        |(transport, (marks, small_buffers, idle, stall), stays, answers, plan)| Spec {
            transport,
            high_water: marks.0,
            low_water: marks.1,
            small_buffers,
            idle,
            stall,
            stays,
            answers,
            plan,
        },
    )
}

fn rarely<T: Clone + std::fmt::Debug + 'static>(
    what: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.05, what)
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..64_usize, 3 => 64..5_000_usize, 2 => 5_000..100_000_usize]
}

/// A timeout short enough to expire.
fn timeout() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::from_micros(200)), Just(Duration::from_millis(2))]
}

/// The delay of a timer.
fn delay() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => Just(Duration::ZERO),
        3 => Just(Duration::from_micros(50)),
        2 => Just(Duration::from_micros(300)),
        1 => Just(Duration::from_millis(1)),
        1 => Just(Duration::MAX),
    ]
}
