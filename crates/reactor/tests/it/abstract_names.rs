//! Unix sockets in the abstract namespace of Linux.

use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;

use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, Listener, Reactor, Stream};

use crate::common::{Call, Echo, Log, Probe, assert_echo, run, turn_until};

/// Returns a name that no other test uses, as the library takes it.
fn abstract_name(name: &str) -> (String, PathBuf) {
    let name = format!("reactor-test-{}-{name}", std::process::id());
    (name.clone(), format!("\0{name}").into())
}

#[test]
fn abstract_unix_name_is_bound_connected_and_shown() {
    let (name, path) = abstract_name("stream");
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let listener = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap();
    assert_eq!(listener.local_addr().to_string(), format!("unix:@{name}"));
    assert_eq!(*listener.local_addr(), Address::Abstract(name.as_bytes().into()));
    let error = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("@{name}: ")), "{error}");
    reactor.add(listener).unwrap();

    let addr = SocketAddr::from_abstract_name(&name).unwrap();
    assert_echo(&mut reactor, &UnixStream::connect_addr(&addr).unwrap());
    let probe = Probe::new("client", &log, |call, io| {
        match call {
            Call::Connect => io.send(b"hello")?,
            Call::Read(_) => {
                io.context().stop();
            }
            _ => {}
        }
        Ok(())
    });
    let stream = Stream::connect_unix(&path, probe);
    assert_eq!(stream.peer_addr().to_string(), format!("unix:@{name}"));
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert!(log.has("client read 5"), "{:?}", log.lines());
}

#[test]
fn abstract_unix_datagram_is_answered() {
    struct Answers(Log);
    impl DatagramProtocol for Answers {
        fn handle_datagram(
            &mut self,
            io: &mut DatagramIo<'_>,
            data: &[u8],
            from: &Address,
        ) -> io::Result<()> {
            self.0.note(from.to_string());
            io.send_to(data, from)
        }
    }
    let (_, path) = abstract_name("datagram");
    let (client_name, _) = abstract_name("datagram-client");
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(Datagram::bind_unix(&path, Answers(log.clone())).unwrap()).unwrap();
    let client = SocketAddr::from_abstract_name(&client_name).unwrap();
    let client = UnixDatagram::bind_addr(&client).unwrap();
    client.set_nonblocking(true).unwrap();
    let server = path.to_str().unwrap().trim_start_matches('\0').to_owned();
    let server = SocketAddr::from_abstract_name(server).unwrap();
    client.send_to_addr(b"hello", &server).unwrap();
    let mut buffer = [0; 8];
    turn_until(&mut reactor, |_| client.recv(&mut buffer).is_ok());
    assert_eq!(&buffer[..5], b"hello");
    assert_eq!(log.lines(), [format!("unix:@{client_name}")]);
}
