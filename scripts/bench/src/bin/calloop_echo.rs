//! An echo server on calloop: an event source for each connection,
//! level-triggered.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::rc::Rc;

use calloop::generic::Generic;
use calloop::{
    EventLoop, EventSource, Interest, Mode, Poll, PostAction, Readiness, Token, TokenFactory,
};
use peers::{BUFFER, Unsent, echo, listen};

struct Connection {
    stream: Generic<TcpStream>,
    unsent: Unsent,
    /// One for all.
    buffer: Rc<RefCell<Vec<u8>>>,
}

impl EventSource for Connection {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(&mut self, ready: Readiness, token: Token, _: F) -> io::Result<PostAction>
    where
        F: FnMut((), &mut ()),
    {
        let Connection { stream, unsent, buffer } = self;
        let waited_to_send = !unsent.is_empty();
        let action = stream.process_events(ready, token, |_, stream| {
            let mut stream: &TcpStream = stream;
            if !unsent.flush(&mut stream).unwrap_or(false) {
                return Ok(PostAction::Continue);
            }
            match echo(&mut stream, &mut buffer.borrow_mut(), unsent) {
                Ok(1..) => Ok(PostAction::Continue),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(PostAction::Continue),
                Ok(0) | Err(_) => Ok(PostAction::Remove),
            }
        })?;
        let waits_to_send = !unsent.is_empty();
        if action != PostAction::Continue || waits_to_send == waited_to_send {
            return Ok(action);
        }
        stream.interest = if waits_to_send { Interest::WRITE } else { Interest::READ };
        Ok(PostAction::Reregister)
    }

    fn register(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.stream.register(poll, tokens)
    }

    fn reregister(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.stream.reregister(poll, tokens)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.stream.unregister(poll)
    }
}

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::<()>::try_new().map_err(io::Error::other)?;
    let handle = event_loop.handle();
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
    let listener = Generic::new(listen()?, Interest::READ, Mode::Level);
    let inserting = handle.clone();
    handle
        .insert_source(listener, move |_, listener, ()| {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                let _ = stream.set_nodelay(true);
                let connection = Connection {
                    stream: Generic::new(stream, Interest::READ, Mode::Level),
                    unsent: Unsent::default(),
                    buffer: Rc::clone(&buffer),
                };
                inserting
                    .insert_source(connection, |(), (), ()| {})
                    .map_err(|failed| io::Error::other(failed.error))?;
            }
            Ok(PostAction::Continue)
        })
        .map_err(|failed| io::Error::other(failed.error))?;
    event_loop.run(None, &mut (), |()| {}).map_err(io::Error::other)
}
