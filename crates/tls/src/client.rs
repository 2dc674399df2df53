//! [`Client`]: what a TLS client trusts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reactor::{Protocol, Stream};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::engine::Session;
use crate::error::TlsError;
use crate::files::{FileError, load_certified_key, load_roots};
use crate::filter::Tls;

/// The files of a TLS client, in PEM format.
#[derive(Clone, Debug, Default)]
pub struct ClientFiles {
    /// The authorities that may sign the certificate of a server; `None` for those that
    /// the system trusts.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key, for servers that require one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The application protocols that the client offers (ALPN).
    pub alpn_protocols: Vec<Vec<u8>>,
}

/// A TLS client. Clones share the configuration, and the sessions that can be resumed (of
/// the latest 256 servers).
///
/// # Examples
///
/// ```no_run
/// use std::io;
/// use reactor::{Io, Protocol, Reactor, Stream};
/// use tls::{Client, ClientFiles};
///
/// struct Get;
///
/// impl Protocol for Get {
///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
///         io.send(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")
///     }
///     fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
///         print!("{}", String::from_utf8_lossy(data));
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::from_files(&ClientFiles::default())?;
/// let stream = Stream::connect_host("example.org", 443, Get);
/// let mut reactor = Reactor::new()?;
/// reactor.add(client.connect(stream, "example.org")?)?;
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// Loads the files.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file, as
    /// [`Server::from_files`](crate::Server::from_files) does, or says that the system
    /// trusts no certificates.
    pub fn from_files(files: &ClientFiles) -> Result<Self, FileError> {
        let provider = Arc::new(ring::default_provider());
        let roots = match &files.ca {
            Some(path) => load_roots(path)?,
            None => system_roots()?,
        };
        let path = files.ca.as_deref().unwrap_or(Path::new(SYSTEM_ROOTS));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| FileError::new(path, error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let key = load_certified_key(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols.clone_from(&files.alpn_protocols);
        Ok(Client { config: Arc::new(config) })
    }

    /// Makes every handshake a full one: no session is resumed.
    pub fn without_resumption(mut self) -> Self {
        Arc::make_mut(&mut self.config).resumption = Resumption::disabled();
        self
    }

    /// Creates the filter of a connection to the server `name`: a host name or an IP
    /// address, for which its certificate must be valid.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if `name` is neither.
    pub fn filter(&self, name: &str) -> io::Result<Tls> {
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            let message = format!("`{name}` is not the name of a host");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        let session = Session::client(Arc::clone(&self.config), name);
        Ok(Tls::new(session.map_err(|error| TlsError::new(error, None))?))
    }

    /// Makes a stream a TLS connection to the server `name`.
    ///
    /// # Errors
    ///
    /// The same as for [`filter`](Self::filter).
    pub fn connect<P: Protocol>(&self, stream: Stream<P>, name: &str) -> io::Result<Stream<P>> {
        Ok(stream.with_filter(self.filter(name)?))
    }
}

const SYSTEM_ROOTS: &str = "the certificates of the system";

fn system_roots() -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some systems trust certificates that are too old to be parsed.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let problem = found.errors.first().map_or_else(
            || "none found; install them, or name a file of certificates to trust".to_owned(),
            ToString::to_string,
        );
        return Err(FileError::new(Path::new(SYSTEM_ROOTS), problem));
    }
    Ok(roots)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
