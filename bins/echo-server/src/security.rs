//! [`Security`]: TLS, if the command line names a certificate.

use anyhow::anyhow;
use reactor::Listener;
use tls::{Server, ServerFiles};

use crate::options::Options;

/// What protects the connections of this server. Clones share it.
#[derive(Clone)]
pub(crate) struct Security(Option<Server>);

impl Security {
    /// Loads the files that the command line names.
    ///
    /// # Errors
    ///
    /// Returns an error that names a file that cannot be used.
    pub(crate) fn load(options: &Options) -> anyhow::Result<Self> {
        let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else {
            return Ok(Security(None));
        };
        let files = ServerFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: options.tls_client_ca.clone(),
            ..ServerFiles::default()
        };
        let server =
            Server::from_files(files).map_err(|error| anyhow!("cannot use TLS: {error}"))?;
        Ok(Security(Some(server)))
    }

    /// Returns `true` if there are files that [`reload`](Self::reload) loads.
    pub(crate) fn has_files(&self) -> bool {
        self.0.is_some()
    }

    /// Loads the files again, for new connections.
    pub(crate) fn reload(&self) {
        let Some(server) = &self.0 else { return };
        match server.reload() {
            Ok(()) => log::info!("loaded the certificate again"),
            Err(error) => log::error!("the previous certificate stays in use: {error}"),
        }
    }

    /// Protects the connections of a listener.
    pub(crate) fn protect(&self, listener: Listener) -> Listener {
        match &self.0 {
            Some(server) => server.listen(listener),
            None => listener,
        }
    }
}
