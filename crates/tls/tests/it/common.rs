//! Two ends of a TLS connection that log what they are told.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use reactor::{Cause, CloseReason, Io, Limits, Protocol, Reactor, Stream, TimerId};
use test_certificates::{Authority, CertFiles};
use testing::DEADLINE;
pub(crate) use testing::Log;
use tls::{Client, ClientFiles, Server, ServerFiles, Tls};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Connect,
    Read(&'a [u8]),
    Eof,
    Timer,
}

type Reaction = Box<dyn FnMut(Event<'_>, &mut Io<'_>) -> io::Result<()>>;

/// Logs its callbacks under a name, and runs a closure of the test.
pub(crate) struct Probe {
    name: &'static str,
    log: Log,
    react: Reaction,
}

impl Probe {
    pub(crate) fn new(
        name: &'static str,
        log: &Log,
        react: impl FnMut(Event<'_>, &mut Io<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        Probe { name, log: log.clone(), react: Box::new(react) }
    }

    /// Echoes, and closes at the end of input.
    pub(crate) fn echo(name: &'static str, log: &Log) -> Self {
        Self::new(name, log, |event, io| {
            match event {
                Event::Read(data) => return io.send(data),
                Event::Eof => io.close(),
                Event::Connect | Event::Timer => {}
            }
            Ok(())
        })
    }
}

impl Protocol for Probe {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let tls = io.filter::<Tls>().expect("a filter");
        assert!(tls.protocol_version().is_some() && tls.cipher_suite().is_some());
        self.log.note(format!("{} connect", self.name));
        (self.react)(Event::Connect, io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.log.note(format!("{} read {}", self.name, data.len()));
        (self.react)(Event::Read(data), io)
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.log.note(format!("{} eof", self.name));
        (self.react)(Event::Eof, io)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        (self.react)(Event::Timer, io)
    }

    fn handle_error(&mut self, _: &mut Io<'_>, cause: &Cause) {
        self.log.note(format!("{} error: {cause}", self.name));
    }

    fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
        self.log.note(format!("{} close: {reason}", self.name));
    }
}

/// An authority, a server that it has signed, and a client that trusts it.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) server: Server,
    pub(crate) client: Client,
}

impl World {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let server = server(&authority.issue("server"));
        let client = client(&authority);
        World { authority, server, client }
    }
}

pub(crate) fn server(files: &CertFiles) -> Server {
    let CertFiles { cert, key } = files.clone();
    Server::from_files(ServerFiles { cert, key, ..ServerFiles::default() }).unwrap()
}

pub(crate) fn client(authority: &Authority) -> Client {
    Client::from_files(&ClientFiles { ca: Some(authority.ca()), ..ClientFiles::default() }).unwrap()
}

/// Returns the two ends of a TCP connection.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

/// Connects two protocols by TLS. Returns a second descriptor of each socket, the
/// server's first, to end it behind the back of TLS.
pub(crate) fn connect(
    reactor: &mut Reactor,
    (server, client): (&Server, &Client),
    name: &str,
    limits: Limits,
    (server_protocol, client_protocol): (Probe, Probe),
) -> (TcpStream, TcpStream) {
    let (server_socket, client_socket) = tcp_pair();
    let behind = (server_socket.try_clone().unwrap(), client_socket.try_clone().unwrap());
    let stream = Stream::new(server_socket, server_protocol).unwrap().with_limits(limits);
    reactor.add(stream.with_filter(server.filter().unwrap())).unwrap();
    let stream = Stream::new(client_socket, client_protocol).unwrap();
    reactor.add(client.connect(stream, name).unwrap()).unwrap();
    behind
}

/// Runs turns until `done` returns `true`.
#[track_caller]
pub(crate) fn turn_until(reactor: &mut Reactor, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < DEADLINE, "condition not reached within {DEADLINE:?}");
        reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
}
