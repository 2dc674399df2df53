//! Certificate and key files that cannot be used: one line, with the path and a remedy.

use std::fs;
use std::path::PathBuf;

use test_certificates::{Authority, CertFiles, Validity};
use tls::{Client, ClientFiles, Server, ServerFiles};

/// Returns the error of loading these files, without the directory.
#[track_caller]
fn error(authority: &Authority, cert: PathBuf, key: PathBuf) -> String {
    let files = ServerFiles { cert, key, ..ServerFiles::default() };
    let error = Server::from_files(files).expect_err("cannot be loaded");
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.contains("os error"), "{text}");
    let directory = authority.path("").display().to_string();
    text.replace(directory.trim_end_matches(['/', '\\']), "").replace(['/', '\\'], "")
}

#[test]
fn unusable_files_are_explained() {
    let authority = Authority::new();
    let good = authority.issue("good");
    let other = authority.issue("other");
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();

    #[cfg(unix)] // other words elsewhere
    {
        let missing = authority.path("missing.pem");
        assert_eq!(
            error(&authority, missing, good.key.clone()),
            "missing.pem: cannot read the file: No such file or directory"
        );
        assert_eq!(
            error(&authority, authority.path(""), good.key.clone()),
            ": cannot read the file: Is a directory"
        );
    }
    let empty = authority.write("empty.pem", "");
    assert_eq!(error(&authority, empty.clone(), good.key.clone()), "empty.pem: the file is empty");
    assert_eq!(error(&authority, good.cert.clone(), empty), "empty.pem: the file is empty");

    let text = authority.write("text.pem", "This is no certificate.\n");
    assert_eq!(
        error(&authority, text.clone(), good.key.clone()),
        "text.pem: contains no certificate in PEM format (BEGIN CERTIFICATE)"
    );
    assert_eq!(
        error(&authority, good.cert.clone(), text),
        "text.pem: contains no private key in PEM format (BEGIN PRIVATE KEY)"
    );
    let der = authority.write("cert.der", [0x30, 0x82, 1, 0]);
    assert_eq!(
        error(&authority, der, good.key.clone()),
        "cert.der: is not in PEM format; convert it with: \
         openssl x509 -inform der -in FILE -out NEW"
    );

    assert_eq!(
        error(&authority, good.key.clone(), good.cert.clone()),
        "good.key: contains a private key, but no certificate; are the two files exchanged?"
    );
    assert_eq!(
        error(&authority, good.cert.clone(), other.cert.clone()),
        "other.pem: contains a certificate, but no private key; are the two files exchanged?"
    );
    let mismatch = error(&authority, good.cert.clone(), other.key.clone());
    assert_eq!(
        mismatch,
        "other.key: the key does not belong to the certificate in good.pem; \
         use the key that it was created with"
    );

    let chain = read(&other.cert) + &read(&good.cert);
    let chain = authority.write("chain.pem", chain);
    assert_eq!(
        error(&authority, chain, good.key.clone()),
        "chain.pem: the certificates are in the wrong order; put the one of the key first, \
         then the one that signed it, and so on"
    );

    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for key in [encrypted, old] {
        let key = authority.write("encrypted.key", key);
        assert_eq!(
            error(&authority, good.cert.clone(), key),
            "encrypted.key: the key is encrypted; decrypt it with: \
             openssl pkey -in FILE -out NEW"
        );
    }

    let cut = read(&good.cert);
    let cut = authority.write("cut.pem", &cut[..cut.len() / 2]);
    assert!(error(&authority, cut, good.key.clone()).starts_with("cut.pem: damaged: "));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let garbage = authority.write("garbage.pem", garbage);
    let text = error(&authority, garbage, good.key.clone());
    assert!(text.starts_with("garbage.pem: cannot use the certificate: "), "{text}");
}

#[test]
fn certificate_outside_its_period_is_refused() {
    let authority = Authority::new();
    for (validity, expected) in [
        (Validity::Expired, "cert.pem: the certificate expired on 2002-02-02T00:00:00Z; renew it"),
        (
            Validity::NotYet,
            "cert.pem: the certificate is not valid before 2200-01-01T00:00:00Z; \
             check the system's clock",
        ),
    ] {
        let CertFiles { cert, key } = authority.issue_for("cert", &["localhost"], validity);
        assert_eq!(error(&authority, cert, key), expected);
    }
}

#[test]
fn unusable_authorities_are_explained() {
    let authority = Authority::new();
    let CertFiles { cert, key } = authority.issue("good");
    let empty = authority.write("empty.pem", "");
    let files = ServerFiles { cert, key, client_ca: Some(empty.clone()), alpn_protocols: vec![] };
    let error = Server::from_files(files).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: the file is empty", empty.display()));
    let files = ClientFiles { ca: Some(empty.clone()), ..ClientFiles::default() };
    let error = Client::from_files(&files).unwrap_err();
    assert_eq!(error.path(), empty);
}
