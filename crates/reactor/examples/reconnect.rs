//! A client that stays connected: sends each line of standard input to a server, and
//! prints the lines that it receives.
//!
//! ```text
//! cargo run --bin echo-server
//! cargo run --package reactor --example reconnect localhost 9999
//! ```
//!
//! Stop the server and start it again: the client connects again, after pauses that grow,
//! and resolves the name each time. A thread reads standard input, which blocks, and passes
//! each line to the loop through an [`inbox`].

use std::env;
use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reactor::{
    Chat, ChatIo, ChatProtocol, Connector, Context, InboxSender, Reactor, Reconnector, SendError,
    Token, inbox,
};

struct Client;

impl ChatProtocol for Client {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        println!("connected to {}", chat.io().peer_addr());
        Ok(())
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        println!("{}", String::from_utf8_lossy(&chat.take_collected()));
        Ok(())
    }
}

enum Command {
    Send(String),
    Quit,
}

/// Runs in the loop, for each message of the inbox.
fn handle(cx: &mut Context, client: Token, command: Command) {
    let stream = cx.get_mut::<Reconnector>(client).and_then(|client| client.stream());
    match command {
        Command::Send(line) => {
            let push = |_: &mut Client, chat: &mut ChatIo<'_>| chat.push(line.as_bytes());
            match stream.and_then(|stream| cx.with_chat(stream, push)) {
                Some(Ok(())) => {}
                Some(Err(error)) => println!("not sent: {error}"),
                None => println!("not sent: not connected"),
            }
        }
        Command::Quit => {
            let close = |_: &mut Client, chat: &mut ChatIo<'_>| chat.close_when_done();
            stream.and_then(|stream| cx.with_chat(stream, close));
            cx.close(client);
        }
    }
}

/// Runs on a separate thread.
fn read_lines(commands: &InboxSender<Command>) {
    for line in io::stdin().lines().map_while(Result::ok) {
        if commands.send(Command::Send(line + "\n")).is_err() {
            println!("not sent: too many lines are waiting");
        }
    }
    while let Err(SendError::Full(_)) = commands.send(Command::Quit) {
        thread::sleep(Duration::from_millis(10));
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(host), Some(port), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: reconnect HOST PORT");
    };
    let port: u16 = port.parse().context("PORT")?;
    let server = Connector::to_host(&host, port);
    let client = Reconnector::new(move || Ok(server.connect(Chat::new("\n", Client))))
        .with_handler(move |_cx, reason, pause| match pause {
            Some(pause) => println!("{host}:{port}: {reason}; connecting again in {pause:.1?}"),
            None => println!("{host}:{port}: {reason}"),
        });
    let mut reactor = Reactor::new()?;
    let client = reactor.add(client)?;
    let (commands, inbox) = inbox(1_000, move |cx, command| {
        handle(cx, client, command);
        Ok(())
    });
    reactor.add(inbox)?;
    thread::spawn(move || read_lines(&commands));
    Ok(reactor.run()?)
}
