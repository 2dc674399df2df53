//! Listening sockets from a service manager (`LISTEN_FDS`), and messages to it
//! (`NOTIFY_SOCKET`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::{DEADLINE, Lines, Process, report_skip, run, wait_until, with_timeouts};

use crate::common::{SERVER, Server, command, echo, send_signal};

/// Returns a path in a folder for tests, that nothing else uses.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// Returns a command for a server that inherits `socket` as descriptor 3, and
/// `count` for `LISTEN_FDS`.
fn with_socket(socket: impl Into<OwnedFd>, count: &str) -> Command {
    let prelude = format!("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS={count};");
    let mut command = testing::through_shell(SERVER, &prelude, "");
    command.stdin(socket.into());
    command
}

/// Returns a command for a server that inherits `sockets` as descriptors 3 and 4,
/// and whose standard output is its standard error.
fn with_two_sockets(sockets: [OwnedFd; 2]) -> Command {
    let prelude = "exec 3<&0 4<&1 </dev/null >&2; export LISTEN_PID=$$ LISTEN_FDS=2;";
    let mut command = testing::through_shell(SERVER, prelude, "");
    let [first, second] = sockets;
    command.stdin(first).stdout(second);
    command
}

/// Sends a message to a Unix socket and receives its echo.
#[track_caller]
fn echo_unix(path: &Path) {
    let mut peer = UnixStream::connect(path).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.write_all(b"hello").unwrap();
    let mut reply = [0; 5];
    peer.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"hello");
}

/// Also after a restart, and on several threads.
#[test]
fn inherited_sockets_are_served_and_outlive_the_server() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let path = scratch("activation");
    let unix = UnixListener::bind(&path).unwrap();
    // In use: the server would not start if it listened on it.
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy_port = busy.local_addr().unwrap().port().to_string();
    for threads in ["1", "3"] {
        let sockets = [tcp.try_clone().unwrap().into(), unix.try_clone().unwrap().into()];
        let mut command = with_two_sockets(sockets);
        let mut server = Process::start(command.args(["--port", &busy_port, "--threads", threads]));
        let listening = [server.stderr.next().unwrap(), server.stderr.next().unwrap()];
        let expected = [format!("{addr}"), format!("unix:{}", path.display())];
        assert_eq!(listening, expected.map(|place| format!("Listening on {place}")));
        for _ in 0..20 {
            echo(&crate::common::connect(addr), b"hello");
            echo_unix(&path);
        }
        assert!(server.has_threads(threads.parse().unwrap()));
        send_signal(server.id(), "TERM");
        assert_eq!(server.exit_code(), 0, "{:#?}", server.stderr.rest());
        assert!(path.exists(), "not the server's to remove");
    }
    fs::remove_file(path).unwrap();
}

/// They are for another process, such as the parent.
#[test]
fn sockets_for_another_process_are_ignored() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let inherited = tcp.local_addr().unwrap();
    let prelude = "exec 3<&0 </dev/null; export LISTEN_PID=1 LISTEN_FDS=1;";
    let mut command = testing::through_shell(SERVER, prelude, "");
    let server = Server::spawn(command.args(["--port", "0"]).stdin(OwnedFd::from(tcp)));
    assert_ne!(server.addr, inherited);
    echo(&server.connect(), b"hello");
}

#[track_caller]
fn assert_refused(command: &mut Command, expected: &str) {
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, stdout.len()), (1, 0), "{stderr:#?}");
    assert_eq!(stderr, [format!("echo-server: {expected}")]);
}

#[test]
fn descriptors_that_are_no_listening_stream_sockets_are_refused() {
    const ADVICE: &str = "pass listening stream sockets (ListenStream= in a systemd unit), or \
                          unset LISTEN_FDS";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _other) = UnixStream::pair().unwrap();
    let other_kinds: [OwnedFd; 4] = [
        UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        UnixDatagram::unbound().unwrap().into(),
        File::open("/dev/null").unwrap().into(),
        io::pipe().unwrap().0.into(),
    ];
    for descriptor in other_kinds {
        let text = "cannot listen on inherited descriptor 3: it is not a TCP or Unix stream socket";
        assert_refused(&mut with_socket(descriptor, "1"), &format!("{text}; {ADVICE}"));
    }
    for descriptor in [OwnedFd::from(connected), stream.into()] {
        let text = "cannot listen on inherited descriptor 3: the socket does not listen for \
                    connections";
        assert_refused(&mut with_socket(descriptor, "1"), &format!("{text}; {ADVICE}"));
    }
    // One fewer than announced.
    let text = "cannot listen on inherited descriptor 4: it is not a TCP or Unix stream socket";
    assert_refused(&mut with_socket(listener, "2"), &format!("{text}; {ADVICE}"));
}

#[test]
fn listen_fds_must_be_a_number() {
    for value in ["two", "-1", "1.5", "100000"] {
        let expected = format!(
            "the environment variable LISTEN_FDS is {value:?}: expected the number of inherited \
             sockets, at most 1024; unset it to listen on --host and --port"
        );
        assert_refused(command().env("LISTEN_FDS", value), &expected);
    }
    for none in ["", "0"] {
        let server = Server::spawn(command().env("LISTEN_FDS", none).args(["--port", "0"]));
        echo(&server.connect(), b"hello");
    }
}

/// Connects, exchanges three messages, and expects the end.
fn exchange(addr: SocketAddr) -> io::Result<()> {
    let mut peer = with_timeouts(TcpStream::connect_timeout(&addr, DEADLINE)?);
    for message in 0..3_u8 {
        peer.write_all(&[message])?;
        let mut reply = [0];
        peer.read_exact(&mut reply)?;
        if reply != [message] {
            return Err(io::Error::other("another reply"));
        }
    }
    peer.shutdown(Shutdown::Write)?;
    match peer.read_to_end(&mut Vec::new())? {
        0 => Ok(()),
        _ => Err(io::Error::other("more than the replies")),
    }
}

