//! A key-value server for clients of Redis: PING, ECHO, SET, GET, DEL, EXPIRE,
//! TTL, SUBSCRIBE, PUBLISH and QUIT.
//!
//! ```text
//! cargo run --package reactor --example resp [ADDRESS]
//! redis-cli -p 6380
//! ```
//!
//! A command of RESP, the protocol of Redis, is a line with the number of its
//! arguments, and for each argument a line with its length, its bytes, and an end
//! of line. So the terminator alternates between "\r\n" and a length.

use std::cell::RefCell;
use std::collections::HashMap;
use std::env;
use std::io::{self, ErrorKind};
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use reactor::{
    Chat, ChatIo, ChatProtocol, CloseReason, Listener, Reactor, Terminator, TimerId, Token,
};

const MAX_ARGS: usize = 1024;
/// Of one argument, in bytes.
const MAX_LEN: usize = 1 << 20;
const MAX_SECONDS: usize = 1 << 30;

struct Entry {
    value: Vec<u8>,
    /// The timer that removes the entry, and when.
    expiry: Option<(TimerId, Instant)>,
}

/// What all connections share.
#[derive(Default)]
struct Database {
    entries: HashMap<Vec<u8>, Entry>,
    subscribers: HashMap<Vec<u8>, Vec<Token>>,
}

/// The part of a command that is received next.
enum Next {
    Command,
    Len,
    Argument,
}

struct Client {
    database: Rc<RefCell<Database>>,
    next: Next,
    args: Vec<Vec<u8>>,
    /// The number of arguments that the command still lacks.
    missing: usize,
    topics: Vec<Vec<u8>>,
}

impl ChatProtocol for Client {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let mut data = chat.take_collected();
        match (&self.next, data.split_first()) {
            (Next::Command, Some((b'*', count))) => {
                self.missing = parse(count, MAX_ARGS)?;
                self.next = Next::Len;
            }
            // A command on one line, as a person types it.
            (Next::Command, _) => {
                let words = data.split(u8::is_ascii_whitespace);
                self.args = words.filter(|word| !word.is_empty()).map(<[_]>::to_vec).collect();
            }
            (Next::Len, Some((b'$', len))) => {
                chat.set_terminator(Terminator::Length(parse(len, MAX_LEN)? + 2));
                self.next = Next::Argument;
            }
            (Next::Argument, _) if data.ends_with(b"\r\n") => {
                data.truncate(data.len() - 2);
                self.args.push(data);
                self.missing -= 1;
                self.next = Next::Len;
                chat.set_terminator("\r\n");
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        }
        if self.missing > 0 {
            return Ok(());
        }
        self.next = Next::Command;
        match &mem::take(&mut self.args)[..] {
            [] => Ok(()),
            [name, args @ ..] => self.execute(chat, &name.to_ascii_uppercase(), args),
        }
    }

    fn handle_close(&mut self, chat: &mut ChatIo<'_>, _reason: &CloseReason) {
        let mut database = self.database.borrow_mut();
        for topic in &self.topics {
            if let Some(tokens) = database.subscribers.get_mut(topic) {
                tokens.retain(|&token| token != chat.token());
            }
        }
    }
}

