//! A client to test, and servers for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use socket2::{Domain, Socket, Type};
use testing::{DEADLINE, Process, patient, run};

/// The program under test.
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");

/// What it sends unless it is told something else.
pub(crate) const WIRE: &[u8; 11] = b"12345678910";

/// What it prints then.
pub(crate) fn ten() -> Vec<String> {
    (1..=10).map(|number| number.to_string()).collect()
}

/// The client's command, for the server at `addr`.
pub(crate) fn client(addr: SocketAddr) -> Command {
    to_server(testing::command(CLIENT), addr)
}

/// Adds to a command that runs the client where the server is.
pub(crate) fn to_server(command: Command, addr: SocketAddr) -> Command {
    to_host(command, &addr.ip().to_string(), addr.port())
}

pub(crate) fn to_host(mut command: Command, host: &str, port: u16) -> Command {
    command.args(["--host", host, "--port", &port.to_string()]).stdin(Stdio::null());
    command
}

/// Runs the client: its exit code and the bytes that it wrote.
#[track_caller]
pub(crate) fn written(command: &mut Command) -> (i32, Vec<u8>, Vec<String>) {
    let mut process = Process::start(command.stdout(Stdio::piped()));
    let bytes = Output::of(process.stdout()).rest();
    (process.exit_code(), bytes, process.stderr.rest())
}

/// Runs the client, which must print `lines` first and then fail with exit
/// code 1 and one line.
#[track_caller]
pub(crate) fn failure(command: &mut Command, lines: &[String]) -> String {
    let (code, stdout, mut stderr) = run(command);
    assert_eq!((code, &stdout[..]), (1, lines), "{stderr:#?}");
    assert_eq!(stderr.len(), 1, "{stderr:#?}");
    stderr.remove(0)
}

/// A server for one connection, on a thread of its own.
pub(crate) struct Server<T> {
    pub(crate) addr: SocketAddr,
    outcome: Receiver<T>,
}

impl<T: Send + 'static> Server<T> {
    /// Starts it on a free port of 127.0.0.1. What it does is `script`.
    pub(crate) fn start(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn on(
        listener: TcpListener,
        script: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let (tell, outcome) = mpsc::channel();
        // Left behind where nobody comes.
        thread::spawn(move || {
            let (peer, _) = listener.accept().unwrap();
            drop(listener);
            let _ = tell.send(script(patient(peer)));
        });
        Server { addr, outcome }
    }

    /// What came out of the script.
    #[track_caller]
    pub(crate) fn outcome(&self) -> T {
        self.outcome.recv_timeout(DEADLINE).expect("the script of the server")
    }
}

/// A server as it should be.
pub(crate) fn echo_server() -> Server<u64> {
    echo_server_on(Ipv4Addr::LOCALHOST)
}

/// One that listens on `host`.
pub(crate) fn echo_server_on(host: impl Into<IpAddr>) -> Server<u64> {
    let listener = TcpListener::bind((host.into(), 0)).unwrap();
    Server::on(listener, |peer| echo(&peer, |_| {}))
}

/// Sends back whatever comes, until the end; `watch` sees it too. Returns how
/// much it was.
pub(crate) fn echo(mut peer: &TcpStream, mut watch: impl FnMut(&[u8])) -> u64 {
    let (mut buffer, mut count) = (vec![0; 65_536], 0);
    loop {
        let read = peer.read(&mut buffer).expect("receiving");
        if read == 0 {
            return count;
        }
        watch(&buffer[..read]);
        peer.write_all(&buffer[..read]).expect("sending back");
        count += read as u64;
    }
}

/// Waits until the client is gone, however it went.
pub(crate) fn stay(peer: &TcpStream) {
    let _ = io::copy(&mut &*peer, &mut io::sink());
}

/// An address at which connections are refused for as long as it is kept: the
/// port is taken, and nobody listens.
pub(crate) struct Dead {
    pub(crate) addr: SocketAddr,
    _socket: Socket,
}

impl Dead {
    pub(crate) fn new() -> Self {
        let (socket, addr) = bound(Ipv4Addr::LOCALHOST);
        Dead { addr, _socket: socket }
    }
}

/// An address that answers to no attempt to connect for as long as it is
/// kept: the queue of its listener, which accepts nobody, is full.
pub(crate) struct Silent {
    pub(crate) addr: SocketAddr,
    _listener: Socket,
    _fillers: Vec<Socket>,
}

impl Silent {
    pub(crate) fn on(host: Ipv4Addr) -> Self {
        let (listener, addr) = bound(host);
        listener.listen(0).unwrap();
        let fillers = std::iter::repeat_with(|| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            // In progress, for ever; or, for the first, connected.
            let _ = filler.connect(&addr.into());
            filler
        });
        Silent { addr, _fillers: fillers.take(4).collect(), _listener: listener }
    }
}

/// A socket with a port of its own.
fn bound(host: Ipv4Addr) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// What the client writes to standard output, byte for byte. It is read as
/// fast as the test takes it.
pub(crate) struct Output(Receiver<Vec<u8>>);

impl Output {
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::sync_channel(0);
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = source.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Output(receiver)
    }

    /// The next bytes; `None` at the end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(bytes) => Some(bytes),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no byte came"),
        }
    }

    /// Exactly `expected`, in as many pieces as it comes.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut bytes = Vec::new();
        while bytes.len() < expected.len() {
            let Some(more) = self.next() else { break };
            bytes.extend(more);
        }
        assert!(bytes == expected, "{} bytes, or others, of {}", bytes.len(), expected.len());
    }

    /// All bytes up to the end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(more) = self.next() {
            bytes.extend(more);
        }
        bytes
    }
}
