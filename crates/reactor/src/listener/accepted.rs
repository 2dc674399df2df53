//! [`Accepted`]: a connection that was accepted, and what becomes of it.

use std::io;
use std::rc::Rc;

use crate::address::Address;
use crate::filter::Filter;
use crate::reactor::Context;
use crate::stream::Stream;
use crate::stream::config::StreamConfig;
use crate::stream::connection::Connection;
use crate::stream::protocol::Protocol;
use crate::sys::either::Socket;
use crate::sys::endpoint::Endpoint;

/// Handles an accepted connection.
pub(super) type Handler = Box<dyn FnMut(&mut Context, Accepted<'_>) -> io::Result<()>>;

/// Creates a filter for an accepted connection.
pub(super) type FilterFactory = Box<dyn FnMut(&Address) -> io::Result<Box<dyn Filter>>>;

/// A connection that was accepted, and counted by the listener's limit.
pub(super) struct Accepted<'a> {
    pub(super) socket: Socket,
    pub(super) peer: Address,
    pub(super) config: Rc<StreamConfig>,
    pub(super) filters: &'a mut [FilterFactory],
}

/// Creates a stream for each connection, with the protocol that `handle_accepted` returns.
pub(super) fn stream_handler<P: Protocol>(
    mut handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
) -> Handler {
    Box::new(move |cx, accepted| {
        let Accepted { socket, peer, config, filters } = accepted;
        // From here on the connection is counted until it is dropped.
        let mut connection = Connection::new(Endpoint::Socket(socket), peer, config);
        let peer = connection.peer_addr();
        for create in filters {
            connection.add_filter(create(&peer)?);
        }
        let protocol = handle_accepted(&peer)?;
        cx.add(Stream::from_connection(connection, protocol)).map(drop)
    })
}
