//! Errors that end the server: one line that names what failed, where, and what
//! to do.

use std::fs;
use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};
#[cfg(unix)]
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

use cli::error::without_errno;
use testing::{report_skip, run};

use crate::common::{SERVER, command};

/// Runs the server, which must fail with exit code 1, and returns the line that
/// it prints.
#[track_caller]
fn failure(command: &mut Command) -> String {
    one_line(run(command))
}

#[track_caller]
fn one_line((code, stdout, mut stderr): (i32, Vec<String>, Vec<String>)) -> String {
    assert_eq!((code, stdout), (1, vec![]), "{stderr:#?}");
    assert_eq!(stderr.len(), 1, "{stderr:#?}");
    stderr.remove(0)
}

#[cfg(unix)] // a shell
#[test]
fn too_many_threads_for_open_file_limit_is_reported() {
    // More limits than a thread needs descriptors, so that each of a thread's
    // descriptors is once the one that cannot be opened.
    for limit in 100..108 {
        let mut command = testing::through_shell(SERVER, &format!("ulimit -n {limit};"), "");
        let line = failure(command.args(["--threads", "100", "--port", "0"]));
        assert!(line.starts_with("echo-server: cannot "), "{limit}: {line}");
        assert!(line.contains("Too many open files; use fewer --threads"), "{limit}: {line}");
    }
}

#[test]
fn port_in_use_is_reported_with_hint() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let text = without_errno(&TcpListener::bind(addr).unwrap_err());
    assert_eq!(
        failure(command().args(["--port", &addr.port().to_string()])),
        format!(
            "echo-server: cannot listen on {addr}: {text}; stop the other server, \
             or choose another port with --port (0 selects a free one)"
        )
    );
}

#[test]
fn foreign_address_is_reported_with_hint() {
    // Reserved for documentation (RFC 5737).
    let Err(error) = TcpListener::bind("192.0.2.1:0") else {
        report_skip("this machine can bind foreign addresses");
        return;
    };
    let line = failure(command().args(["--host", "192.0.2.1", "--port", "0"]));
    let text = without_errno(&error);
    let begin = format!("echo-server: cannot listen on 192.0.2.1:0: {text}; ");
    assert!(line.starts_with(&begin), "{line}");
    assert!(line.contains("--host"), "{line}");
}

#[test]
fn foreign_address_among_others_is_reported() {
    if TcpListener::bind("192.0.2.1:0").is_ok() {
        report_skip("this machine can bind foreign addresses");
        return;
    }
    let (code, stdout, stderr) = run(command().args(["127.0.0.1:0", "-l", "192.0.2.1:0"]));
    assert_eq!((code, stdout), (1, vec![]));
    // The library warns before.
    let start = "echo-server: cannot listen on 192.0.2.1: this machine does not have the address; ";
    assert!(stderr.last().is_some_and(|line| line.starts_with(start)), "{stderr:#?}");
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_path_that_cannot_be_bound_is_reported_with_hint() {
    for (path, text) in [
        ("/nowhere/echo", "No such file or directory; create its directory, or"),
        ("/dev/null", "Address already in use; stop the other server, or choose"),
    ] {
        let line = failure(command().args(["-U", path]));
        assert!(line.starts_with("echo-server: cannot listen on "), "{line}");
        assert!(line.contains(path) && line.contains(text), "{line}");
    }
}

#[test]
fn host_without_the_ip_version_is_reported() {
    for option in ["-6", "--ipv6"] {
        let line = failure(command().args(["127.0.0.1", option]));
        let text = "cannot resolve host \"127.0.0.1\": it has no IPv6 address; omit -6";
        assert_eq!(line, format!("echo-server: {text}"));
    }
}

#[test]
fn unknown_host_is_reported_with_hint() {
    let line = failure(command().args(["--host", "nope.invalid"]));
    assert!(line.starts_with("echo-server: cannot resolve host \"nope.invalid\": "), "{line}");
    assert!(line.contains("--host"), "{line}");
}

#[cfg(unix)] // /proc
#[test]
fn privileged_port_is_reported_with_hint() {
    const ORDINARY_USER: u32 = 65534;
    const PORT: u16 = 1;
    if let Ok(start) = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        && start.trim().parse::<u16>().is_ok_and(|start| start <= PORT)
    {
        report_skip("this machine has no privileged ports");
        return;
    }
    // Other users may not have access to the build directory.
    let copy = std::env::temp_dir().join(format!("echo-server-test-{}", process::id()));
    // Copied by another process: a file that is open for writing cannot be
    // executed, and a server of a concurrent test may inherit our descriptor.
    assert!(Command::new("cp").arg(SERVER).arg(&copy).status().unwrap().success());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&copy);
    command.env_remove("RUST_LOG").args(["--port", &PORT.to_string()]).current_dir("/");
    if fs::metadata(&copy).unwrap().uid() == 0 {
        // The superuser may bind any port.
        command.uid(ORDINARY_USER).gid(ORDINARY_USER);
    }
    let outcome = run(&mut command);
    fs::remove_file(&copy).unwrap();
    let line = one_line(outcome);
    let begin = "echo-server: cannot listen on 127.0.0.1:1: Permission denied; ";
    assert!(line.starts_with(begin), "{line}");
    assert!(line.contains("1024"), "{line}");
}

#[test]
fn invalid_command_line_exits_with_2() {
    for (options, names) in [
        (&["--port", "70000"][..], "--port"),
        (&["--port=-1"], "--port"),
        (&["--idle-timeout", "soon"], "--idle-timeout"),
        (&["--idle-timeout", "0s"], "--idle-timeout"),
        (&["--stall-timeout", "0ms"], "--stall-timeout"),
        (&["--drain-timeout=-5s"], "--drain-timeout"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["-v", "-q"], "--verbose"),
        (&["--nonsense"], "--nonsense"),
        (&["9999"], "9999"),
        (&["--listen", "9999"], "9999"),
        (&["--listen", "unix:"], "unix:"),
        (&["localhost", "--host", "localhost"], "--host"),
        (&["-4", "-6"], "--ipv4"),
    ] {
        let (code, stdout, stderr) = run(command().args(options));
        assert_eq!((code, stdout), (2, vec![]), "{options:?}: {stderr:#?}");
        assert!(stderr.iter().any(|line| line.contains(names)), "{options:?}: {stderr:#?}");
    }
}
