//! Slow work on another thread: a server that tests numbers, one per line, for
//! primality, and serves all other clients meanwhile.
//!
//! ```text
//! cargo run --package reactor --example post_from_thread [ADDRESS]
//! echo 1009 | nc 127.0.0.1 9999
//! ```
//!
//! The worker identifies clients by their tokens, and posts each answer to the
//! loop through a [`Handle`]. The token of a closed client finds no stream.

use std::env;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use anyhow::bail;
use reactor::{
    Chat, ChatIo, ChatProtocol, Context, Handle, Listener, Reactor, ReactorClosed, Token,
};

/// The maximum number of queued questions, as the loop must not wait for room.
const QUESTIONS: usize = 100;

struct Client {
    questions: SyncSender<(Token, u64)>,
    /// The number of pending answers.
    pending: usize,
    /// The client has sent its last question.
    input_ended: bool,
}

impl ChatProtocol for Client {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let line = chat.take_collected();
        let Ok(number) = String::from_utf8_lossy(&line).trim().parse() else {
            return chat.push(b"not a number\n");
        };
        match self.questions.try_send((chat.io().token(), number)) {
            Ok(()) => self.pending += 1,
            Err(TrySendError::Full(_)) => return chat.push(b"too busy, ask again\n"),
            Err(TrySendError::Disconnected(_)) => return Err(io::Error::other("no worker")),
        }
        Ok(())
    }

    /// A client that has only shut down its output still receives its answers.
    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.input_ended = true;
        if self.pending == 0 {
            chat.close_when_done();
        }
        Ok(())
    }
}

/// Runs in the loop, posted by the worker.
fn answer(cx: &mut Context, client: Token, answer: &str) {
    cx.with_chat(client, |client: &mut Client, chat| {
        if chat.push(answer.as_bytes()).is_err() {
            return chat.io().abort(); // It does not read, or has disconnected.
        }
        client.pending -= 1;
        if client.input_ended && client.pending == 0 {
            chat.close_when_done();
        }
    });
}

/// Runs on a separate thread until the reactor no longer exists.
fn work(questions: &Receiver<(Token, u64)>, handle: &Handle) -> Result<(), ReactorClosed> {
    for (client, number) in questions {
        let verdict = if is_prime(number) { "is prime" } else { "is not prime" };
        let line = format!("{number} {verdict}\n");
        handle.post(move |cx| answer(cx, client, &line))?;
    }
    Ok(())
}

/// Takes seconds for a large prime.
fn is_prime(number: u64) -> bool {
    number > 1 && (2..=number.isqrt()).all(|factor| !number.is_multiple_of(factor))
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (addr, None) = (args.next(), args.next()) else {
        bail!("usage: post_from_thread [ADDRESS]");
    };
    let mut reactor = Reactor::new()?;
    let (questions_tx, questions_rx) = mpsc::sync_channel(QUESTIONS);
    let handle = reactor.handle();
    thread::spawn(move || work(&questions_rx, &handle));

    let listener = Listener::bind(addr.as_deref().unwrap_or("127.0.0.1:9999"), move |_| {
        let questions = questions_tx.clone();
        Ok(Chat::new("\n", Client { questions, pending: 0, input_ended: false }))
    })?;
    println!("Listening on {}", listener.local_addr());
    reactor.add(listener)?;
    Ok(reactor.run()?)
}
