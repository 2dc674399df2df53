//! Certificates and keys in files, and what may be wrong with them.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};
use webpki::{EndEntityCert, KeyUsage};

use crate::error::format_time;

/// The largest file that is read.
const MAX_FILE_SIZE: u64 = 4 * 1024 * 1024;

/// A certificate or key that cannot be used: the file, what is wrong, and what to do.
#[derive(Clone, Debug)]
pub struct FileError {
    path: PathBuf,
    problem: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, problem: impl Into<String>) -> Self {
        FileError { path: path.to_path_buf(), problem: problem.into() }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl Error for FileError {}

/// Loads a certificate with its chain and its key, and checks that they can be used now.
pub(crate) fn load_certified_key(
    cert_path: &Path,
    key_path: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, FileError> {
    let certs = load_certificates(cert_path)?;
    let key = load_key(key_path)?;
    let certified = match CertifiedKey::from_der(certs.clone(), key.clone_key(), provider) {
        Ok(certified) => certified,
        Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(explain_mismatch(cert_path, key_path, certs, &key, provider));
        }
        Err(TlsError::InvalidCertificate(error)) => {
            return Err(FileError::new(cert_path, format!("cannot use the certificate: {error}")));
        }
        Err(error) => {
            let problem = format!("cannot use the key: {error}; use an RSA, ECDSA or Ed25519 key");
            return Err(FileError::new(key_path, problem));
        }
    };
    check_validity(cert_path, &certs[0])?;
    Ok(Arc::new(certified))
}

/// Explains why the key does not belong to the first certificate.
fn explain_mismatch(
    cert_path: &Path,
    key_path: &Path,
    mut certs: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> FileError {
    for _ in 1..certs.len() {
        certs.rotate_left(1);
        if CertifiedKey::from_der(certs.clone(), key.clone_key(), provider).is_ok() {
            let problem = "the certificates are in the wrong order; put the one of the key first, \
                           then the one that signed it, and so on";
            return FileError::new(cert_path, problem);
        }
    }
    let problem = format!(
        "the key does not belong to the certificate in {}; use the key that it was created with",
        cert_path.display()
    );
    FileError::new(key_path, problem)
}

/// Checks that the certificate is valid now.
fn check_validity(path: &Path, cert: &CertificateDer<'_>) -> Result<(), FileError> {
    let unusable = |error| FileError::new(path, format!("cannot use the certificate: {error}"));
    let cert = EndEntityCert::try_from(cert).map_err(unusable)?;
    // The period is checked first; without trust anchors, that is all.
    let usage = KeyUsage::server_auth();
    match cert.verify_for_usage(&[], &[], &[], UnixTime::now(), usage, None, None).err() {
        Some(webpki::Error::CertExpired { not_after, .. }) => {
            let expired = format_time(not_after);
            Err(FileError::new(path, format!("the certificate expired on {expired}; renew it")))
        }
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
            let start = format_time(not_before);
            let problem =
                format!("the certificate is not valid before {start}; check the system's clock");
            Err(FileError::new(path, problem))
        }
        _ => Ok(()),
    }
}

/// Loads the certificates of authorities.
pub(crate) fn load_roots(path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for cert in load_certificates(path)? {
        let unusable = |error| FileError::new(path, format!("cannot use a certificate: {error}"));
        roots.add(cert).map_err(unusable)?;
    }
    Ok(roots)
}

fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(path)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certs = certs.map_err(|error| FileError::new(path, format!("damaged: {error}")))?;
    if certs.is_empty() {
        let problem = if has_section(&pem, "PRIVATE KEY") {
            "contains a private key, but no certificate; are the two files exchanged?"
        } else {
            describe_other(&pem, "certificate")
        };
        return Err(FileError::new(path, problem));
    }
    Ok(certs)
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let pem = read(path)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        // The old form is marked inside the section.
        Ok(_) | Err(_)
            if has_section(&pem, "ENCRYPTED PRIVATE KEY")
                || contains(&pem, b"Proc-Type: 4,ENCRYPTED") =>
        {
            let problem = "the key is encrypted; decrypt it with: openssl pkey -in FILE -out NEW";
            Err(FileError::new(path, problem))
        }
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            let problem = if has_section(&pem, "CERTIFICATE") {
                "contains a certificate, but no private key; are the two files exchanged?"
            } else {
                describe_other(&pem, "private key")
            };
            Err(FileError::new(path, problem))
        }
        Err(error) => Err(FileError::new(path, format!("damaged: {error}"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut data = Vec::new();
    let result = File::open(path).and_then(|file| file.take(MAX_FILE_SIZE).read_to_end(&mut data));
    match result {
        Ok(0) => Err(FileError::new(path, "the file is empty")),
        Ok(_) => Ok(data),
        Err(error) => {
            let text = error.to_string();
            let reason = text.split(" (os error").next().unwrap_or(&text);
            Err(FileError::new(path, format!("cannot read the file: {reason}")))
        }
    }
}

/// Describes a file that contains neither certificates nor keys.
fn describe_other(data: &[u8], wanted: &str) -> &'static str {
    match (data.first(), wanted) {
        // A SEQUENCE, with a length of two bytes.
        (Some(0x30), "certificate") => {
            "is not in PEM format; convert it with: openssl x509 -inform der -in FILE -out NEW"
        }
        (Some(0x30), _) => {
            "is not in PEM format; convert it with: openssl pkey -inform der -in FILE -out NEW"
        }
        (_, "certificate") => "contains no certificate in PEM format (BEGIN CERTIFICATE)",
        _ => "contains no private key in PEM format (BEGIN PRIVATE KEY)",
    }
}

fn has_section(pem: &[u8], name: &str) -> bool {
    // `BEGIN RSA PRIVATE KEY` is a private key too.
    pem.split(|&byte| byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ") && contains(line, format!("{name}-----").as_bytes())
    })
}

fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}
