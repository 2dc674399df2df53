//! Driving a session of rustls: bytes in, bytes out.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

/// What encryption adds to a record at most: the header, and in TLS 1.2 an explicit nonce,
/// the tag, and the type of the content.
const RECORD_OVERHEAD: usize = 64;

/// Room for a message of a handshake, to begin with.
const MESSAGE_SIZE: usize = 4096;

/// A client's or a server's side of a session.
pub(crate) enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// How far a session has come.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The handshake is complete.
    pub(crate) is_ready: bool,
    /// The peer has sent `close_notify`.
    pub(crate) has_ended: bool,
}

impl Session {
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        Ok(Session::Client(Box::new(UnbufferedClientConnection::new(config, name)?)))
    }

    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Session::Server(Box::new(UnbufferedServerConnection::new(config)?)))
    }

    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Session::Client(session) => session,
            Session::Server(session) => session,
        }
    }

    /// Processes the records at the start of `raw`: appends what was received to `plain`,
    /// and what must be sent to `wire`. Returns how many bytes of `raw` are used up.
    ///
    /// After an error, `wire` ends with the alert that reports it.
    pub(crate) fn process(
        &mut self,
        raw: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> (usize, Result<Progress, Error>) {
        match self {
            Session::Client(session) => process(&mut **session, raw, plain, wire),
            Session::Server(session) => process(&mut **session, raw, plain, wire),
        }
    }

    /// Encrypts `plain`, or what ends the output if it is `None`. `raw` is what was
    /// received and is not used up.
    pub(crate) fn encrypt(
        &mut self,
        plain: Option<&[u8]>,
        raw: &mut [u8],
        wire: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match self {
            Session::Client(session) => encrypt(&mut **session, plain, raw, wire),
            Session::Server(session) => encrypt(&mut **session, plain, raw, wire),
        }
    }
}

/// What the two kinds of session have in common.
trait Unbuffered {
    type Data;

    fn advance<'c, 'i>(&'c mut self, raw: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn advance<'c, 'i>(&'c mut self, raw: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(raw)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn advance<'c, 'i>(&'c mut self, raw: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(raw)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

fn process<S: Unbuffered>(
    session: &mut S,
    raw: &mut [u8],
    plain: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> (usize, Result<Progress, Error>) {
    let raw_len = raw.len();
    let mut used = 0;
    let mut progress = Progress::default();
    loop {
        let UnbufferedStatus { discard, state, .. } = session.advance(&mut raw[used..]);
        let is_done = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                // Usually nothing follows the last record.
                let mut result = Ok(used + discard == raw_len);
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => plain.extend_from_slice(record.payload),
                        Err(error) => result = Err(error),
                    }
                }
                result
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(wire, MESSAGE_SIZE, |to| match data.encode(to) {
                    Ok(len) => Ok(len),
                    Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    Err(EncodeError::AlreadyEncoded) => Err(None),
                })
                .map(|()| false)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(false)
            }
            Ok(ConnectionState::PeerClosed) => {
                progress.has_ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(error) => {
                used += discard;
                // The buffer must stay the same: the session refers to it.
                append_alert(session, &mut raw[used..], wire);
                return (used, Err(error));
            }
        };
        used += discard;
        match is_done {
            Ok(true) if !session.state().wants_write() => {
                progress.is_ready = !session.state().is_handshaking();
                return (used, Ok(progress));
            }
            Ok(_) => {}
            Err(error) => return (used, Err(error)),
        }
    }
}

/// Appends the alert of a session that has failed. Without one, the session must not be
/// advanced: it would fail again.
fn append_alert<S: Unbuffered>(session: &mut S, raw: &mut [u8], wire: &mut Vec<u8>) {
    while session.state().wants_write()
        && let Ok(ConnectionState::EncodeTlsData(mut data)) = session.advance(raw).state
    {
        let encoded = append(wire, MESSAGE_SIZE, |to| match data.encode(to) {
            Ok(len) => Ok(len),
            Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
            Err(EncodeError::AlreadyEncoded) => Err(None),
        });
        if encoded.is_err() {
            return;
        }
    }
}

fn encrypt<S: Unbuffered>(
    session: &mut S,
    plain: Option<&[u8]>,
    raw: &mut [u8],
    wire: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        match session.advance(raw).state? {
            ConnectionState::WriteTraffic(traffic) => return write(traffic, plain, wire),
            ConnectionState::EncodeTlsData(mut data) => {
                append(wire, MESSAGE_SIZE, |to| match data.encode(to) {
                    Ok(len) => Ok(len),
                    Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    Err(EncodeError::AlreadyEncoded) => Err(None),
                })?;
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => return Err(Error::HandshakeNotComplete),
        }
    }
}

fn write<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    plain: Option<&[u8]>,
    wire: &mut Vec<u8>,
) -> Result<(), Error> {
    let size = plain.map_or(0, <[u8]>::len) + RECORD_OVERHEAD;
    append(wire, size, |to| {
        let result = match plain {
            Some(plain) => traffic.encrypt(plain, to),
            None => traffic.queue_close_notify(to),
        };
        match result {
            Ok(len) => Ok(len),
            Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
            Err(EncryptError::EncryptExhausted) => Err(None),
        }
    })
}

/// Appends what `write` writes to a buffer of `size` bytes. If it needs more, it returns
/// how much, and is called again.
fn append(
    wire: &mut Vec<u8>,
    mut size: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Error> {
    let start = wire.len();
    loop {
        wire.resize(start + size, 0);
        match write(&mut wire[start..]) {
            Ok(len) => {
                wire.truncate(start + len);
                return Ok(());
            }
            Err(Some(required)) if required > size => size = required,
            Err(_) => {
                wire.truncate(start);
                return Err(Error::EncryptError);
            }
        }
    }
}
