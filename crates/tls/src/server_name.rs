//! The name that a client asks for: rustls' unbuffered API does not return it, but passes
//! it to the resolver of certificates, in the same call.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    /// The name in the latest `ClientHello` that was processed on this thread.
    static SERVER_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Returns the name in the `ClientHello` that was just processed.
pub(crate) fn take_server_name() -> Option<Box<str>> {
    SERVER_NAME.take()
}

/// A resolver that records the name.
#[derive(Debug)]
pub(crate) struct RecordingResolver(pub(crate) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for RecordingResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        SERVER_NAME.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
