//! Handshakes: what is agreed on, and what is refused.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Limits, Reactor};
use test_certificates::{Authority, CertFiles, Validity};
use tls::{Client, ClientFiles, Server, ServerFiles, Tls};

use crate::common::{Event, Log, Probe, World, client, connect, server, turn_until};

/// Connects, exchanges a message, and closes. Returns the log.
fn converse(server: &Server, client: &Client, name: &str) -> Log {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let to = log.clone();
    let asking = Probe::new("client", &log, move |event, io| {
        match event {
            Event::Connect => io.send(b"hello")?,
            Event::Read(_) => {
                let tls = io.filter::<Tls>().expect("a filter");
                let alpn = tls.alpn_protocol().map(String::from_utf8_lossy);
                to.note(format!("client resumed {}", tls.is_resumed()));
                to.note(format!("client alpn {}", alpn.unwrap_or_default()));
                io.close();
            }
            Event::Eof | Event::Timer => {}
        }
        Ok(())
    });
    let to = log.clone();
    let answering = Probe::new("server", &log, move |event, io| {
        match event {
            Event::Connect => {
                let tls = io.filter::<Tls>().expect("a filter");
                to.note(format!("server name {}", tls.server_name().unwrap_or("none")));
                let certs = tls.peer_certificates().map_or(0, <[_]>::len);
                to.note(format!("server certificates {certs}"));
            }
            Event::Read(data) => io.send(data)?,
            Event::Eof => io.close(),
            Event::Timer => {}
        }
        Ok(())
    });
    let probes = (answering, asking);
    drop(connect(&mut reactor, (server, client), name, Limits::default(), probes));
    turn_until(&mut reactor, || {
        log.get("server close:").is_some() && log.get("client close:").is_some()
    });
    log
}

#[test]
fn server_knows_the_name_and_both_know_the_protocol() {
    let authority = Authority::new();
    let CertFiles { cert, key } = authority.issue("server");
    let alpn = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
    let alpn_protocols = alpn(&["echo/2", "echo/1"]);
    let server =
        Server::from_files(ServerFiles { cert, key, client_ca: None, alpn_protocols }).unwrap();
    let client = Client::from_files(&ClientFiles {
        ca: Some(authority.ca()),
        alpn_protocols: alpn(&["echo/1", "echo/3"]),
        ..ClientFiles::default()
    });
    let client = client.unwrap();
    let log = converse(&server, &client, "localhost");
    assert_eq!(log.get("server name").as_deref(), Some("localhost"));
    assert_eq!(log.get("client alpn").as_deref(), Some("echo/1"));
    // An address is no name (RFC 6066, section 3).
    let log = converse(&server, &client, "127.0.0.1");
    assert_eq!(log.get("server name").as_deref(), Some("none"));
}

#[test]
fn session_is_resumed_also_after_a_reload() {
    let world = World::new();
    let resumed = |log: &Log| log.get("client resumed").unwrap();
    assert_eq!(resumed(&converse(&world.server, &world.client, "localhost")), "false");
    assert_eq!(resumed(&converse(&world.server, &world.client, "localhost")), "true");
    world.server.reload().unwrap();
    assert_eq!(resumed(&converse(&world.server, &world.client, "localhost")), "true");
}

#[test]
fn reload_takes_effect_for_new_connections_only() {
    let world = World::new();
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let echoes = Rc::new(Cell::new(0));
    let seen = Rc::clone(&echoes);
    let open = Probe::new("client", &log, move |event, io| {
        match event {
            Event::Connect | Event::Timer => io.send(b"x")?,
            Event::Read(_) => {
                seen.set(seen.get() + 1);
                io.set_timer(Duration::from_millis(1));
            }
            Event::Eof => io.close(),
        }
        Ok(())
    });
    let ends = (&world.server, &world.client);
    let probes = (Probe::echo("server", &log), open);
    let behind = connect(&mut reactor, ends, "localhost", Limits::default(), probes);
    turn_until(&mut reactor, || echoes.get() > 0);

    // A file that cannot be used leaves the certificate as it was.
    let path = world.authority.path("server.pem");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    let error = world.server.reload().unwrap_err();
    assert!(error.to_string().ends_with("server.pem: the file is empty"), "{error}");
    assert!(converse(&world.server, &world.client, "localhost").get("client resumed").is_some());

    // The new one is for another name.
    world.authority.issue_for("server", &["example.org"], Validity::Now);
    world.server.reload().unwrap();
    let fresh = client(&world.authority);
    let log_after = converse(&world.server, &fresh, "example.org");
    assert_eq!(log_after.get("server name").as_deref(), Some("example.org"));
    let before = echoes.get();
    turn_until(&mut reactor, || echoes.get() > before + 3);
    drop((behind, good));
}

#[test]
fn unacceptable_certificate_is_named_on_both_sides() {
    let authority = Authority::new();
    let other = Authority::new();
    let cases = [
        (
            other.issue("other"),
            "localhost",
            "the peer's certificate is signed by an unknown issuer",
            "the peer reports a TLS error: unknown ca",
        ),
        (
            authority.issue_for("elsewhere", &["example.org"], Validity::Now),
            "localhost",
            "the peer's certificate is not for localhost, but for example.org",
            "the peer reports a TLS error: bad certificate",
        ),
    ];
    for (files, name, by_client, by_server) in cases {
        let log = converse(&server(&files), &client(&authority), name);
        assert_eq!(log.get("client error:").as_deref(), Some(by_client));
        assert_eq!(log.get("client close:").as_deref(), Some(by_client));
        assert_eq!(log.get("server error:").as_deref(), Some(by_server), "{:#?}", log.lines());
        assert!(log.get("client connect").is_none() && log.get("server connect").is_none());
    }
}

#[test]
fn client_certificate_is_required_and_verified() {
    let authority = Authority::new();
    let CertFiles { cert, key } = authority.issue("server");
    let files = ServerFiles { cert, key, client_ca: Some(authority.ca()), alpn_protocols: vec![] };
    let server = Server::from_files(files).unwrap();

    let log = converse(&server, &client(&authority), "localhost");
    let expected = "the peer presented no certificate";
    assert_eq!(log.get("server error:").as_deref(), Some(expected), "{:#?}", log.lines());
    assert!(log.get("server connect").is_none(), "not before the client's certificate");
    assert_eq!(
        log.get("client error:").as_deref(),
        Some("the peer reports a TLS error: certificate required")
    );

    let with_identity = |authority: &Authority, CertFiles { cert, key }| {
        Client::from_files(&ClientFiles {
            ca: Some(authority.ca()),
            identity: Some((cert, key)),
            ..ClientFiles::default()
        })
        .unwrap()
    };
    let known = with_identity(&authority, authority.issue("client"));
    let log = converse(&server, &known, "localhost");
    assert_eq!(log.get("server certificates").as_deref(), Some("1"), "{:#?}", log.lines());

    let unknown = with_identity(&authority, Authority::new().issue("client"));
    let log = converse(&server, &unknown, "localhost");
    let expected = "the peer's certificate is signed by an unknown issuer";
    assert_eq!(log.get("server error:").as_deref(), Some(expected));
}

#[test]
fn server_name_must_be_a_name() {
    let world = World::new();
    let error = world.client.filter("not a name").unwrap_err();
    assert_eq!(error.to_string(), "`not a name` is not the name of a host");
}
