//! Performs the actions of a schedule, and reports the results to the model.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Context, Io, Limits, Stream, Token};
use socket2::SockRef;

use crate::case::Peer;
use crate::schedule::{Action, Spec, Target, Transport, Trigger};
use crate::subject::Subject;
use crate::world::{Channel, INTENDED, RequiredClose, World, bytes, count, intended, world};

/// The place from which an action accesses the reactor.
pub(crate) enum Reach<'a, 'b> {
    Outside(&'a mut Context),
    /// A post, or a `call_later`.
    Job(&'a mut Context),
    /// A callback of the channel with this number.
    Callback(&'a mut Io<'b>, usize, Trigger),
}

impl Reach<'_, '_> {
    fn context(&mut self) -> &mut Context {
        match self {
            Reach::Outside(cx) | Reach::Job(cx) => cx,
            Reach::Callback(io, ..) => io.context(),
        }
    }

    /// Returns the channel whose callback is running.
    fn own(&self) -> Option<usize> {
        match self {
            Reach::Callback(_, id, _) => Some(*id),
            Reach::Outside(_) | Reach::Job(_) => None,
        }
    }

    fn id(&self, target: Target) -> Option<usize> {
        match target {
            Target::Own => self.own().or_else(|| world(|world| world.at(0))),
            Target::At(place) => world(|world| world.at(place)),
            Target::Former(place) => world(|world| world.former[place]),
        }
    }

    /// Accesses a channel as `Io` if its callback is running, otherwise by its
    /// token.
    fn with(&mut self, target: Target, act: impl FnOnce(usize, End<'_, '_>)) {
        let Some(id) = self.id(target) else { return };
        if let Reach::Callback(io, own, _) = self
            && *own == id
        {
            let token = io.token();
            if io.context().get_mut::<Stream<Subject>>(token).is_some() {
                world(|world| {
                    world.fault(format!("channel {id} is accessible within its callback"));
                });
            }
            return act(id, End::Io(io));
        }
        let token = token(id);
        let stream = self.context().get_mut::<Stream<Subject>>(token);
        world(|world| world.reached(id, stream.is_some()));
        if let Some(stream) = stream {
            act(id, End::Stream(stream));
        }
    }
}

/// A channel, within its callback or by its token.
enum End<'a, 'b> {
    Io(&'a mut Io<'b>),
    Stream(&'a mut Stream<Subject>),
}

/// Calls a method that both types have.
macro_rules! on {
    ($end:expr, $method:ident($($argument:expr),*)) => {
        match &mut $end {
            End::Io(io) => io.$method($($argument),*),
            End::Stream(stream) => stream.$method($($argument),*),
        }
    };
}

pub(crate) fn token(id: usize) -> Token {
    world(|world| world.channels[id].token)
}

fn channel(id: usize, change: impl FnOnce(&mut Channel)) {
    world(|world| change(&mut world.channels[id]));
}

pub(crate) fn act(reach: &mut Reach<'_, '_>, action: &Action) -> io::Result<()> {
    match action {
        Action::Send(to, len) => send(reach, *to, *len),
        Action::Close(to) => reach.with(*to, |id, mut end| {
            on!(end, close());
            channel(id, Channel::close);
        }),
        Action::Abort(to) => reach.with(*to, |id, mut end| {
            on!(end, abort());
            channel(id, Channel::abort);
        }),
        Action::CloseToken(to) => {
            if let Some(id) = reach.id(*to) {
                let token = token(id);
                reach.context().close(token);
                channel(id, |channel| channel.require_close(RequiredClose::Local));
            }
        }
        Action::Shutdown(to) => reach.with(*to, |id, mut end| {
            on!(end, shutdown()).unwrap();
            channel(id, |channel| channel.shut = true);
        }),
        Action::Pause(to, true) => reach.with(*to, |id, mut end| {
            on!(end, pause());
            channel(id, |channel| channel.set_paused(true));
        }),
        Action::Pause(to, false) => reach.with(*to, |id, mut end| {
            on!(end, resume());
            channel(id, |channel| channel.set_paused(false));
        }),
        Action::WantWrite(to) => {
            reach.with(*to, |id, _| channel(id, |channel| channel.wants_write.set(true)));
        }
        Action::IdleTimeout(to, after) => reach.with(*to, |id, mut end| {
            channel(id, |channel| channel.set_idle_timeout(*after));
            on!(end, set_idle_timeout(*after));
        }),
        Action::Look(at) => reach.with(*at, |id, mut end| {
            let unsent = on!(end, unsent());
            world(|world| world.unsent(id, unsent));
        }),
        Action::Add(at, spec) => add(reach.context(), *at, spec),
        Action::Timer(after) => set_timer(reach, *after),
        Action::Later(after, then) => call_later(reach.context(), *after, (**then).clone()),
        Action::Cancel(back) => cancel(reach, *back),
        Action::Post(then) => post(reach.context(), (**then).clone()),
        Action::Stop => {
            reach.context().stop();
            world(World::stop);
        }
        Action::Drain(after) => {
            let before = Instant::now();
            reach.context().drain(*after);
            world(|world| world.drain(before, *after));
        }
        Action::Fail { disconnect } => {
            if let Reach::Callback(_, id, on) = reach {
                if !matches!(on, Trigger::Error | Trigger::Close) {
                    channel(*id, |channel| {
                        channel.fail(RequiredClose::Failed { disconnect: *disconnect });
                    });
                }
                return Err(intended(*disconnect));
            }
        }
        Action::Panic => {
            if let Reach::Callback(_, id, on) = reach
                && !matches!(on, Trigger::Error | Trigger::Close)
            {
                channel(*id, |channel| channel.fail(RequiredClose::Panicked));
            }
            assert!(matches!(reach, Reach::Outside(_)), "{INTENDED}");
        }
    }
    Ok(())
}

pub(crate) fn send(reach: &mut Reach<'_, '_>, to: Target, len: usize) {
    let running = match reach {
        Reach::Callback(_, _, on) => Some(*on),
        Reach::Outside(_) | Reach::Job(_) => None,
    };
    reach.with(to, |id, mut end| {
        let within = running.filter(|_| matches!(end, End::Io(_)));
        let from = world(|world| world.channels[id].accepted);
        let before = on!(end, unsent());
        let outcome = on!(end, send(bytes(2 * id + 1, from, len)));
        let after = on!(end, unsent());
        world(|world| world.sent(id, len, &outcome, (before, after), within));
    });
}

fn set_timer(reach: &mut Reach<'_, '_>, after: Duration) {
    let before = Instant::now();
    match reach {
        Reach::Callback(io, id, _) => {
            let timer = io.set_timer(after);
            world(|world| world.timer_set(timer, Some(*id), before, after));
        }
        // A timer without a channel has no callback.
        Reach::Outside(cx) | Reach::Job(cx) => call_later(cx, after, Action::Cancel(0)),
    }
}

fn call_later(cx: &mut Context, after: Duration, then: Action) {
    let number = world(|world| world.next_timer());
    let before = Instant::now();
    let timer = cx.call_later(after, move |cx| {
        world(|world| world.timer_fired(number));
        let _ = act(&mut Reach::Job(cx), &then);
    });
    world(|world| world.timer_set(timer, None, before, after));
}

fn cancel(reach: &mut Reach<'_, '_>, back: usize) {
    let Some((index, timer)) = world(|world| {
        let index = world.timers.len().checked_sub(back + 1)?;
        Some((index, world.timers[index].id))
    }) else {
        return;
    };
    let was = reach.context().cancel(timer);
    let own = reach.own();
    world(|world| world.timer_cancelled(index, was, own));
}

fn post(cx: &mut Context, then: Action) {
    let number = world(|world| world.next_post());
    let outcome = cx.handle().post(job(number, then));
    world(|world| world.posted(outcome.is_ok()));
}

/// Creates the post with this number.
pub(crate) fn job(number: usize, then: Action) -> impl FnOnce(&mut Context) + Send {
    move |cx| {
        world(|world| world.post_ran(number));
        let _ = act(&mut Reach::Job(cx), &then);
    }
}

fn add(cx: &mut Context, at: usize, spec: &Spec) {
    if world(|world| world.places[at].is_some_and(|id| world.is_live(id))) {
        return;
    }
    let id = world(|world| world.channels.len());
    let wants_write: Rc<Cell<bool>> = Rc::default();
    let subject = Subject {
        id,
        wants_write: Rc::clone(&wants_write),
        answers: spec.answers,
        stays: spec.stays,
    };
    let (stream, peer) = open(spec, subject);
    let limits = Limits {
        high_water: spec.high_water,
        low_water: spec.low_water,
        idle_timeout: spec.idle,
        stall_timeout: spec.stall.or(Limits::default().stall_timeout),
        ..Limits::default()
    };
    match cx.add(stream.with_limits(limits)) {
        Ok(token) => {
            let channel = Channel::new(spec.clone(), token, peer, wants_write);
            world(|world| world.add(at, channel));
        }
        Err(error) => world(|world| world.not_added(&error)),
    }
}

fn open(spec: &Spec, subject: Subject) -> (Stream<Subject>, Option<Peer>) {
    thread_local! {
        static LISTENER: TcpListener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    }
    match spec.transport {
        Transport::Unix => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            if spec.small_buffers {
                SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
                SockRef::from(&theirs).set_send_buffer_size(4096).unwrap();
            }
            (Stream::new(ours, subject).unwrap(), Some(Peer::new(OwnedFd::from(theirs))))
        }
        Transport::Tcp => LISTENER.with(|listener| {
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let ours = listener.accept().unwrap().0;
            if spec.small_buffers {
                SockRef::from(&ours).set_send_buffer_size(16 * 1024).unwrap();
            }
            (Stream::new(ours, subject).unwrap(), Some(Peer::new(OwnedFd::from(theirs))))
        }),
        Transport::Connect => LISTENER.with(|listener| {
            let ours = Stream::connect([listener.local_addr().unwrap()], subject);
            let theirs = listener.accept().unwrap().0;
            (ours, Some(Peer::new(OwnedFd::from(theirs))))
        }),
        // Port 1 (tcpmux) has no listener on any current system.
        Transport::Refused => {
            count("open: refused");
            (Stream::connect([(Ipv4Addr::LOCALHOST, 1).into()], subject), None)
        }
    }
}
