//! Addresses: where a program may listen, and what a connection to each address meets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use reactor::{Connector, Context, Io, Listener, Reactor, Stream};

use crate::peer::{
    On, Peer, add_listener, closes_after, dial, dial_as, echo, idle, listen, no_limits, passive,
    sends,
};
use crate::run::{self, note, note_result};
use crate::script::{Script, script};

pub(crate) fn scripts() -> Vec<Script> {
    let mut scripts = attempts();
    scripts.extend(names());
    scripts.extend(families());
    scripts.extend(listening());
    scripts
}

/// Closes when the connection is established, or at the end of input.
fn closes_at_once(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    match on {
        On::Connect => Ok(io.close()),
        _ => Ok(()),
    }
}

/// Notes the IP addresses of both ends.
fn notes_ips(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    if on == On::Connect {
        let ip = |addr: reactor::Address| addr.as_inet().map(|addr| addr.ip());
        note(format!("{:?} to {:?}", ip(io.local_addr()?), ip(io.peer_addr())));
    }
    passive(on, io)
}

fn attempts() -> Vec<Script> {
    let to = |name: &str, addrs: fn() -> Vec<SocketAddr>| {
        script(
            name,
            |reactor| listen(reactor, passive),
            move |reactor| {
                let peer = Peer::new("client", closes_at_once);
                let stream = Stream::connect(addrs(), peer).with_limits(no_limits());
                reactor.add(stream).map(drop)
            },
        )
    };
    vec![
        script("no program listens", idle, |reactor| dial(reactor, passive)),
        to("there is no address", Vec::new),
        to("both addresses refuse", || vec![run::dead_addr(); 2]),
        to("the first address refuses, the second is served", || {
            vec![run::dead_addr(), run::addr()]
        }),
        to("the first address is served, the second would refuse", || {
            vec![run::addr(), run::dead_addr()]
        }),
        to("two addresses are the same", || vec![run::addr(); 2]),
        to("an address of the other family refuses", || {
            vec![SocketAddr::from((Ipv6Addr::LOCALHOST, 1)), run::addr()]
        }),
        script(
            "from a local address",
            |reactor| listen(reactor, notes_ips),
            |reactor| {
                let from = SocketAddr::from(([127, 0, 0, 9], 0));
                let peer = Peer::new("client", sends(b"x", closes_at_once));
                reactor.add(Stream::connect_from(from, run::addr(), peer)).map(drop)
            },
        ),
        script("from an address that is not this machine's", idle, |reactor| {
            let from = SocketAddr::from(([192, 0, 2, 1], 0));
            let peer = Peer::new("client", passive);
            reactor.add(Stream::connect_from(from, run::addr(), peer)).map(drop)
        }),
        script(
            "the same connector twice",
            |reactor| listen(reactor, echo),
            |reactor| {
                let connector = Connector::to_addrs([run::addr()]).with_limits(no_limits());
                for _ in 0..2 {
                    let peer = Peer::new("client", sends(b"x", closes_after(1)));
                    reactor.add(connector.connect(peer))?;
                }
                Ok(())
            },
        ),
        script(
            "a connection to another address of this host",
            |reactor| listen_at(reactor, (Ipv4Addr::UNSPECIFIED, 0).into(), notes_ips),
            |reactor| {
                let to = SocketAddr::new([127, 0, 0, 77].into(), run::shared().port());
                dial_to(reactor, to, sends(b"x", closes_at_once))
            },
        ),
        script(
            "a connection to the unspecified address",
            |reactor| listen_at(reactor, (Ipv4Addr::UNSPECIFIED, 0).into(), notes_ips),
            |reactor| dial_to(reactor, run::shared(), notes_ips_and_closes),
        ),
    ]
}

fn notes_ips_and_closes(on: On<'_>, io: &mut Io<'_>) -> io::Result<()> {
    notes_ips(on, io)?;
    closes_at_once(on, io)
}

/// Listens at `addr`, and shares it with the client.
fn listen_at(
    reactor: &mut Reactor,
    addr: SocketAddr,
    react: impl crate::peer::React + Clone,
) -> io::Result<()> {
    let accept = move |_: &_| Ok(Peer::new("server", react.clone()));
    let listener = Listener::bind(addr, accept)?.with_limits(no_limits());
    let local = listener.local_addr().as_inet().unwrap();
    note(format!("port selected: {}", local.port() != 0));
    run::share(local);
    add_listener(reactor, listener).map(drop)
}

fn dial_to(
    reactor: &mut Reactor,
    addr: SocketAddr,
    react: impl crate::peer::React,
) -> io::Result<()> {
    let peer = Peer::new("client", react);
    reactor.add(Stream::connect([addr], peer).with_limits(no_limits())).map(drop)
}

fn names() -> Vec<Script> {
    let host = |name: &str, host: &'static str| {
        script(
            name,
            |reactor| listen_at(reactor, (Ipv4Addr::LOCALHOST, 0).into(), echo),
            move |reactor| {
                let peer = Peer::new("client", sends(b"x", closes_after(1)));
                reactor.add(Stream::connect_host(host, run::shared().port(), peer)).map(drop)
            },
        )
    };
    vec![
        host("a host by name", "localhost"),
        host("a host by an address", "127.0.0.1"),
        script("a host by name, and no program listens", idle, |reactor| {
            reactor
                .add(Stream::connect_host("localhost", 1, Peer::new("client", passive)))
                .map(drop)
        }),
        script("a lookup", idle, |reactor| {
            // A lookup alone does not keep the loop running.
            reactor.context().call_later(run::moment(), |_| {});
            reactor.context().resolve("127.0.0.1", 80, |_, result| {
                run::note_as("client", format!("resolved: {result:?}"));
            })
        }),
        script("a client that closes while its host is looked up", idle, |reactor| {
            let stream = Stream::connect_host("localhost", 1, Peer::new("client", passive));
            let token = reactor.add(stream)?;
            reactor.context().close(token);
            Ok(())
        }),
    ]
}

