//! Serving without faults.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use testing::{
    DEADLINE, HostsFile, Lines, Process, expect_end, expect_reset, pattern, report_skip, run,
};

use crate::common::{SERVER, Server, command, connect, echo, send_signal, through_shell};

#[cfg(unix)] // signals
#[test]
fn server_prints_addresses_and_echoes() {
    let mut server = Server::start(&[]);
    assert_eq!(server.addr.ip().to_string(), "127.0.0.1", "the default");
    for round in 0..3 {
        let peer = server.connect();
        echo(&peer, format!("round {round}\n").as_bytes());
        let line = format!("Incoming connection from {}", peer.local_addr().unwrap());
        assert_eq!(server.stdout.next(), Some(line));
    }
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout.rest(), [""; 0]);
    assert_eq!(server.stderr.rest(), [""; 0], "no warnings");
}

#[test]
fn host_name_is_resolved() {
    let server = Server::start(&["--host", "localhost"]);
    assert!(server.addr.ip().is_loopback());
    echo(&server.connect(), b"by name");
}

/// TCP and Unix sockets, on one thread or on several.
#[cfg(unix)] // Unix sockets
#[test]
fn several_addresses_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    let unix = format!("unix:{}", path.display());
    for options in [&["-t", "1"][..], &["--threads", "3", "-4"], &["-t", "2", "--ipv4"]] {
        let mut command = command();
        command.args(["127.0.0.1", "-p", "0", "-l", "127.0.0.2:0", "--listen", &unix]);
        let mut server = Server::spawn(command.args(options));
        let second = server.stdout.next().unwrap();
        let second = second.strip_prefix("Listening on ").unwrap().parse().unwrap();
        assert_eq!(server.stdout.next(), Some(format!("Listening on {unix}")));
        for _ in 0..5 {
            echo(&server.connect(), b"the first");
            echo(&connect(second), b"the second");
            let mut peer = UnixStream::connect(&path).unwrap();
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            peer.write_all(b"the third").unwrap();
            let mut reply = [0; 9];
            peer.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"the third");
        }
        server.signal("TERM");
        assert_eq!(server.exit_code(), 0, "{options:?}");
        assert!(!path.exists(), "the path is removed");
    }
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_socket_alone_is_served_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    for option in ["-U", "--unix"] {
        let mut command = command();
        command.arg(option).arg(&path).args(["--threads", "4"]).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut stdout = Lines::from_reader(process.take_stdout());
        assert_eq!(stdout.next(), Some(format!("Listening on unix:{}", path.display())));
        drop(UnixStream::connect(&path).unwrap());
        stdout.next_with("Incoming connection from unix:");
        send_signal(process.id(), "TERM");
        assert_eq!(process.exit_code(), 0);
    }
}

/// One line for each address, with one port.
#[cfg(unix)] // signals
#[test]
fn each_address_of_a_name_is_served() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        report_skip(format_args!("no IPv6 here: {error}"));
        return;
    }
    let addresses = ["127.0.0.1", "::1"].map(|address| address.parse().unwrap());
    let Some(hosts) = HostsFile::new("localhost", &addresses) else { return };
    for threads in ["1", "3"] {
        let mut command = hosts.command(SERVER);
        command.args(["--host", "localhost", "--port", "0", "--threads", threads]);
        let mut server = Server::spawn(&mut command);
        let line = server.stdout.next().unwrap();
        let other = line.strip_prefix("Listening on ").unwrap().parse().unwrap();
        let mut addrs = [server.addr, other];
        addrs.sort();
        assert_eq!(addrs.map(|addr| addr.ip()), addresses);
        for _ in 0..10 {
            echo(&connect(server.addr), b"either");
            echo(&connect(other), b"or");
        }
        server.signal("TERM");
        assert_eq!(server.exit_code(), 0);
    }
}

/// An address that this machine does not have is skipped, if there is another.
#[cfg(unix)] // a hosts file
#[test]
fn unavailable_address_of_a_name_is_skipped() {
    let addresses = ["192.0.2.1", "127.0.0.1"].map(|address| address.parse().unwrap());
    let Some(hosts) = HostsFile::new("several.test", &addresses) else { return };
    let server =
        Server::spawn(hosts.command(SERVER).args(["--host", "several.test", "--port", "0"]));
    assert_eq!(server.addr.ip(), addresses[1]);
    echo(&server.connect(), b"hello");
}

#[test]
fn ipv6_host_is_accepted_with_and_without_brackets() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        report_skip(format_args!("no IPv6 here: {error}"));
        return;
    }
    for host in ["::1", "[::1]"] {
        let mut server = Server::start(&["--host", host]);
        assert_eq!(server.addr.ip().to_string(), "::1");
        let peer = server.connect();
        echo(&peer, b"six");
        let line = format!("Incoming connection from {}", peer.local_addr().unwrap());
        assert_eq!(server.stdout.next(), Some(line));
    }
}

