//! A certificate for the servers of all worlds.

use std::path::PathBuf;
use std::sync::OnceLock;

use test_certificates::Authority;
use tls::{Client, ClientFiles, Server, ServerFiles};

pub(crate) struct Certificates {
    /// Removes the files at the end.
    _authority: Authority,
    cert: PathBuf,
    key: PathBuf,
    pub(crate) client: Client,
    pub(crate) server: Server,
}

impl Certificates {
    /// Returns those of this process.
    pub(crate) fn get() -> &'static Self {
        static CERTIFICATES: OnceLock<Certificates> = OnceLock::new();
        CERTIFICATES.get_or_init(Certificates::new)
    }

    fn new() -> Self {
        let authority = Authority::new();
        let files = authority.issue("server");
        let ca = ClientFiles { ca: Some(authority.ca()), ..ClientFiles::default() };
        let client = Client::from_files(&ca).expect("the files were just written");
        let (cert, key) = (files.cert, files.key);
        let files = ServerFiles { cert: cert.clone(), key: key.clone(), ..ServerFiles::default() };
        let server = Server::from_files(files).expect("the files were just written");
        Certificates { _authority: authority, cert, key, client, server }
    }

    /// Returns the arguments of echo-server.
    pub(crate) fn server_args(&self) -> [&str; 4] {
        let cert = self.cert.to_str().unwrap_or_default();
        let key = self.key.to_str().unwrap_or_default();
        ["--tls-cert", cert, "--tls-key", key]
    }
}