fn families() -> Vec<Script> {
    vec![
        script(
            "IPv6",
            |reactor| listen_at(reactor, (Ipv6Addr::LOCALHOST, 0).into(), notes_ips),
            |reactor| dial_to(reactor, run::shared(), notes_ips_and_closes),
        ),
        script(
            "a host by an IPv6 address",
            |reactor| listen_at(reactor, (Ipv6Addr::LOCALHOST, 0).into(), passive),
            |reactor| {
                let peer = Peer::new("client", closes_at_once);
                reactor.add(Stream::connect_host("::1", run::shared().port(), peer)).map(drop)
            },
        ),
        script(
            "an IPv6 server does not serve IPv4",
            |reactor| listen_at(reactor, (Ipv6Addr::LOCALHOST, 0).into(), passive),
            |reactor| {
                let to = SocketAddr::from((Ipv4Addr::LOCALHOST, run::shared().port()));
                dial_to(reactor, to, passive)
            },
        ),
        script(
            "an IPv4 server at all addresses does not serve IPv6",
            |reactor| listen_at(reactor, (Ipv4Addr::UNSPECIFIED, 0).into(), passive),
            |reactor| {
                let to = SocketAddr::from((Ipv6Addr::LOCALHOST, run::shared().port()));
                dial_to(reactor, to, passive)
            },
        ),
        script(
            "an IPv6 server at all addresses serves IPv4",
            |reactor| listen_at(reactor, (Ipv6Addr::UNSPECIFIED, 0).into(), notes_ips),
            |reactor| {
                let to = SocketAddr::from((Ipv4Addr::LOCALHOST, run::shared().port()));
                dial_to(reactor, to, notes_ips_and_closes)
            },
        ),
    ]
}

/// Notes the result of listening at `addr`. The listener is kept.
fn try_listen(reactor: &mut Reactor, what: &str, addr: SocketAddr) -> io::Result<()> {
    let accept = |_: &_| Ok(Peer::new("server", passive));
    match Listener::bind(addr, accept) {
        Ok(listener) => {
            reactor.add(listener)?;
            note(format!("{what}: ok"));
        }
        Err(error) => note(format!("{what}: {:?}, {error}", error.kind())),
    }
    Ok(())
}

fn listening() -> Vec<Script> {
    vec![
        script(
            "an address in use",
            |reactor| {
                try_listen(reactor, "first", run::addr())?;
                try_listen(reactor, "second", run::addr())
            },
            idle,
        ),
        script(
            "all addresses, beside one that is in use",
            |reactor| {
                listen_at(reactor, (Ipv4Addr::LOCALHOST, 0).into(), passive)?;
                let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, run::shared().port()));
                match Listener::bind(all, |_| Ok(Peer::new("server", passive))) {
                    Ok(_) => note("ok"),
                    Err(error) => note(format!("{:?}", error.kind())),
                }
                Ok(())
            },
            idle,
        ),
        script(
            "another port of the same address",
            |reactor| {
                let SocketAddr::V4(mut addr) = run::addr() else { unreachable!("it is IPv4") };
                try_listen(reactor, "first", addr.into())?;
                addr.set_port(addr.port() + 1);
                try_listen(reactor, "second", addr.into())
            },
            idle,
        ),
        script(
            "an address that is not this machine's",
            |reactor| try_listen(reactor, "bind", SocketAddr::from(([192, 0, 2, 1], 2007))),
            idle,
        ),
        script(
            "an address that is shared",
            |reactor| {
                for _ in 0..2 {
                    let accept = |_: &_| Ok(Peer::new("server", passive));
                    let listener = Listener::bind_reuse_port(run::addr(), accept);
                    note_result("bind", listener.and_then(|listener| reactor.add(listener)));
                }
                try_listen(reactor, "third", run::addr())
            },
            |reactor| dial(reactor, closes_at_once),
        ),
        script(
            "the address of a listener that was closed, beside its connection",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        run::with_listener(Context::close);
                        Ok(run::cue("server"))
                    }
                    // The listener is closed at the end of the turn.
                    On::Cue => {
                        io.set_timer(run::moment());
                        Ok(())
                    }
                    On::Timer => {
                        let listener = Listener::bind(run::addr(), |_| Ok(Peer::new("x", passive)));
                        note_result("bind", listener);
                        Ok(io.close())
                    }
                    _ => Ok(()),
                })
            },
            |reactor| dial(reactor, passive),
        ),
        script(
            "a closed listener refuses",
            |reactor| {
                listen(reactor, |on, io| match on {
                    On::Connect => {
                        run::with_listener(Context::close);
                        io.set_timer(run::moment());
                        Ok(())
                    }
                    On::Timer => Ok(run::cue("client")),
                    _ => passive(on, io),
                })
            },
            |reactor| {
                dial_as(
                    reactor,
                    Peer::new("client", |on, io| match on {
                        On::Cue => {
                            let second = Peer::new("second", passive);
                            io.context().add(Stream::connect([run::addr()], second))?;
                            Ok(io.close())
                        }
                        _ => Ok(()),
                    }),
                )
            },
        ),
    ]
}
