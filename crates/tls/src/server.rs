//! [`Server`]: the certificate and the settings of a TLS server.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use reactor::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;

use crate::engine::Session;
use crate::error::TlsError;
use crate::files::{FileError, load_certified_key, load_roots};
use crate::filter::Tls;
use crate::server_name::RecordingResolver;

/// The files of a TLS server, in PEM format.
#[derive(Clone, Debug, Default)]
pub struct ServerFiles {
    /// The certificate, followed by those that signed it, up to one that clients trust.
    pub cert: PathBuf,
    /// The private key of the certificate: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
    /// If given, clients must present a certificate that one of these has signed.
    pub client_ca: Option<PathBuf>,
    /// The application protocols that the server offers (ALPN), the preferred one first.
    pub alpn_protocols: Vec<Vec<u8>>,
}

/// A TLS server. Clones share the configuration, also between threads.
///
/// TLS 1.2 and 1.3, as rustls configures them. Sessions are resumed with tickets, so the
/// server keeps nothing about them.
///
/// # Examples
///
/// ```no_run
/// use std::io;
/// use reactor::{Io, Listener, Protocol, Reactor};
/// use tls::{Server, ServerFiles, Tls};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
///         let name = io.filter::<Tls>().and_then(Tls::server_name);
///         println!("connection to {}", name.unwrap_or("no name"));
///         Ok(())
///     }
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
///         io.send(data)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::from_files(ServerFiles {
///     cert: "cert.pem".into(),
///     key: "key.pem".into(),
///     ..ServerFiles::default()
/// })?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(server.listen(Listener::bind("127.0.0.1:8443", |_| Ok(Echo))?))?;
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    files: ServerFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Server {
    /// Loads the files.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file if one cannot be read, or does not contain
    /// what it should; if the key does not belong to the certificate; or if the
    /// certificate is not valid now.
    pub fn from_files(files: ServerFiles) -> Result<Self, FileError> {
        let config = RwLock::new(Arc::new(load(&files)?));
        Ok(Server { shared: Arc::new(Shared { files, config }) })
    }

    /// Loads the files again, for connections that are accepted from now on. Connections
    /// that are open continue.
    ///
    /// # Errors
    ///
    /// The same as for [`from_files`](Self::from_files). The previous certificate stays in
    /// use.
    pub fn reload(&self) -> Result<(), FileError> {
        let mut config = load(&self.shared.files)?;
        let mut current = self.shared.config.write().unwrap_or_else(PoisonError::into_inner);
        if self.shared.files.client_ca.is_none() {
            // Sessions can be resumed as before. With certificates of clients, each is
            // verified again.
            config.ticketer = Arc::clone(&current.ticketer);
        }
        *current = Arc::new(config);
        Ok(())
    }

    /// Creates the filter of an accepted connection, for
    /// [`Stream::with_filter`](reactor::Stream::with_filter) or
    /// [`Connection::start_filter`](reactor::Connection::start_filter).
    ///
    /// # Errors
    ///
    /// Returns an error if rustls rejects the configuration.
    pub fn filter(&self) -> io::Result<Tls> {
        let config = self.shared.config.read().unwrap_or_else(PoisonError::into_inner);
        let session = Session::server(Arc::clone(&config));
        Ok(Tls::new(session.map_err(|error| TlsError::new(error, None))?))
    }

    /// Makes all connections of a listener TLS connections.
    pub fn listen(&self, listener: Listener) -> Listener {
        let server = self.clone();
        listener.with_filter(move |_| server.filter())
    }
}

fn load(files: &ServerFiles) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |error: rustls::Error| FileError::new(&files.cert, error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(load_roots(path)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let verifier = verifier.map_err(|error| FileError::new(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = load_certified_key(&files.cert, &files.key, &provider)?;
    let resolver = RecordingResolver(Arc::new(SingleCertAndKey::from(key)));
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.ticketer = ring::Ticketer::new().map_err(unusable)?;
    config.alpn_protocols.clone_from(&files.alpn_protocols);
    Ok(config)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("files", &self.shared.files).finish_non_exhaustive()
    }
}
