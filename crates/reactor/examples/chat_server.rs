//! A chat room: each line of a peer is sent to all peers.
//!
//! ```text
//! cargo run --package reactor --example chat_server [ADDRESS]
//! nc 127.0.0.1 9999      # in several other terminals
//! ```
//!
//! A peer that does not read does not delay the others. Output that the kernel
//! does not accept is queued in its stream; once `high_water` bytes are queued,
//! the next message is rejected, and the peer is closed. With less output, the
//! stall timeout closes it.
//!
//! The server announces who joins and who leaves. A peer that left may have
//! missed lines; TCP does not report which. The example `chat` of `crates/sim`
//! tests that each line reaches all peers, or that its sender is notified.

use std::cell::RefCell;
use std::env;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use reactor::{Chat, ChatIo, ChatProtocol, CloseReason, Limits, Listener, Reactor, Token};

/// The peers in the room.
///
/// State of one connection is a field of its protocol; this state is shared.
/// All protocols run on one thread, so `Rc` and `RefCell` suffice. The loop
/// runs one callback at a time, and `push` makes none, so borrowing never
/// fails.
type Room = Rc<RefCell<Vec<Token>>>;

struct Peer {
    name: String,
    room: Room,
}

impl Peer {
    /// Sends a line to the others.
    fn tell_others(&self, chat: &mut ChatIo<'_>, line: &[u8]) {
        for &token in self.room.borrow().iter() {
            // `None` for this peer, and for a peer that is closing.
            chat.context().with_chat(token, |_: &mut Peer, peer| {
                if peer.push(line).is_err() {
                    // It does not read (`WouldBlock`), or has disconnected.
                    peer.io().abort();
                }
            });
        }
    }
}

impl ChatProtocol for Peer {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let joined = format!("{} joined\n", self.name);
        print!("{joined}");
        self.room.borrow_mut().push(chat.token());
        self.tell_others(chat, joined.as_bytes());
        chat.push(joined.as_bytes())
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let line = chat.take_collected();
        // telnet ends lines with CR LF.
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let message = [self.name.as_bytes(), b": ", line, b"\n"].concat();
        self.tell_others(chat, &message);
        // There is room: without it `Chat` does not parse further lines.
        chat.push(&message)
    }

    fn handle_close(&mut self, chat: &mut ChatIo<'_>, reason: &CloseReason) {
        let me = chat.token();
        self.room.borrow_mut().retain(|&token| token != me);
        let left = format!("{} left: {reason}\n", self.name);
        print!("{left}");
        self.tell_others(chat, left.as_bytes());
    }
}

pub(crate) fn setup(reactor: &mut Reactor, addr: &str) -> io::Result<()> {
    let room = Room::default();
    let listener = Listener::bind(addr, move |peer| {
        Ok(Chat::new("\n", Peer { name: peer.to_string(), room: Rc::clone(&room) }))
    })?;
    println!("Listening on {}", listener.local_addr());
    let limits = Limits { stall_timeout: Some(Duration::from_secs(10)), ..Limits::default() };
    reactor.add(listener.with_limits(limits)).map(drop)
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (addr, None) = (args.next(), args.next()) else { bail!("usage: chat_server [ADDRESS]") };
    let mut reactor = Reactor::new()?;
    setup(&mut reactor, addr.as_deref().unwrap_or("127.0.0.1:9999"))?;
    Ok(reactor.run()?)
}