#[cfg(unix)] // signals
#[test]
fn quiet_prints_only_the_listening_line() {
    let mut server = Server::start(&["-q", "-m", "1"]);
    let peer = server.connect();
    echo(&peer, b"psst");
    // Above the maximum: logs a warning without -q.
    expect_end(&server.connect());
    drop(peer);
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout.rest(), [""; 0]);
    assert_eq!(server.stderr.rest(), [""; 0]);
}

#[cfg(unix)] // signals
#[test]
fn each_verbose_flag_logs_more() {
    let mut lengths = Vec::new();
    for flag in ["--quiet", "--verbose", "-vv", "-vvv"] {
        let mut server = Server::spawn(command().args(["-p", "0", flag]).env("RUST_LOG", "trace"));
        echo(&server.connect(), b"hello");
        server.signal("TERM");
        assert_eq!(server.exit_code(), 0);
        lengths.push(server.stderr.rest().len());
    }
    assert_eq!(lengths[0], 0, "quiet whatever RUST_LOG says");
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
}

#[cfg(unix)] // signals
#[test]
fn log_level_option_overrides_environment() {
    for (options, rust_log, debug) in [
        (&["-vv"][..], None, true),
        (&[], Some("debug"), true),
        (&["-v"], Some("debug"), false),
        (&[], None, false),
    ] {
        let mut command = command();
        command.args(options).args(["--port", "0"]);
        if let Some(rust_log) = rust_log {
            command.env("RUST_LOG", rust_log);
        }
        let mut server = Server::spawn(&mut command);
        echo(&server.connect(), b"hello");
        server.signal("TERM");
        assert_eq!(server.exit_code(), 0);
        let log = server.stderr.rest();
        assert_eq!(log.iter().any(|line| line.contains(" DEBUG ")), debug, "{options:?} {log:#?}");
    }
}

#[cfg(unix)] // signals
#[test]
fn connections_above_maximum_are_rejected_and_counted() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let first = server.connect();
    let second = server.connect();
    echo(&first, b"first");
    echo(&second, b"second");
    for _ in 0..3 {
        expect_end(&server.connect());
    }
    let refusal = server.stderr.next_with("rejected a connection");
    assert!(refusal.contains("connection limit (2) reached"), "{refusal}");
    echo(&first, b"still there");

    // When the server has closed one connection, it accepts another.
    first.shutdown(Shutdown::Write).unwrap();
    expect_end(&first);
    echo(&server.connect(), b"third");
    echo(&second, b"not disturbed");

    drop(second);
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    server.stderr.next_with("rejected 3 connections in total");
}

#[test]
fn idle_timeout_closes_idle_peer_only() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let server = Server::start(&["-i", "2s"]);
    let started_at = Instant::now();
    let idle = server.connect();
    let busy = server.connect();
    let watch = thread::spawn(move || {
        expect_reset(&idle);
        started_at.elapsed()
    });
    while !watch.is_finished() {
        echo(&busy, b"busy");
    }
    let lasted = watch.join().unwrap();
    assert!(lasted >= TIMEOUT, "closed after {lasted:?}");
    echo(&busy, b"still here");
}

#[test]
fn half_close_loses_no_bytes() {
    let server = Server::start(&[]);
    let sent = pattern(3_000_000);
    let peer = server.connect();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&peer).write_all(&sent).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        (&peer).read_to_end(&mut received).unwrap();
    });
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "wrong data");
}

#[cfg(unix)] // a shell
#[test]
fn closed_stdout_does_not_stop_server() {
    let mut server = Process::start(through_shell("", ">&-").args(["--port", "0", "-vv"]));
    let line = server.stderr.next_with("listening on ");
    let addr = line.rsplit(' ').next().unwrap().parse().unwrap();
    for _ in 0..3 {
        echo(&connect(addr), b"unseen");
    }
    server.kill();
    assert!(server.stderr.rest().iter().all(|line| !line.contains("panicked")));
}

#[cfg(unix)] // signals
#[test]
fn stdout_without_reader_does_not_stop_server() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut server = Process::start(command().args(["--port", "0", "-vv"]).stdout(writer));
    let mut log = Vec::new();
    let addr = loop {
        let line = server.stderr.next().expect("the listening line");
        log.push(line.clone());
        if let Some((_, addr)) = line.split_once("listening on ") {
            break addr.parse().unwrap();
        }
    };
    for _ in 0..3 {
        echo(&connect(addr), b"unseen");
    }
    send_signal(server.id(), "TERM");
    assert_eq!(server.exit_code(), 0);
    log.extend(server.stderr.rest());
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("cannot write standard output: Broken pipe"), 1, "{log:#?}");
    assert_eq!(count("panicked"), 0, "{log:#?}");
}