impl Client {
    fn execute(&mut self, chat: &mut ChatIo<'_>, name: &[u8], args: &[Vec<u8>]) -> io::Result<()> {
        let mut database = self.database.borrow_mut();
        match (name, args) {
            (b"QUIT", _) => {
                chat.push(b"+OK\r\n")?;
                chat.close_when_done();
                Ok(())
            }
            (b"PING", []) => chat.push(b"+PONG\r\n"),
            (b"ECHO", [text]) => chat.push(&bulk(text)),
            // As in Redis, so that no message goes to the one who publishes it.
            (b"PUBLISH", _) if !self.topics.is_empty() => {
                chat.push(b"-ERR a subscriber cannot publish\r\n")
            }
            (b"SET", [key, value]) => {
                let entry = Entry { value: value.clone(), expiry: None };
                cancel_expiry(chat, database.entries.insert(key.clone(), entry).as_ref());
                chat.push(b"+OK\r\n")
            }
            (b"GET", [key]) => match database.entries.get(key) {
                Some(entry) => chat.push(&bulk(&entry.value)),
                None => chat.push(b"$-1\r\n"),
            },
            (b"DEL", keys) => {
                let removed = keys
                    .iter()
                    .filter(|&key| cancel_expiry(chat, database.entries.remove(key).as_ref()))
                    .count();
                chat.push(&integer(removed))
            }
            (b"EXPIRE", [key, seconds]) => {
                let Some(entry) = database.entries.get_mut(key) else {
                    return chat.push(&integer(0));
                };
                let after = Duration::from_secs(parse(seconds, MAX_SECONDS)? as u64);
                let (shared, expired) = (Rc::clone(&self.database), key.clone());
                let cx = chat.context();
                let timer = cx.call_later(after, move |_| {
                    shared.borrow_mut().entries.remove(&expired);
                });
                if let Some((old, _)) = entry.expiry.replace((timer, cx.now() + after)) {
                    cx.cancel(old);
                }
                chat.push(&integer(1))
            }
            (b"TTL", [key]) => {
                let now = chat.context().now();
                match database.entries.get(key).map(|entry| entry.expiry) {
                    None => chat.push(&integer(-2)),
                    Some(None) => chat.push(&integer(-1)),
                    Some(Some((_, at))) => {
                        let rounded =
                            at.saturating_duration_since(now) + Duration::from_millis(500);
                        chat.push(&integer(rounded.as_secs()))
                    }
                }
            }
            (b"SUBSCRIBE", [topic]) => {
                if !self.topics.contains(topic) {
                    database.subscribers.entry(topic.clone()).or_default().push(chat.token());
                    self.topics.push(topic.clone());
                }
                let count = integer(self.topics.len());
                chat.push(&[b"*3\r\n", &bulk(b"subscribe")[..], &bulk(topic), &count].concat())
            }
            (b"PUBLISH", [topic, text]) => {
                let message =
                    [b"*3\r\n", &bulk(b"message")[..], &bulk(topic), &bulk(text)].concat();
                let mut received = 0;
                for &token in database.subscribers.get(topic).into_iter().flatten() {
                    chat.context().with_chat(token, |_: &mut Self, subscriber| {
                        match subscriber.push(&message) {
                            Ok(()) => received += 1,
                            // It does not read.
                            Err(_) => subscriber.io().abort(),
                        }
                    });
                }
                chat.push(&integer(received))
            }
            _ => chat.push(b"-ERR unknown command or number of arguments\r\n"),
        }
    }
}

/// Cancels the timer of an entry that was removed, if one was.
fn cancel_expiry(chat: &mut ChatIo<'_>, removed: Option<&Entry>) -> bool {
    if let Some((timer, _)) = removed.and_then(|entry| entry.expiry) {
        chat.context().cancel(timer);
    }
    removed.is_some()
}

/// Parses a number of at most `max`.
fn parse(text: &[u8], max: usize) -> io::Result<usize> {
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.filter(|&number| number <= max).ok_or_else(|| ErrorKind::InvalidData.into())
}

fn bulk(data: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn integer(number: impl std::fmt::Display) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (addr, None) = (args.next(), args.next()) else { bail!("usage: resp [ADDRESS]") };

    let mut reactor = Reactor::new()?;
    let database = Rc::default();
    let listener = Listener::bind(addr.as_deref().unwrap_or("127.0.0.1:6380"), move |_| {
        let database = Rc::clone(&database);
        let client =
            Client { database, next: Next::Command, args: vec![], missing: 0, topics: vec![] };
        Ok(Chat::new("\r\n", client).with_max_message(MAX_LEN + 2))
    })?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener)?;
    Ok(reactor.run()?)
}
