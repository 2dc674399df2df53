//! Certificates for the tests of TLS, in files of a temporary directory.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A certificate authority, and the directory for the files that it writes. The directory
/// is removed when this is dropped.
pub struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct CertFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key, in PKCS #8.
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub enum Validity {
    /// Now.
    Now,
    /// Until a day in the past.
    Expired,
    /// From a day in the future.
    NotYet,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Creates an authority, whose certificate is in `ca.pem`.
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Different names, as those of different authorities are.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { directory, issuer }
    }

    /// Returns the path of the authority's own certificate.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Returns a path in the directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Signs a certificate for `localhost` and 127.0.0.1, valid now.
    pub fn issue(&self, file: &str) -> CertFiles {
        self.issue_for(file, &["localhost", "127.0.0.1"], Validity::Now)
    }

    /// Signs a certificate for `names`, and writes `FILE.pem` and `FILE.key`.
    pub fn issue_for(&self, file: &str, names: &[&str], validity: Validity) -> CertFiles {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        match validity {
            Validity::Now => {}
            Validity::Expired => {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 2, 2);
            }
            Validity::NotYet => {
                params.not_before = date_time_ymd(2200, 1, 1);
                params.not_after = date_time_ymd(2201, 1, 1);
            }
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        CertFiles {
            cert: self.write(&format!("{file}.pem"), cert.pem()),
            key: self.write(&format!("{file}.key"), key.serialize_pem()),
        }
    }
}
