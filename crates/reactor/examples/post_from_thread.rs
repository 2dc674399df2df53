//! Slow work on another thread: a server that says which numbers are prime, one a
//! line, and stays quick for everybody while it finds out.
//!
//! ```text
//! cargo run --package reactor --example post_from_thread [ADDRESS]
//! echo 1009 | nc 127.0.0.1 9999
//! ```
//!
//! The thread knows its askers by their tokens, and posts each answer into the
//! loop through a [`Handle`]. Who has left meanwhile is not found there any more.

use std::env;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use anyhow::bail;
use reactor::{
    Chat, ChatIo, ChatProtocol, Context, Handle, Listener, Reactor, ReactorClosed, Stream, Token,
};

/// How many questions may wait. The loop must not, so the next one is refused.
const QUESTIONS: usize = 100;

struct Asker {
    questions: SyncSender<(Token, u64)>,
    /// How many answers are to come.
    owed: usize,
    /// It asks no more.
    ended: bool,
}

impl ChatProtocol for Asker {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let line = chat.take_collected();
        let Ok(number) = String::from_utf8_lossy(&line).trim().parse() else {
            return chat.push(b"not a number\n");
        };
        match self.questions.try_send((chat.io().token(), number)) {
            Ok(()) => self.owed += 1,
            Err(TrySendError::Full(_)) => return chat.push(b"too busy, ask again\n"),
            Err(TrySendError::Disconnected(_)) => return Err(io::Error::other("no worker")),
        }
        Ok(())
    }

    /// Who only asks no more is still owed its answers.
    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.ended = true;
        if self.owed == 0 {
            chat.close_when_done();
        }
        Ok(())
    }
}

/// In the loop, where the worker posted it.
fn answer(cx: &mut Context, asker: Token, answer: &str) {
    let Some(stream) = cx.get_mut::<Stream<Chat<Asker>>>(asker) else { return };
    if stream.push(answer.as_bytes()).is_err() {
        return stream.abort(); // It reads no answers, or it is gone.
    }
    let asker = stream.protocol_mut().protocol_mut();
    asker.owed -= 1;
    if asker.ended && asker.owed == 0 {
        stream.close_when_done();
    }
}

/// On its own thread, for as long as there is a loop to post to.
fn work(questions: &Receiver<(Token, u64)>, handle: &Handle) -> Result<(), ReactorClosed> {
    for (asker, number) in questions {
        let verdict = if is_prime(number) { "is prime" } else { "is not prime" };
        let line = format!("{number} {verdict}\n");
        handle.post(move |cx| answer(cx, asker, &line))?;
    }
    Ok(())
}

/// The slow part: seconds for a large prime.
fn is_prime(number: u64) -> bool {
    number > 1 && (2..=number.isqrt()).all(|factor| !number.is_multiple_of(factor))
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (addr, None) = (args.next(), args.next()) else {
        bail!("usage: post_from_thread [ADDRESS]");
    };
    let mut reactor = Reactor::new()?;
    let (questions, asked) = mpsc::sync_channel(QUESTIONS);
    let handle = reactor.handle();
    thread::spawn(move || work(&asked, &handle));

    let listener = Listener::bind(addr.as_deref().unwrap_or("127.0.0.1:9999"), move |_| {
        let questions = questions.clone();
        Ok(Chat::new("\n", Asker { questions, owed: 0, ended: false }))
    })?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener)?;
    Ok(reactor.run()?)
}
