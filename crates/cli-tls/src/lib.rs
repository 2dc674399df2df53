//! [`TlsOptions`]: the options for TLS that the client programs share, and [`Security`],
//! what they select.

use std::io;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use reactor::{Protocol, Stream};
use tls::{Client, ClientFiles};

/// The options for TLS of a client.
#[derive(Clone, Debug, clap::Args)]
pub struct TlsOptions {
    /// Connect with TLS
    ///
    /// The server's certificate must be valid for its name, and signed by an
    /// authority that this system trusts, or that --tls-ca names.
    #[arg(long)]
    tls: bool,

    /// Trust the authorities in FILE, in PEM format, and no others
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_ca: Option<PathBuf>,

    /// Name or address in the server's certificate [default: the host]
    #[arg(long, value_name = "NAME", requires = "tls")]
    tls_name: Option<String>,
}

impl TlsOptions {
    /// Loads the certificates to trust. `host` is the server's, if it has one.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be used, or there is no name that a certificate
    /// can contain.
    pub fn load(&self, host: Option<&str>) -> anyhow::Result<Security> {
        if !self.tls {
            return Ok(Security::None);
        }
        let files = ClientFiles { ca: self.tls_ca.clone(), ..ClientFiles::default() };
        let client = Client::from_files(&files).map_err(|error| {
            let hint = if self.tls_ca.is_none() { " (see --tls-ca)" } else { "" };
            anyhow!("cannot use TLS: {error}{hint}")
        })?;
        let Some(name) = self.tls_name.as_deref().or(host) else {
            bail!("cannot use TLS: specify the name in the server's certificate with --tls-name");
        };
        if let Err(error) = client.filter(name) {
            bail!("cannot use TLS: {error}; specify the one in the certificate with --tls-name");
        }
        Ok(Security::Tls { client, name: name.to_owned() })
    }
}

/// What protects connections.
#[derive(Clone, Debug)]
pub enum Security {
    /// Nothing.
    None,
    /// TLS, with a server of this name.
    Tls {
        /// What is trusted, and the sessions that can be resumed.
        client: Client,
        /// The name in the certificate.
        name: String,
    },
}

impl Security {
    /// Makes every handshake a full one: no session is resumed.
    #[must_use]
    pub fn without_resumption(self) -> Self {
        match self {
            Security::None => Security::None,
            Security::Tls { client, name } => {
                Security::Tls { client: client.without_resumption(), name }
            }
        }
    }

    /// Protects a connection.
    ///
    /// # Errors
    ///
    /// Returns an error if TLS cannot be used.
    pub fn protect<P: Protocol>(&self, stream: Stream<P>) -> io::Result<Stream<P>> {
        match self {
            Security::None => Ok(stream),
            Security::Tls { client, name } => client.connect(stream, name),
        }
    }
}
