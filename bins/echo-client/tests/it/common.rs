//! The client under test, and servers for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use socket2::{Domain, Socket, Type};
use testing::{DEADLINE, Process, run, with_timeouts};

/// The program under test.
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");

/// The data of the default messages.
pub(crate) const WIRE: &[u8; 11] = b"12345678910";

/// Returns the lines that the client prints for them.
pub(crate) fn ten_lines() -> Vec<String> {
    (1..=10).map(|number| number.to_string()).collect()
}

/// Creates the command for the client, with the server at `addr`.
pub(crate) fn client(addr: SocketAddr) -> Command {
    to_server(testing::command(CLIENT), addr)
}

/// Adds the server's address to a command that runs the client.
pub(crate) fn to_server(command: Command, addr: SocketAddr) -> Command {
    to_host(command, &addr.ip().to_string(), addr.port())
}

pub(crate) fn to_host(mut command: Command, host: &str, port: u16) -> Command {
    command.args(["--host", host, "--port", &port.to_string()]).stdin(Stdio::null());
    command
}

/// Runs the client, and returns its exit code, the bytes that it wrote and the
/// lines on standard error.
#[track_caller]
pub(crate) fn run_bytes(command: &mut Command) -> (i32, Vec<u8>, Vec<String>) {
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let bytes = Output::from_reader(process.take_stdout()).rest();
    (process.exit_code(), bytes, process.stderr.rest())
}

/// Runs the client, which must print `lines` and fail with exit code 1, and
/// returns the error line.
#[track_caller]
pub(crate) fn failure(command: &mut Command, lines: &[String]) -> String {
    let (code, stdout, mut stderr) = run(command);
    assert_eq!((code, &stdout[..]), (1, lines), "{stderr:#?}");
    assert_eq!(stderr.len(), 1, "{stderr:#?}");
    stderr.remove(0)
}

/// A server for one connection, on a separate thread.
pub(crate) struct Server<T> {
    pub(crate) addr: SocketAddr,
    result_rx: Receiver<T>,
}

impl<T: Send + 'static> Server<T> {
    /// Starts a server that runs `script`, on a free port of 127.0.0.1.
    pub(crate) fn start(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Starts a server that runs `script`, on `listener`.
    pub(crate) fn on(
        listener: TcpListener,
        script: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let (result_tx, result_rx) = mpsc::channel();
        // Never joined, since there may be no connection.
        thread::spawn(move || {
            let (peer, _) = listener.accept().unwrap();
            drop(listener);
            let _ = result_tx.send(script(with_timeouts(peer)));
        });
        Server { addr, result_rx }
    }

    /// Returns the result of the script.
    #[track_caller]
    pub(crate) fn join(&self) -> T {
        self.result_rx.recv_timeout(DEADLINE).expect("the result of the script")
    }
}

/// Starts an echo server.
pub(crate) fn echo_server() -> Server<u64> {
    echo_server_on(Ipv4Addr::LOCALHOST)
}

/// Starts an echo server that listens on `host`.
pub(crate) fn echo_server_on(host: impl Into<IpAddr>) -> Server<u64> {
    let listener = TcpListener::bind((host.into(), 0)).unwrap();
    Server::on(listener, |peer| echo(&peer, |_| {}))
}

/// Echoes all data until the end, and passes it to `inspect`. Returns the number
/// of bytes.
pub(crate) fn echo(mut peer: &TcpStream, mut inspect: impl FnMut(&[u8])) -> u64 {
    let (mut buffer, mut count) = (vec![0; 65_536], 0);
    loop {
        let read = peer.read(&mut buffer).expect("receiving");
        if read == 0 {
            return count;
        }
        inspect(&buffer[..read]);
        peer.write_all(&buffer[..read]).expect("sending back");
        count += read as u64;
    }
}

/// Discards data until the client closes or resets the connection.
pub(crate) fn wait_for_close(peer: &TcpStream) {
    let _ = io::copy(&mut &*peer, &mut io::sink());
}

/// An address that refuses connections: the port is bound, and no socket
/// listens.
pub(crate) struct Refusing {
    pub(crate) addr: SocketAddr,
    _socket: Socket,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        let (socket, addr) = bound(Ipv4Addr::LOCALHOST);
        Refusing { addr, _socket: socket }
    }
}

/// An address that does not respond to connection attempts: its listener's
/// queue is full.
pub(crate) struct Unresponsive {
    pub(crate) addr: SocketAddr,
    _listener: Socket,
    _fillers: Vec<Socket>,
}

impl Unresponsive {
    pub(crate) fn on(host: Ipv4Addr) -> Self {
        let (listener, addr) = bound(host);
        listener.listen(0).unwrap();
        let fillers = std::iter::repeat_with(|| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            // The first one connects; the others stay in progress.
            let _ = filler.connect(&addr.into());
            filler
        });
        Unresponsive { addr, _fillers: fillers.take(4).collect(), _listener: listener }
    }
}

/// Returns a socket bound to a free port of `host`, and its address.
fn bound(host: Ipv4Addr) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// The bytes of the client's standard output, which are read only as fast as the
/// test takes them.
pub(crate) struct Output(Receiver<Vec<u8>>);

impl Output {
    pub(crate) fn from_reader(mut source: impl Read + Send + 'static) -> Self {
        let (data_tx, data_rx) = mpsc::sync_channel(0);
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = source.read(&mut buffer) {
                if data_tx.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Output(data_rx)
    }

    /// Returns the next bytes, or `None` at the end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(bytes) => Some(bytes),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no data within {DEADLINE:?}"),
        }
    }

    /// Receives exactly `expected`.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut bytes = Vec::new();
        while bytes.len() < expected.len() {
            let Some(more) = self.next() else { break };
            bytes.extend(more);
        }
        assert!(bytes == expected, "wrong data: {} bytes of {}", bytes.len(), expected.len());
    }

    /// Returns all bytes until the end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(more) = self.next() {
            bytes.extend(more);
        }
        bytes
    }
}