/// The socket stays open, so clients that connect between two servers wait for the
/// next one.
fn restart_under_load(restarts: usize, threads: &str) {
    const CLIENTS: usize = 6;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let completed = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (completed, is_over) = (Arc::clone(&completed), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut errors = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    match exchange(addr) {
                        Ok(()) => drop(completed.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => errors.push(error.to_string()),
                    }
                }
                errors
            })
        })
        .collect();
    for _ in 0..restarts {
        let mut command = with_socket(socket.try_clone().unwrap(), "1");
        let mut server = Server::spawn(command.args(["-q", "--threads", threads]));
        let before = completed.load(Ordering::Relaxed);
        wait_until(
            || completed.load(Ordering::Relaxed),
            |&completed| completed >= before + 2 * CLIENTS,
        );
        server.signal("TERM");
        assert_eq!(server.exit_code(), 0);
    }
    is_over.store(true, Ordering::Relaxed);
    // For those that are still waiting.
    let _last = Server::spawn(with_socket(socket, "1").arg("-q"));
    let errors: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let completed = completed.load(Ordering::Relaxed);
    assert!(errors.is_empty(), "{} of {completed} failed: {errors:?}", errors.len());
    println!("{restarts} restarts, --threads {threads}: failed 0 of {completed} exchanges");
}

#[test]
fn restart_with_an_inherited_socket_loses_no_connection() {
    restart_under_load(100, "1");
    restart_under_load(20, "3");
}

#[test]
fn service_manager_is_notified() {
    let path = scratch("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let receive = || {
        let mut buffer = [0; 256];
        let received = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..received]).into_owned()
    };
    let mut command = command();
    command.env("NOTIFY_SOCKET", &path).args(["--port", "0", "--drain-timeout", "1h"]);
    let mut server = Server::spawn(&mut command);
    assert_eq!(receive(), "READY=1\n");
    let peer = server.connect();
    echo(&peer, b"hello");
    server.signal("TERM");
    assert_eq!(receive(), "STOPPING=1\n");
    drop(peer);
    assert_eq!(server.exit_code(), 0);
    fs::remove_file(path).unwrap();
}

#[test]
fn unreachable_service_manager_does_not_stop_the_server() {
    let path = scratch("missing");
    let mut server = Server::spawn(command().env("NOTIFY_SOCKET", &path).args(["--port", "0"]));
    let line = server.stderr.next_with("cannot notify the service manager");
    assert!(line.contains("No such file or directory"), "{line}");
    echo(&server.connect(), b"hello");
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
}

// --- systemd's own programs -----------------------------------------------------

/// Returns a port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn is_installed(program: &str) -> bool {
    let is_found = Command::new(program).arg("--version").output().is_ok();
    if !is_found {
        report_skip(format_args!("{program} is not installed (Debian's package systemd)"));
    }
    is_found
}

/// It starts the server when the first peer connects.
#[test]
fn systemd_socket_activate_starts_the_server() {
    if !is_installed("systemd-socket-activate") {
        return;
    }
    let path = scratch("activate");
    let addr = free_port();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &addr.to_string(), "-l"]).arg(&path).arg(SERVER);
    let mut activator = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut stdout = Lines::from_reader(activator.take_stdout());
    wait_until(|| path.exists(), |&exists| exists);
    let started_at = Instant::now();
    let peer = loop {
        match TcpStream::connect(addr) {
            Ok(peer) => break with_timeouts(peer),
            Err(error) => assert!(started_at.elapsed() < DEADLINE, "{error}"),
        }
        thread::sleep(Duration::from_millis(2));
    };
    echo(&peer, b"hello");
    echo_unix(&path);
    assert_eq!(stdout.next(), Some(format!("Listening on {addr}")));
    assert_eq!(stdout.next(), Some(format!("Listening on unix:{}", path.display())));
    drop(peer);
    // It has become the server.
    send_signal(activator.id(), "TERM");
    assert_eq!(activator.exit_code(), 0);
    assert!(path.exists(), "not the server's to remove");
    fs::remove_file(path).unwrap();
}

/// The units of the folder `systemd`.
#[test]
fn systemd_units_are_valid() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let folder = scratch("units");
    fs::create_dir_all(&folder).unwrap();
    let copies = ["echo-server.socket", "echo-server.service"].map(|name| {
        let unit = fs::read_to_string(units.join(name)).unwrap();
        let copy = folder.join(name);
        fs::write(&copy, unit.replace("/usr/local/bin/echo-server", SERVER)).unwrap();
        copy
    });
    let verify = |paths: &[PathBuf]| {
        run(Command::new("systemd-analyze").args(["--man=no", "verify"]).args(paths))
    };
    let (code, _, stderr) = verify(&copies);
    let remarks = |stderr: &[String]| {
        stderr.iter().filter(|line| line.contains("echo-server.")).cloned().collect::<Vec<_>>()
    };
    assert_eq!((code, remarks(&stderr)), (0, vec![]), "{stderr:#?}");
    // It would have reported a mistake.
    let wrong =
        fs::read_to_string(&copies[1]).unwrap().replace("NoNewPrivileges", "NoNewPrivilege");
    fs::write(&copies[1], wrong).unwrap();
    assert_eq!(remarks(&verify(&copies).2).len(), 1);
    fs::remove_dir_all(folder).unwrap();
}
