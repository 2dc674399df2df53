//! What programs do with their loops: timers, jobs, an inbox, signals, and a client that
//! stays connected.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use reactor::signal::{SIGHUP, SIGUSR1, SIGUSR2, Signals};
use reactor::{Connector, Context, Io, Reactor, Reconnector, SendError, Stream, Token, inbox};

use crate::PANIC;
use crate::peer::{
    On, Peer, dial, echo, idle, listen, listen_paused, no_limits, passive, sends, wait,
};
use crate::run::{self, moment, note, note_as};
use crate::script::{Script, script};

/// The shortest time that differs from the next one, on any clock.
const STEP: Duration = Duration::from_millis(2);

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = timers();
    scripts.extend(jobs());
    scripts.extend(inboxes());
    scripts.extend(signals());
    scripts.extend(reconnectors());
    scripts
}

/// A script of the client's loop alone.
fn alone(name: &str, client: impl Fn(&mut Context) -> io::Result<()> + 'static) -> Script {
    script(name, idle, move |reactor| {
        let cx = reactor.context();
        run::speak_as("client", || client(cx))
    })
}

/// Returns a job that notes `line`.
fn says(line: &'static str) -> impl FnOnce(&mut Context) + 'static {
    move |_| note_as("client", line)
}

fn timers() -> Vec<Script> {
    vec![
        alone("timers run in the order of their times", |cx| {
            cx.call_later(3 * STEP, says("third"));
            cx.call_later(STEP, says("first"));
            cx.call_later(2 * STEP, says("second"));
            Ok(())
        }),
        alone("timers of one time run in the order in which they were set", |cx| {
            let at = cx.now() + STEP;
            for line in ["first", "second", "third"] {
                cx.call_at(at, says(line));
            }
            Ok(())
        }),
        alone("timers of the past run in the order of their times", |cx| {
            let now = cx.now();
            cx.call_at(now, says("second"));
            cx.call_at(now.checked_sub(STEP).unwrap(), says("first"));
            cx.call_at(now, says("third"));
            Ok(())
        }),
        alone("a timer that a timer sets", |cx| {
            cx.call_later(Duration::ZERO, |cx| {
                note_as("client", "outer");
                cx.call_later(Duration::ZERO, says("inner"));
            });
            Ok(())
        }),
        alone("a timer that is cancelled", |cx| {
            let timer = cx.call_later(STEP, says("never"));
            note(format!("{}, {}", cx.cancel(timer), cx.cancel(timer)));
            let timer = cx.call_later(STEP, says("runs"));
            cx.call_later(2 * STEP, move |cx| note_as("client", format!("{}", cx.cancel(timer))));
            Ok(())
        }),
        alone("a timer that panics", |cx| {
            cx.call_later(STEP, |_| std::panic::panic_any(PANIC));
            cx.call_later(2 * STEP, says("continues"));
            Ok(())
        }),
        alone("a timer after which the loop stops", |cx| {
            cx.call_later(STEP, Context::stop);
            cx.call_later(HOUR, says("never"));
            Ok(())
        }),
        alone("a timer of no channel", |cx| {
            run::note_result("set", cx.set_timer(STEP));
            Ok(())
        }),
        script(
            "timers of a stream end with it",
            |reactor| listen(reactor, passive),
            |reactor| {
                reactor.context().call_later(moment(), says("after all"));
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.set_timer(STEP);
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "several timers of a stream",
            |reactor| listen(reactor, passive),
            |reactor| {
                let mut count = 0;
                dial(reactor, move |on, io| match on {
                    On::Connect => {
                        let never = io.set_timer(STEP);
                        io.context().cancel(never);
                        for step in 1..=3 {
                            io.set_timer(step * STEP);
                        }
                        Ok(())
                    }
                    On::Timer => {
                        count += 1;
                        io.send(b".")?;
                        if count == 3 {
                            io.close();
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                })
            },
        ),
    ]
}

fn jobs() -> Vec<Script> {
    vec![
        alone("jobs run in the order in which they were posted", |cx| {
            for line in ["first", "second", "third"] {
                cx.handle().post(says(line)).unwrap();
            }
            Ok(())
        }),
        alone("a job that a job posts", |cx| {
            let post = |cx: &mut Context| {
                note_as("client", "outer");
                cx.handle().post(says("inner")).unwrap();
            };
            cx.handle().post(post).unwrap();
            Ok(())
        }),
        alone("a timer that has expired runs before a job", |cx| {
            cx.handle().post(says("job")).unwrap();
            cx.call_at(cx.now(), says("timer"));
            Ok(())
        }),
        alone("a job that panics", |cx| {
            cx.handle().post(|_| std::panic::panic_any(PANIC)).unwrap();
            cx.handle().post(says("continues")).unwrap();
            Ok(())
        }),
        alone("a job stops the loop, and the next one is not run", |cx| {
            cx.handle().stop().unwrap();
            cx.call_later(HOUR, says("never"));
            Ok(())
        }),
        script(
            "a job for a program that has ended",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Eof => {
                        let sent = run::try_post("client", |_| note_as("client", "never"));
                        note(format!("{sent:?}"));
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a stream that another one uses",
            |reactor| listen(reactor, echo),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        let first = io.token();
                        let second = Peer::new("second", move |on, io| use_other(on, io, first));
                        io.context().add(Stream::connect([run::addr()], second)).map(drop)
                    }
                    On::Read(_) => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
    ]
}

/// Sends on another stream, and ends when that one has ended.
fn use_other(on: On<'_>, io: &mut Io<'_>, other: Token) -> io::Result<()> {
    let cx = io.context();
    match on {
        On::Connect => {
            let sent = cx.with_stream(other, |_: &mut Peer, io| io.send(b"x"));
            note(format!("sent: {}", sent.is_some_and(|sent| sent.is_ok())));
            wait(io)
        }
        On::Timer => {
            note(format!("gone: {}", cx.get_mut::<Stream<Peer>>(other).is_none()));
            Ok(io.close())
        }
        _ => Ok(()),
    }
}

fn inboxes() -> Vec<Script> {
    vec![
        script("messages arrive in their order, and the end of the senders", idle, |reactor| {
            let (sender, inbox) = inbox(10, |_, number: u32| {
                note_as("client", format!("message {number}"));
                Ok(())
            });
            sender.send(1).unwrap();
            reactor.add(inbox)?;
            sender.send(2).unwrap();
            let other = sender.clone();
            reactor.context().call_later(STEP, move |_| {
                note_as("client", "timer");
                other.send(3).unwrap();
                other.send(4).unwrap();
            });
            drop(sender);
            Ok(())
        }),
        script("an inbox that is full", idle, |reactor| {
            let (sender, inbox) = inbox(2, |_, number: u32| {
                note_as("client", format!("message {number}"));
                Ok(())
            });
            for number in 1..=3 {
                let is_full = matches!(sender.send(number), Err(SendError::Full(_)));
                note_as("client", format!("{number} is one too many: {is_full}"));
            }
            reactor.add(inbox).map(drop)
        }),
        script("an inbox whose handler fails", idle, |reactor| {
            let (sender, inbox) = inbox(10, |_, number: u32| {
                note_as("client", format!("message {number}"));
                Err(io::Error::other("not understood"))
            });
            sender.send(1).unwrap();
            sender.send(2).unwrap();
            reactor.add(inbox)?;
            reactor.context().call_later(STEP, move |_| {
                let is_closed = matches!(sender.send(3), Err(SendError::Closed(_)));
                note_as("client", format!("closed: {is_closed}"));
            });
            Ok(())
        }),
        script(
            "messages between programs",
            |reactor| {
                listen_paused(reactor, |on, io| match on {
                    On::Connect => {
                        for number in 1..=3 {
                            run::post("client", move |_| note_as("client", format!("{number}")));
                        }
                        Ok(run::cue("client"))
                    }
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => Ok(run::resume_listener()),
                    On::Cue => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
    ]
}

fn signals() -> Vec<Script> {
    vec![
        script(
            "a signal",
            |reactor| {
                let handler = |cx: &mut Context, signal| {
                    note_as("server", format!("signal {}", signal == SIGUSR1));
                    cx.stop();
                };
                reactor.add(Signals::new(&[SIGUSR1, SIGUSR2], handler)?)?;
                run::signal_server(SIGUSR1);
                listen(reactor, passive)
            },
            idle,
        ),
        script(
            "signals one after another",
            |reactor| {
                let mut count = 0;
                let handler = move |cx: &mut Context, signal| {
                    count += 1;
                    note_as("server", format!("signal {count}: {}", signal == SIGUSR2));
                    match count {
                        1 => run::signal_server(SIGUSR2),
                        2 => run::signal_server(SIGHUP),
                        _ => cx.stop(),
                    }
                };
                reactor.add(Signals::new(&[SIGHUP, SIGUSR2], handler)?)?;
                run::signal_server(SIGUSR2);
                listen(reactor, passive)
            },
            idle,
        ),
        script(
            "a signal drains the server, and its client finishes",
            |reactor| {
                let handler = |cx: &mut Context, _| cx.drain(HOUR);
                reactor.add(Signals::new(&[SIGUSR1], handler)?)?;
                listen(reactor, |on, io| match on {
                    On::Read(_) => Ok(run::signal_server(SIGUSR1)),
                    On::Drain => {
                        io.send(b"good bye")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| dial(reactor, sends(b"x", passive)),
        ),
        script(
            "a signal that two channels handle",
            |reactor| {
                for name in ["first", "second"] {
                    let handler = move |cx: &mut Context, _| {
                        note_as(name, "signal");
                        let token = cx.token();
                        cx.close(token);
                    };
                    reactor.add(Signals::new(&[SIGUSR1], handler)?)?;
                }
                run::signal_server(SIGUSR1);
                listen(reactor, passive)
            },
            idle,
        ),
        script(
            "a program that only waits for signals ends",
            |reactor| reactor.add(Signals::new(&[SIGUSR1], |_, _| {})?).map(drop),
            idle,
        ),
    ]
}

/// Adds a client that stays connected, and notes what its handler receives.
fn add_reconnector(
    reactor: &mut Reactor,
    react: impl crate::peer::React + Clone,
    change: impl FnOnce(Reconnector) -> Reconnector,
) -> io::Result<()> {
    let connector = Connector::to_addrs([run::addr()]).with_limits(no_limits());
    let connect = move || Ok(connector.connect(Peer::new("client", react.clone())));
    let reconnector = Reconnector::new(connect).with_pauses(STEP, STEP);
    let reconnector = reconnector.with_handler(|_, reason, pause| {
        note_as("reconnector", format!("{reason}; again: {}", pause.is_some()));
    });
    reactor.add(change(reconnector)).map(drop)
}

fn reconnectors() -> Vec<Script> {
    vec![
        script(
            "a client connects again until it closes the connection itself",
            |reactor| {
                let count = Rc::new(std::cell::Cell::new(0));
                listen(reactor, move |on, io| match on {
                    On::Read(_) => {
                        count.set(count.get() + 1);
                        match count.get() {
                            1 => Ok(io.close()),
                            2 => Ok(io.abort()),
                            _ => io.send(b"!"),
                        }
                    }
                    _ => passive(on, io),
                })
            },
            |reactor| {
                let react = |on: On<'_>, io: &mut Io<'_>| match on {
                    On::Connect => io.send(b"?"),
                    On::Read(_) => Ok(io.close()),
                    _ => passive(on, io),
                };
                add_reconnector(reactor, react, |client| client)
            },
        ),
        script("a client gives up", idle, |reactor| {
            add_reconnector(reactor, passive, |client| client.with_max_failures(3))
        }),
        script(
            "a client connects again after its own error",
            |reactor| listen(reactor, passive),
            |reactor| {
                let mut count = 0;
                let connector = Connector::to_addrs([run::addr()]);
                let connect = move || {
                    count += 1;
                    let is_first = count == 1;
                    Ok(connector.connect(Peer::new("client", move |on, io| match on {
                        On::Connect if is_first => Err(io::Error::other("not today")),
                        On::Connect => Ok(io.close()),
                        _ => Ok(()),
                    })))
                };
                reactor.add(Reconnector::new(connect).with_pauses(STEP, STEP)).map(drop)
            },
        ),
        script("a client is closed during its pause", idle, |reactor| {
            let connector = Connector::to_addrs([run::addr()]);
            let connect = move || Ok(connector.connect(Peer::new("client", passive)));
            let client = Reconnector::new(connect).with_pauses(HOUR, HOUR);
            let client = client.with_handler(|cx, reason, _| {
                note_as("reconnector", reason.to_string());
                let token = cx.token();
                cx.close(token);
            });
            reactor.add(client).map(drop)
        }),
    ]
}
