//! Compile-time properties of the public types: `Send`, `Sync` and `Debug`.

use std::error::Error;
use std::fmt::Debug;
use std::io;

use reactor::signal::Signals;
use reactor::{
    Address, Cause, ChannelInfo, Chat, ChatIo, CloseReason, Connection, ConnectionLimit, Context,
    Datagram, DatagramChannel, DatagramIo, Handle, Inbox, InboxSender, Io, LengthPrefix, Limits,
    Listener, MessageTooLong, OwnedDescriptor, Produced, Reactor, ReactorBuilder, ReactorClosed,
    SendError, SockRef, Source, Stats, Stream, Terminator, TimeoutKind, TimerId, Token,
};

const fn send_and_sync<T: Send + Sync>() {}
const fn copy<T: Copy>() {}
const fn error<T: Error + 'static>() {}
const fn debug<T: Debug>() {}

/// Fails to compile if the type is `Send`: the method would be ambiguous.
macro_rules! not_send {
    ($($type:ty),+ $(,)?) => {$(
        const _: fn() = || {
            trait AmbiguousIfSend<A> {
                fn check() {}
            }
            impl<T: ?Sized> AmbiguousIfSend<()> for T {}
            impl<T: ?Sized + Send> AmbiguousIfSend<u8> for T {}
            <$type>::check();
        };
    )+};
}

struct Any;

not_send!(Reactor, Context, Stream<Any>, Connection, Listener, Inbox<u32>, Signals);
not_send!(Io<'static>, ChatIo<'static>, DatagramIo<'static>);

const _: () = {
    send_and_sync::<Handle>();
    send_and_sync::<InboxSender<u32>>();
    send_and_sync::<SendError<u32>>();
    send_and_sync::<ReactorClosed>();
    send_and_sync::<ReactorBuilder>();
    send_and_sync::<Token>();
    send_and_sync::<TimerId>();
    send_and_sync::<Limits>();
    send_and_sync::<ConnectionLimit>();
    send_and_sync::<Address>();
    send_and_sync::<Cause>();
    send_and_sync::<CloseReason>();
    send_and_sync::<TimeoutKind>();
    send_and_sync::<ChannelInfo>();
    send_and_sync::<Stats>();
    send_and_sync::<Terminator>();
    send_and_sync::<LengthPrefix>();
    send_and_sync::<MessageTooLong>();
    send_and_sync::<Produced>();
    send_and_sync::<OwnedDescriptor>();

    copy::<Token>();
    copy::<TimerId>();
    copy::<Limits>();
    copy::<TimeoutKind>();
    copy::<Produced>();
    copy::<Source<'_>>();

    error::<Cause>();
    error::<CloseReason>();
    error::<ReactorClosed>();
    error::<SendError<u32>>();
    error::<MessageTooLong>();

    debug::<Reactor>();
    debug::<ReactorBuilder>();
    debug::<Context>();
    debug::<Handle>();
    debug::<Stats>();
    debug::<ChannelInfo>();
    debug::<Inbox<Any>>();
    debug::<InboxSender<u32>>();
    debug::<SendError<Any>>();
    debug::<Stream<Any>>();
    debug::<Connection>();
    debug::<Io<'_>>();
    debug::<Listener>();
    debug::<ConnectionLimit>();
    debug::<Chat<Any>>();
    debug::<ChatIo<'_>>();
    debug::<Datagram<Any>>();
    debug::<DatagramChannel>();
    debug::<DatagramIo<'_>>();
    debug::<Signals>();
    debug::<SockRef<'_>>();
    debug::<Source<'_>>();
};

/// The values of an `anyhow::Error`, or of a thread's result.
#[test]
fn close_reason_converts_to_a_boxed_error() {
    let cause = Cause::Error(io::ErrorKind::ConnectionRefused.into());
    let error: Box<dyn Error + Send + Sync> = CloseReason::new(cause, 1).into();
    assert_eq!(error.to_string(), "connection refused, 1 byte unsent");
    assert!(error.source().is_none(), "its text is part of the reason");
}
