//! Names with several addresses.

use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::thread;

use testing::{HostsFile, command, report_skip, run};

use crate::{BENCH, serve, server};

/// Of a server on 127.0.0.1.
const SHORT: [&str; 6] = ["-c", "2", "--warm-up", "0", "-z", "50ms"];

#[test]
fn server_is_given_in_each_way() {
    let addr = server(|_| {});
    let (whole, port) = (addr.to_string(), addr.port().to_string());
    for arguments in [
        &[&whole[..]][..],
        &["--addr", &whole],
        &["127.0.0.1", "-p", &port],
        &["--port", &port],
        &["localhost", "-p", &port, "-4"],
        &["localhost", "-p", &port, "--ipv4"],
    ] {
        let (code, stdout, stderr) = run(command(BENCH).args(SHORT).args(arguments));
        assert_eq!((code, stderr), (0, vec![]), "{arguments:?}: {stdout:#?}");
        assert!(stdout[0].starts_with(&format!("{addr}: ")), "{stdout:#?}");
    }
    for option in ["-6", "--ipv6"] {
        let (code, _, stderr) = run(command(BENCH).args(["127.0.0.1", "-p", &port, option]));
        let expected = "echo-bench: cannot resolve \"127.0.0.1\": it has no IPv6 address; omit -6";
        assert_eq!((code, &stderr[..]), (1, &[expected.to_owned()][..]));
    }
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_socket_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let peer = peer.unwrap();
            thread::spawn(move || serve(peer, &|_| {}));
        }
    });
    let path = path.to_str().unwrap();
    let address = format!("unix:{path}");
    for arguments in [&[&address[..]][..], &["-U", path], &["--unix", path, "--churn"]] {
        let (code, stdout, stderr) = run(command(BENCH).args(SHORT).args(arguments));
        assert_eq!((code, stderr), (0, vec![]), "{arguments:?}: {stdout:#?}");
        assert!(stdout[0].starts_with(&format!("{address}: ")), "{stdout:#?}");
    }
    let missing = format!("unix:{path}.missing");
    let (code, _, stderr) = run(command(BENCH).arg(&missing));
    let [line] = &stderr[..] else { panic!("{stderr:#?}") };
    assert!(line.starts_with(&format!("echo-bench: cannot connect to {missing}: No such file")));
    assert_eq!(code, 1);
}

#[cfg(unix)] // a hosts file
#[test]
fn each_address_of_a_name_is_tried() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        report_skip(format_args!("no IPv6 here: {error}"));
        return;
    }
    let addresses = ["::1", "127.0.0.1"].map(|address| address.parse().unwrap());
    let Some(hosts) = HostsFile::new("several.test", &addresses) else { return };
    for address in addresses {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for peer in listener.incoming() {
                let peer = peer.unwrap();
                thread::spawn(move || serve(peer, &|_| {}));
            }
        });
        for mode in [&[][..], &["--churn"], &["--threads", "2", "--idle", "3"]] {
            let mut command = hosts.command(BENCH);
            command.args(["--addr", &format!("several.test:{port}"), "--connections", "4"]);
            command.args(["--warm-up", "20ms", "--duration", "100ms"]).args(mode);
            let (code, stdout, stderr) = run(&mut command);
            assert_eq!((code, stderr), (0, vec![]), "{address} {mode:?}: {stdout:#?}");
        }
    }
}
