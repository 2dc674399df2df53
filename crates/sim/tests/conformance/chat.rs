//! Messages: where they end, and output that is produced piece by piece.

use std::io;

use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, CloseReason, Connector, Io, Listener, Produced, Reactor,
    SocketOptions, Terminator, TimerId, producer_from_iter, producer_from_reader,
    producer_from_reader_exact,
};

use crate::peer::{On, add_listener, closes_after, dial, no_limits, passive, pattern, sends, wait};
use crate::run::{self, moment, note, note_as, note_result};
use crate::script::{Script, script};

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = framing();
    scripts.extend(producers());
    scripts
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OnChat {
    Connect,
    Message(Vec<u8>),
    Write,
    Eof,
    Timer,
}

trait ReactChat: FnMut(OnChat, &mut ChatIo<'_>) -> io::Result<()> + 'static {}
impl<F: FnMut(OnChat, &mut ChatIo<'_>) -> io::Result<()> + 'static> ReactChat for F {}

type BoxedReact = Box<dyn FnMut(OnChat, &mut ChatIo<'_>) -> io::Result<()>>;

/// Notes its callbacks, and then does what its script says.
struct ChatPeer {
    name: String,
    react: BoxedReact,
    writes: usize,
}

impl ChatPeer {
    fn new(name: &'static str, react: impl ReactChat) -> Self {
        ChatPeer { name: run::number_name(name), react: Box::new(react), writes: 0 }
    }

    fn call(&mut self, line: &str, on: OnChat, chat: &mut ChatIo<'_>) -> io::Result<()> {
        note_as(&self.name, line);
        let ChatPeer { name, react, .. } = self;
        run::speak_as(name, || react(on, chat))
    }
}

impl ChatProtocol for ChatPeer {
    fn writable(&self) -> bool {
        self.writes > 0
    }

    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.call("connected", OnChat::Connect, chat)
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        let line = match message.len() {
            0..=40 => format!("message \"{}\"", message.escape_ascii()),
            len => format!("message of {len} bytes, right: {}", message == pattern(len)),
        };
        self.call(&line, OnChat::Message(message), chat)
    }

    fn handle_write(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.writes -= 1;
        self.call("writable", OnChat::Write, chat)
    }

    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let line = format!("eof, {} bytes into a message", chat.partial_len());
        self.call(&line, OnChat::Eof, chat)
    }

    fn handle_timer(&mut self, chat: &mut ChatIo<'_>, _: TimerId) -> io::Result<()> {
        self.call("timer", OnChat::Timer, chat)
    }

    fn handle_error(&mut self, _: &mut ChatIo<'_>, cause: &Cause) {
        note_as(&self.name, format!("error: {cause}"));
    }

    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        note_as(&self.name, format!("closed: {reason}"));
    }
}

fn listen(
    reactor: &mut Reactor,
    terminator: fn() -> Terminator,
    react: impl ReactChat + Clone,
) -> io::Result<()> {
    listen_with(reactor, terminator, react, |chat| chat)
}

fn listen_with(
    reactor: &mut Reactor,
    terminator: fn() -> Terminator,
    react: impl ReactChat + Clone,
    change: fn(Chat<ChatPeer>) -> Chat<ChatPeer>,
) -> io::Result<()> {
    let accept =
        move |_: &_| Ok(change(Chat::new(terminator(), ChatPeer::new("server", react.clone()))));
    add_listener(reactor, Listener::bind(run::addr(), accept)?.with_limits(no_limits())).map(drop)
}

/// Closes at the end of input, when all is sent.
#[expect(clippy::needless_pass_by_value, reason = "a reaction")]
fn quiet(on: OnChat, chat: &mut ChatIo<'_>) -> io::Result<()> {
    if on == OnChat::Eof {
        chat.close_when_done();
    }
    Ok(())
}

fn newline() -> Terminator {
    "\n".into()
}

/// Sends all of these, and ends its output.
fn sends_and_ends(data: &'static [u8]) -> impl crate::peer::React + Clone {
    move |on: On<'_>, io: &mut Io<'_>| match on {
        On::Connect => {
            io.send(data)?;
            io.shutdown()
        }
        _ => passive(on, io),
    }
}