#[cfg(unix)] // a shell
#[test]
fn closed_stdin_does_not_stop_server() {
    let server = Server::spawn(through_shell("", "<&-").args(["--port", "0"]));
    echo(&server.connect(), b"no input");
}

#[test]
fn version_and_help_are_printed() {
    let (code, version, _) = run(command().arg("--version"));
    assert_eq!((code, version), (0, vec![format!("echo-server {}", env!("CARGO_PKG_VERSION"))]));

    let (code, help, stderr) = run(command().arg("--help"));
    let help = help.join("\n");
    assert_eq!((code, stderr.len()), (0, 0));
    for part in ["127.0.0.1]", "9999]", "60s]", "5s]", "Examples:", "Exit codes:", "RUST_LOG"] {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
}

/// The kernel selects the thread by the peer's address, so with many peers each
/// thread serves some.
#[cfg(unix)] // signals
#[test]
fn threads_serve_and_drain_all_peers() {
    let mut server = Server::start(&["--threads", "3"]);
    let peers: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"from any thread");
    }
    for _ in &peers {
        server.stdout.next_with("Incoming connection from ");
    }
    // All threads let their peers finish.
    server.signal("TERM");
    for peer in &peers {
        echo(peer, b"goodbye");
        peer.shutdown(Shutdown::Write).unwrap();
        expect_end(peer);
    }
    assert_eq!(server.exit_code(), 0);
}

/// Compares with the kernel. With more threads than processors, some share one.
#[cfg(unix)] // /proc
#[test]
#[cfg(target_os = "linux")]
fn pin_binds_each_thread_to_one_cpu() {
    let allowed = |path: &str| {
        let status = std::fs::read_to_string(path).unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.unwrap().trim().to_owned()
    };
    let server = Server::start(&["--threads", "2", "--pin"]);
    // The threads that write the output serve no peers. A thread sets its name itself.
    let is_serving = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).unwrap().trim_end() != "output"
    };
    let lists = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path()).filter(is_serving);
        let mut lists: Vec<_> =
            tasks.map(|task| allowed(task.join("status").to_str().unwrap())).collect();
        lists.sort_unstable();
        lists.dedup();
        lists
    };
    let is_one = |list: &str| list.parse::<usize>().is_ok();
    let expected = if is_one(&allowed("/proc/self/status")) { 1 } else { 2 };
    testing::wait_until(lists, |lists| {
        lists.len() == expected && lists.iter().all(|list| is_one(list))
    });
    echo(&server.connect(), b"from a pinned thread");
}

#[cfg(unix)] // signals
#[test]
fn second_signal_stops_all_threads() {
    let mut server = Server::start(&["--threads", "3", "--drain-timeout", "1h"]);
    let peers: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"stays connected");
    }
    server.signal("TERM");
    server.signal("INT");
    assert_eq!(server.exit_code(), 1);
}

/// The kernel distributes connections unevenly. That must not matter.
#[cfg(not(any(windows, target_os = "illumos")))] // --threads
#[test]
fn max_connections_is_shared_by_threads() {
    for _ in 0..10 {
        let server = Server::start(&["--threads", "3", "--max-connections", "16"]);
        let peers: Vec<_> = (0..16).map(|_| server.connect()).collect();
        for peer in &peers {
            echo(peer, b"one of those allowed");
        }
        for _ in 0..4 {
            expect_end(&server.connect());
        }
    }
}

#[cfg(unix)] // a shell
#[test]
fn open_file_limit_is_raised_at_start() {
    let mut server = Server::spawn(
        through_shell("ulimit -Hn 200; ulimit -Sn 20;", "").args(["--port", "0", "-v"]),
    );
    server.stderr.next_with("open file limit is 200");
    let peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"one of many");
    }
}

#[cfg(unix)] // a shell
#[test]
fn max_connections_above_open_file_limit_logs_warning() {
    let mut server = Server::spawn(through_shell("ulimit -n 100;", "").args([
        "--port",
        "0",
        "--max-connections",
        "100",
    ]));
    server.stderr.next_with("--max-connections 100 is not below the open file limit (100)");
}

#[cfg(not(any(windows, target_os = "illumos")))] // --threads
#[test]
fn busy_poll_serves_all_peers() {
    for threads in ["1", "2"] {
        let server = Server::start(&["--busy-poll", "100us", "--threads", threads]);
        let peers: Vec<_> = (0..10).map(|_| server.connect()).collect();
        for round in 0..20_u8 {
            for peer in &peers {
                echo(peer, &[round; 100]);
            }
        }
    }
}
