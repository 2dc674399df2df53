//! A chat room: what one peer writes on a line, all get.
//!
//! ```text
//! cargo run --package reactor --example chat_server [ADDRESS]
//! nc 127.0.0.1 9999      # in several other terminals
//! ```
//!
//! Nobody waits for a peer that does not read. What the kernel will not take
//! for it is kept in its stream; once `high_water` bytes wait there, the next
//! message is refused, and the peer is cut off. Where too little is said to come
//! to that, its stall deadline ends it.

use std::cell::RefCell;
use std::env;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use reactor::{Chat, ChatIo, ChatProtocol, CloseReason, Limits, Listener, Reactor, Stream, Token};

/// Who is in the room.
///
/// What belongs to one connection is a plain field of its protocol, but this
/// belongs to all of them. They live on one thread, so `Rc` and `RefCell` will
/// do; and as the loop calls one of them at a time, and sending calls nobody
/// back, nobody ever finds it borrowed.
type Room = Rc<RefCell<Vec<Token>>>;

struct Peer {
    name: String,
    room: Room,
}

impl ChatProtocol for Peer {
    fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.room.borrow_mut().push(chat.token());
        println!("{} joined", self.name);
        Ok(())
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let line = chat.take_collected();
        // telnet ends its lines with both.
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let message = [self.name.as_bytes(), b": ", line, b"\n"].concat();
        for &token in self.room.borrow().iter() {
            // `None` for ourselves, and for a peer that is about to close.
            if let Some(peer) = chat.context().get_mut::<Stream<Chat<Peer>>>(token)
                && peer.push(&message).is_err()
            {
                // It does not read (`WouldBlock`), or it is gone.
                peer.abort();
            }
        }
        // There is room: while there is none, `Chat` looks for no line.
        chat.push(&message)
    }

    fn handle_close(&mut self, chat: &mut ChatIo<'_>, reason: &CloseReason) {
        let me = chat.token();
        self.room.borrow_mut().retain(|&token| token != me);
        println!("{} left: {reason}", self.name);
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let (addr, None) = (args.next(), args.next()) else { bail!("usage: chat_server [ADDRESS]") };

    let mut reactor = Reactor::new()?;
    let room = Room::default();
    let listener = Listener::bind(addr.as_deref().unwrap_or("127.0.0.1:9999"), move |peer| {
        Ok(Chat::new("\n", Peer { name: peer.to_string(), room: Rc::clone(&room) }))
    })?;
    println!("Listening on {}", listener.local_addr());
    let limits = Limits { stall_timeout: Some(Duration::from_secs(10)), ..Limits::default() };
    reactor.add(listener.with_limits(limits))?;
    Ok(reactor.run()?)
}