fn framing() -> Vec<Script> {
    let frames = |name: &str, terminator: fn() -> Terminator, data: &'static [u8]| {
        script(
            name,
            move |reactor| listen(reactor, terminator, quiet),
            move |reactor| dial(reactor, sends_and_ends(data)),
        )
    };
    vec![
        frames("lines", newline, b"one\ntwo\n\nfour\n"),
        frames("a line that is not complete", newline, b"one\ntw"),
        frames("a terminator of several bytes", || "\r\n\r\n".into(), b"a\r\n\r\nb\r\nc\r\n\r\n"),
        frames("a terminator that begins within another", || "aab".into(), b"xaaab-aab"),
        frames("no terminator", || Terminator::Never, b"all of it"),
        frames("messages with their lengths", Terminator::prefixed_u16_be, b"\0\x03abc\0\0\0\x01d"),
        frames(
            "messages with long lengths",
            || Terminator::prefixed_u32_be(100),
            b"\0\0\0\x02ab\0\0\0\x01c",
        ),
        frames(
            "a message that is longer than its length may be",
            || Terminator::prefixed_u32_be(3),
            b"\0\0\0\x02ab\0\0\0\x04abcd",
        ),
        script(
            "lines that arrive in parts",
            |reactor| listen(reactor, newline, quiet),
            |reactor| {
                let mut parts = [&b"on"[..], b"e\ntw", b"o", b"\n", b"three\nfour"].into_iter();
                dial(reactor, move |on, io| match on {
                    On::Connect | On::Timer => match parts.next() {
                        Some(part) => {
                            io.send(part)?;
                            io.set_timer(moment() / 10);
                            Ok(())
                        }
                        None => Ok(io.close()),
                    },
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a header, a body of a given length, and a header again",
            |reactor| {
                let mut in_body = false;
                listen(reactor, newline, move |on, chat| match on {
                    OnChat::Message(message) => {
                        in_body = !in_body;
                        if in_body {
                            let len: usize = String::from_utf8_lossy(&message).parse().unwrap();
                            chat.set_terminator(Terminator::Length(len));
                        } else {
                            chat.set_terminator("\n");
                        }
                        Ok(())
                    }
                    _ => quiet(on, chat),
                })
            },
            |reactor| dial(reactor, sends_and_ends(b"5\nh\nl\no0\n3\nyou7\nno")),
        ),
        script(
            "a long message",
            |reactor| listen_with(reactor, newline, quiet, |chat| chat.with_max_message(1_000_000)),
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        // Without newlines.
                        let line: Vec<_> = vec![b'.'; 200_000];
                        io.send(&line)?;
                        io.send(b"\n")?;
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a message that is too long",
            |reactor| listen_with(reactor, newline, quiet, |chat| chat.with_max_message(10)),
            // The client is reset; the eleventh byte is the last one.
            |reactor| dial(reactor, sends(b"12345678901", passive)),
        ),
        script(
            "a message that takes too long",
            |reactor| {
                listen_with(reactor, newline, quiet, |chat| chat.with_message_timeout(moment()))
            },
            |reactor| dial(reactor, sends(b"x", passive)),
        ),
        script(
            "no message, and so none that takes too long",
            |reactor| {
                listen_with(reactor, newline, quiet, |chat| chat.with_message_timeout(moment()))
            },
            |reactor| {
                dial(reactor, |on, io| match on {
                    On::Connect => {
                        io.set_timer(3 * moment());
                        Ok(())
                    }
                    On::Timer => Ok(io.close()),
                    _ => Ok(()),
                })
            },
        ),
        script(
            "a message in the middle of which the server closes",
            |reactor| {
                listen(reactor, newline, |on, chat| match on {
                    OnChat::Message(_) => {
                        note(format!("unparsed \"{}\"", chat.unparsed().escape_ascii()));
                        chat.push(b"bye")?;
                        chat.close_when_done();
                        note_result("push", chat.push(b"more"));
                        Ok(())
                    }
                    _ => quiet(on, chat),
                })
            },
            // Of one byte, so that it is all there.
            |reactor| dial(reactor, sends(b"\n", passive)),
        ),
        script(
            "a conversation of two chats",
            |reactor| {
                listen(reactor, newline, |on, chat| match on {
                    OnChat::Message(message) => {
                        chat.push(format!("you said {}\n", message.len()).as_bytes())
                    }
                    _ => quiet(on, chat),
                })
            },
            |reactor| {
                let mut replies = 0;
                let peer = ChatPeer::new("client", move |on, chat| match on {
                    OnChat::Connect => {
                        for line in ["a\n", "bc\n", "\n"] {
                            chat.push(line.as_bytes())?;
                        }
                        Ok(())
                    }
                    OnChat::Message(_) => {
                        replies += 1;
                        if replies == 3 {
                            chat.close_when_done();
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                });
                let connector = Connector::to_addrs([run::addr()]);
                reactor.add(connector.connect(Chat::new("\n", peer))).map(drop)
            },
        ),
        script(
            "buffers that are discarded",
            |reactor| {
                listen(reactor, newline, |on, chat| match on {
                    OnChat::Connect => {
                        chat.push_with_producer(producer_from_iter(["never"; 3]))?;
                        chat.discard_buffers();
                        chat.push(b"only this")?;
                        chat.close_when_done();
                        Ok(())
                    }
                    _ => quiet(on, chat),
                })
            },
            |reactor| dial(reactor, passive),
        ),
    ]
}

fn producers() -> Vec<Script> {
    // The server produces when it is connected, and closes.
    let produces = |name: &str, react: fn(&mut ChatIo<'_>) -> io::Result<()>| {
        script(
            name,
            move |reactor| {
                let react = move |on: OnChat, chat: &mut ChatIo<'_>| match on {
                    OnChat::Connect => react(chat),
                    _ => quiet(on, chat),
                };
                let accept = move |_: &_| Ok(Chat::new("\n", ChatPeer::new("server", react)));
                let listener = Listener::bind(run::addr(), accept)?;
                let options =
                    SocketOptions { send_buffer_size: Some(16_384), ..SocketOptions::default() };
                add_listener(reactor, listener.with_socket_options(options)?).map(drop)
            },
            |reactor| dial(reactor, passive),
        )
    };
    vec![
        produces("pieces of an iterator", |chat| {
            chat.push(b"first, ")?;
            chat.push_with_producer(producer_from_iter(["a", "b", "c"]))?;
            chat.push(b", last")?;
            chat.close_when_done();
            Ok(())
        }),
        produces("a large source, read when there is room", |chat| {
            chat.push_with_producer(producer_from_reader(io::Cursor::new(pattern(300_000))))?;
            chat.push(b"end")?;
            chat.close_when_done();
            Ok(())
        }),
        produces("two producers", |chat| {
            chat.push_with_producer(producer_from_iter((0..100).map(|number| [number; 3_000])))?;
            chat.push_with_producer(producer_from_reader(io::Cursor::new(pattern(100_000))))?;
            chat.close_when_done();
            Ok(())
        }),
        produces("a source of which only a part is sent", |chat| {
            let source = io::Cursor::new(pattern(50_000));
            chat.push_with_producer(producer_from_reader_exact(source, 20_000))?;
            chat.close_when_done();
            Ok(())
        }),
        script(
            "a source that is too short",
            |reactor| {
                listen(reactor, newline, |on, chat| match on {
                    OnChat::Message(_) => {
                        let source = io::Cursor::new(b"");
                        chat.push_with_producer(producer_from_reader_exact(source, 5))
                    }
                    _ => quiet(on, chat),
                })
            },
            |reactor| dial(reactor, sends(b"\n", passive)),
        ),
        script(
            "a producer that has nothing for a while",
            |reactor| {
                listen(reactor, newline, |on, chat| match on {
                    OnChat::Connect => {
                        let mut calls = 0;
                        chat.push_with_producer(move |buffer: &mut Vec<u8>| {
                            calls += 1;
                            Ok(match calls {
                                1 => {
                                    buffer.extend(b"first");
                                    Produced::Data
                                }
                                2 => Produced::Later,
                                3 => {
                                    buffer.extend(b"second");
                                    Produced::Data
                                }
                                _ => Produced::End,
                            })
                        })?;
                        chat.push(b"third")?;
                        wait(chat.io())
                    }
                    OnChat::Timer => {
                        chat.resume_output();
                        chat.close_when_done();
                        Ok(())
                    }
                    _ => quiet(on, chat),
                })
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "a chat that writes when all is sent",
            |reactor| {
                let accept = |_: &_| {
                    let mut count = 0;
                    let mut peer = ChatPeer::new("server", move |on, chat| match on {
                        OnChat::Write => {
                            count += 1;
                            chat.push(&[count; 1_000])?;
                            if count == 5 {
                                chat.close_when_done();
                            }
                            Ok(())
                        }
                        _ => quiet(on, chat),
                    });
                    peer.writes = 5;
                    Ok(Chat::new("\n", peer))
                };
                add_listener(reactor, Listener::bind(run::addr(), accept)?).map(drop)
            },
            |reactor| dial(reactor, closes_after(5_000)),
        ),
    ]
}
