//! What only Unix sockets have: a file with a mode and an owner, and a known peer.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process;

use reactor::{Datagram, Listener, Reactor, SocketFile, SocketOptions, Stream};

use crate::common::{Call, Echo, Log, Probe, Quiet, turn_until};

#[test]
fn peer_of_a_unix_socket_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let own = fs::metadata(folder.path()).unwrap();
    let log = Log::default();
    let noted = log.clone();
    let note = move |call: Call<'_>, io: &mut reactor::Io<'_>| {
        if call == Call::Connect {
            let peer = io.peer_credentials()?;
            noted.note(format!("uid {} gid {} pid {:?}", peer.uid, peer.gid, peer.pid));
        }
        Ok(())
    };
    let mut reactor = Reactor::new().unwrap();
    let server_log = log.clone();
    let handle_accepted = move |_: &_| Ok(Probe::new("server", &server_log, note.clone()));
    reactor.add(Listener::bind_unix(&path, handle_accepted).unwrap()).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    turn_until(&mut reactor, |_| log.has("uid"));
    let pid = cfg!(target_os = "linux").then(process::id);
    let expected = format!("uid {} gid {} pid {pid:?}", own.uid(), own.gid());
    assert!(log.has(&expected), "{:?} has no {expected:?}", log.lines());
    drop(client);

    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(Stream::new(ours, Echo).unwrap().peer_credentials().unwrap().uid, own.uid());
    drop(theirs);
}

#[test]
fn peers_of_other_sockets_are_not_known() {
    let (ours, _theirs) = crate::common::tcp_pair();
    let error = Stream::new(ours, Echo).unwrap().peer_credentials().unwrap_err();
    assert_eq!(error.to_string(), "only the peer of a Unix socket has credentials");
    let connecting = Stream::connect_host("localhost", 1, Echo);
    assert_eq!(connecting.peer_credentials().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn unix_sockets_take_only_buffer_sizes() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let options = SocketOptions {
        nodelay: Some(true),
        send_buffer_size: Some(20_000),
        traffic_class: Some(8),
        ..SocketOptions::default()
    };
    let stream = Stream::new(ours, Echo).unwrap();
    stream.set_socket_options(&options).unwrap();
    let size = stream.socket_options().unwrap().send_buffer_size().unwrap();
    assert_eq!(size, if cfg!(target_os = "linux") { 40_000 } else { 20_000 });
}

#[test]
fn socket_file_has_the_mode_and_owner_that_were_requested() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let own = fs::metadata(folder.path()).unwrap();
    // Only root can give a file to another user.
    let uid = if own.uid() == 0 { 12_345 } else { own.uid() };
    for mode in [0o600, 0o660, 0o777] {
        let file = SocketFile { mode: Some(mode), uid: Some(uid), gid: Some(own.gid()) };
        let listener = Listener::bind_unix_with(&path, file, |_| Ok(Echo)).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (mode, uid, own.gid()));
        UnixStream::connect(&path).expect("it listens");
        drop(listener);
        let datagram = Datagram::bind_unix_with(&path, file, Quiet).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (mode, uid, own.gid()));
        UnixDatagram::unbound().unwrap().connect(&path).expect("it is bound");
        drop(datagram);
        assert!(!path.exists(), "removed with the socket");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn socket_file_that_cannot_be_changed_is_removed_and_reported() {
    const NAME: &str = "unix_sockets::socket_file_that_cannot_be_changed_is_removed_and_reported";
    if !crate::common::in_process_with_fault(
        NAME,
        "?chmod,fchmodat,?lchown,?lchown32,fchownat",
        "error=EPERM",
    ) {
        return;
    }
    let path = std::env::temp_dir().join(format!("reactor-socket-file-{}", process::id()));
    let mode = SocketFile { mode: Some(0o600), ..SocketFile::default() };
    let error = Listener::bind_unix_with(&path, mode, |_| Ok(Echo)).unwrap_err();
    let text = format!("{}: cannot set the mode to 600: Operation not permitted", path.display());
    assert!(error.to_string().starts_with(&text), "{error}");
    assert!(!path.exists());
    let owner = SocketFile { gid: Some(1), ..SocketFile::default() };
    let error = Listener::bind_unix_with(&path, owner, |_| Ok(Echo)).unwrap_err();
    let text = format!("{}: cannot set the owner to :1: Operation not permitted", path.display());
    assert!(error.to_string().starts_with(&text), "{error}");
    assert!(!path.exists());
}

/// While the mode is being set, a peer is refused, whatever umask(2) left.
#[test]
#[cfg(target_os = "linux")]
fn no_peer_connects_before_the_mode_is_set() {
    const NAME: &str = "unix_sockets::no_peer_connects_before_the_mode_is_set";
    if !crate::common::in_process_with_fault(NAME, "?chmod,fchmodat", "delay_enter=300000") {
        return;
    }
    let path = std::env::temp_dir().join(format!("reactor-socket-mode-{}", process::id()));
    let peer_path = path.clone();
    let peer = std::thread::spawn(move || {
        let mut refused = 0;
        let begin = std::time::Instant::now();
        while begin.elapsed() < crate::common::DEADLINE {
            if UnixStream::connect(&peer_path).is_ok() {
                return (refused, fs::metadata(&peer_path).unwrap().mode() & 0o777);
            }
            refused += usize::from(peer_path.exists());
            std::thread::yield_now();
        }
        panic!("never connected");
    });
    let file = SocketFile { mode: Some(0o611), ..SocketFile::default() };
    let listener = Listener::bind_unix_with(&path, file, |_| Ok(Echo)).unwrap();
    let (refused, mode) = peer.join().unwrap();
    assert_eq!(mode, 0o611, "connected after {refused} refusals");
    assert!(refused > 0);
    drop(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_name_has_no_mode() {
    let name = format!("\0reactor-no-mode-{}", process::id());
    let file = SocketFile { mode: Some(0o600), ..SocketFile::default() };
    let error = Listener::bind_unix_with(&name, file, |_| Ok(Echo)).unwrap_err();
    let text = "an abstract name has no file with a mode and an owner";
    assert!(error.to_string().ends_with(text), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
