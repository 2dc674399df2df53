//! Listening, connecting and accepting.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reactor::Address;
use reactor::kernel::Fd;
use rustix::io::Errno;

use crate::fault::Fault;
use crate::link::Link;
use crate::rng::Rng;
use crate::socket::{End, EndId, EndState, FinState, Listener, Object, Segment};
use crate::trace::EventKind;
use crate::world::{Event, World, nanos, stream};

/// How long a request to connect waits for an answer before it is sent again: a second,
/// doubled each time (RFC 6298), and how often (Linux: `net.ipv4.tcp_syn_retries`).
const SYN_TIMEOUT: u64 = 1_000_000_000;
const SYN_RETRIES: u32 = 6;

impl World {
    // --- listening ----------------------------------------------------------

    pub(crate) fn listen(
        &mut self,
        machine: usize,
        at: &Address,
        reuse_port: bool,
    ) -> io::Result<Fd> {
        self.check_limit(machine)?;
        let at = self.bind_address(machine, at)?;
        if let Err(error) = self.take_path(machine, &at) {
            self.probe_path(machine, &at);
            return Err(error);
        }
        let is_taken = self.open_descriptors().any(|(_, other)| match &other.object {
            Object::Listener(listener) => {
                self.machines[other.machine].ip == self.machines[machine].ip
                    && overlaps(&listener.at, &at)
                    && !(reuse_port && listener.reuse_port)
            }
            _ => false,
        });
        if is_taken {
            return Err(Errno::ADDRINUSE.into());
        }
        let number = self.next_socket(machine);
        let dice = self.socket_dice(stream::LISTENER, number);
        let listener = Listener { at: at.clone(), reuse_port, pending: VecDeque::new(), dice };
        let fd = self.open(machine, Object::Listener(listener));
        self.record_call(machine, &[], || format!("listen {at}"));
        Ok(fd)
    }

    /// Completes the local address of a socket: selects a port for port 0.
    ///
    /// # Errors
    ///
    /// Returns `EADDRNOTAVAIL` for an address that the machine does not have.
    pub(crate) fn bind_address(&mut self, machine: usize, at: &Address) -> io::Result<Address> {
        let Address::Inet(mut addr) = *at else { return Ok(at.clone()) };
        if !addr.ip().is_unspecified() && !self.has_address(machine, addr.ip()) {
            return Err(Errno::ADDRNOTAVAIL.into());
        }
        if addr.port() == 0 {
            addr.set_port(self.ephemeral_port(machine));
        }
        Ok(Address::Inet(addr))
    }

    /// Returns the local address of what `machine` sends to `to`. Linux uses 127.0.0.1 for all
    /// of 127.0.0.0/8.
    pub(crate) fn source_ip(&self, machine: usize, to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(to) if to.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(to) if to.is_loopback() => Ipv6Addr::LOCALHOST.into(),
            _ => self.machines[machine].ip,
        }
    }

    /// Returns the listener that a request of `machine` to `to` reaches, if one listens.
    fn find_listener(&self, machine: usize, to: &Address, rng: &mut Rng) -> Option<Fd> {
        let hosts = match to {
            Address::Inet(addr) => self.machines_at(machine, addr.ip()),
            _ => self.machines_at(machine, self.machines[machine].ip),
        };
        let found = self.open_descriptors().filter(|(_, descriptor)| match &descriptor.object {
            Object::Listener(listener) => {
                hosts.contains(&descriptor.machine) && overlaps(&listener.at, to)
            }
            _ => false,
        });
        let found: Vec<_> = found.map(|(fd, _)| fd).collect();
        // Several with SO_REUSEPORT: the system selects one.
        found.get(rng.up_to(found.len()).checked_sub(1)?).copied()
    }

    // --- connecting ---------------------------------------------------------

    pub(crate) fn connect(
        &mut self,
        machine: usize,
        to: &Address,
        from: Option<SocketAddr>,
    ) -> io::Result<Fd> {
        self.check_limit(machine)?;
        let number = self.next_socket(machine);
        let mut dice = self.socket_dice(stream::CONNECT, number);
        let Address::Inet(addr) = *to else {
            return self.connect_unix(machine, to, number, dice);
        };
        let addr = reached_addr(addr);
        let to = &Address::Inet(addr);
        let ip = self.source_ip(machine, addr.ip());
        let from = from.unwrap_or(SocketAddr::new(unspecified(ip), 0));
        let Address::Inet(mut local) = self.bind_address(machine, &Address::Inet(from))? else {
            return Err(Errno::INVAL.into());
        };
        if local.ip().is_unspecified() {
            local.set_ip(ip);
        }
        let peer_machine = self.machines_at(machine, addr.ip()).first().copied();
        let link = peer_machine.map_or(self.link, |peer| self.link_between(machine, peer));
        let arrival = self.now + latency(&link, &mut dice.rng);
        let local = Address::Inet(local);
        let peer_machine = peer_machine.unwrap_or(machine);
        let end = End::new(machine, local.clone(), to.clone(), peer_machine, link, (number, dice));
        let id = self.add_end(end);
        let fd = self.attach(machine, id);
        self.record_call(machine, &[id], || format!("connect {local} to {to}"));
        self.schedule(arrival, Event::Syn { end: id, attempt: 0 });
        Ok(fd)
    }

    /// Opens a descriptor for the end `id`.
    pub(crate) fn attach(&mut self, machine: usize, id: EndId) -> Fd {
        let fd = self.open(machine, Object::Stream(id));
        if let Some(end) = self.ends.get_mut(&id) {
            end.fd = Some(fd);
        }
        fd
    }

    pub(crate) fn add_embryo(
        &mut self,
        client: EndId,
        machine: usize,
        local: Address,
        peer: Address,
        listener: Fd,
    ) -> EndId {
        let link = self.ends.get(&client).map_or(self.link, |end| end.link);
        let peer_machine = self.ends.get(&client).map_or(machine, |end| end.machine);
        let number = self.ends[&client].number;
        let dice = self.socket_dice(stream::ACCEPT, number);
        let mut end = End::new(machine, local, peer, peer_machine, link, (number, dice));
        end.state = EndState::Embryo;
        end.listener = Some(listener);
        end.other = Some(client);
        self.add_end(end)
    }

    /// Returns `true` if a listener has more connections that it has not accepted than its
    /// backlog. As on Linux, one more than the backlog fits.
    pub(crate) fn is_backlog_full(&self, listener: Fd, machine: usize) -> bool {
        let backlog = self.machines[machine].backlog;
        // Counting is slow, and seldom needed: few worlds have more connections than this.
        self.ends.len() > backlog
            && self.ends.values().filter(|end| end.listener == Some(listener)).count() > backlog
    }

    /// A request to connect arrives, unless it is lost.
    pub(crate) fn on_syn(&mut self, id: EndId, attempt: u32) {
        let Some(end) = self.ends.get(&id) else { return };
        let (machine, to, link) = (end.machine, end.peer.clone(), end.link);
        let mut rng = end.dice.rng.clone();
        let listener = self.find_listener(machine, &to, &mut rng);
        let peer_machine = match listener.map(|fd| self.descriptor(fd).map(|found| found.machine)) {
            Some(Ok(machine)) => Some(machine),
            _ => self.machines_of(machine, &to).into_iter().find(|&at| self.machines[at].is_up),
        };
        let back = latency(&link, &mut rng);
        if let Some(end) = self.ends.get_mut(&id) {
            end.dice.rng = rng;
            end.peer_machine = peer_machine.unwrap_or(end.peer_machine);
        }
        let is_lost = self.draw(id, Fault::Loss).is_some();
        let is_refused = self.draw(id, Fault::Refuse).is_some();
        let reached = peer_machine.filter(|&peer| self.is_reachable(machine, peer) && !is_lost);
        let Some(peer_machine) = reached else { return self.retry_syn(id, attempt) };
        let at = self.now + back;
        let Some(listener) = listener.filter(|_| !is_refused) else {
            self.schedule(at, Event::SynReply { end: id, result: Err(Errno::CONNREFUSED) });
            return;
        };
        // Linux drops the request if the queue is full (tcp(7), `tcp_abort_on_overflow`).
        if self.is_backlog_full(listener, peer_machine) {
            return self.retry_syn(id, attempt);
        }
        let Some(client) = self.ends.get(&id).map(|end| end.local.clone()) else { return };
        let other = self.add_embryo(id, peer_machine, to, client, listener);
        self.schedule(at, Event::SynReply { end: id, result: Ok(other) });
    }

    fn machines_of(&self, machine: usize, to: &Address) -> Vec<usize> {
        match to {
            Address::Inet(addr) => self.machines_at(machine, addr.ip()),
            _ => vec![machine],
        }
    }

    fn retry_syn(&mut self, id: EndId, attempt: u32) {
        let at = self.now + (SYN_TIMEOUT << attempt);
        let event = if attempt == SYN_RETRIES {
            Event::SynReply { end: id, result: Err(Errno::TIMEDOUT) }
        } else {
            Event::Syn { end: id, attempt: attempt + 1 }
        };
        self.schedule(at, event);
    }

    /// The answer to a request to connect arrives.
    pub(crate) fn on_syn_reply(&mut self, id: EndId, result: Result<EndId, Errno>) {
        let Some(end) = self.ends.get_mut(&id) else {
            // The client has given up.
            if let Ok(other) = result {
                self.ends.remove(&other);
            }
            return;
        };
        match result {
            Ok(other) => {
                end.state = EndState::Open;
                end.other = Some(other);
            }
            Err(error) => {
                end.state = EndState::Dead;
                end.error = Some(error);
            }
        }
        let (machine, peer) = (end.machine, end.peer_machine);
        let text = || match result {
            Ok(_) => "connected".to_owned(),
            Err(error) => format!("cannot connect: {error}"),
        };
        let numbers = [id, result.map_or(0, |_| 1)];
        self.trace.record(self.now, EventKind::Message, (peer, Some(machine)), &numbers, text);
        if result.is_ok() {
            self.transmit(id, Segment::Handshake);
        }
        self.update_end_ready(id);
    }

    /// Puts a connection into the queue of its listener.
    pub(crate) fn queue_connection(&mut self, id: EndId, listener: Fd) {
        let Some(local) = self.ends.get(&id).map(|end| end.local.clone()) else { return };
        let is_queued = match self.descriptor_mut(listener).map(|found| &mut found.object) {
            // Another one may have this descriptor by now.
            Ok(Object::Listener(listener)) if overlaps(&listener.at, &local) => {
                listener.pending.push_back(id);
                true
            }
            _ => false,
        };
        if is_queued {
            self.update_ready(listener);
        } else {
            self.reset_end(id);
        }
    }

    pub(crate) fn take_connect_result(&mut self, fd: Fd) -> io::Result<()> {
        let (id, end) = self.end_of(fd)?;
        let (error, state) = (end.error.take(), end.state);
        self.update_end_ready(id);
        match (error, state) {
            (Some(error), _) => Err(error.into()),
            (None, EndState::Open) => Ok(()),
            (None, _) => Err(Errno::NOTCONN.into()),
        }
    }

    // --- accepting ----------------------------------------------------------

    pub(crate) fn accept(&mut self, machine: usize, fd: Fd) -> io::Result<(Fd, Address)> {
        let faults = self.faults.clone();
        let is_full = self.check_limit(machine);
        let Object::Listener(listener) = &mut self.descriptor_mut(fd)?.object else {
            return Err(Errno::INVAL.into());
        };
        let Some(&id) = listener.pending.front() else { return Err(Errno::AGAIN.into()) };
        let fault = [Fault::Interrupt, Fault::NoDescriptors, Fault::AcceptAborted]
            .map(|fault| listener.dice.draw(fault, &faults).map(|details| (fault, details)));
        let fault = fault.into_iter().flatten().next();
        let fault = fault.map(|(fault, mut details)| (fault, accept_error(fault, &mut details)));
        is_full?;
        if !matches!(fault, Some((Fault::Interrupt | Fault::NoDescriptors, _))) {
            listener.pending.pop_front();
        }
        self.update_ready(fd);
        if let Some((fault, error)) = fault {
            self.record_fault(machine, fault);
            if fault == Fault::AcceptAborted {
                self.reset_end(id);
            }
            return Err(error.into());
        }
        let accepted = self.attach(machine, id);
        let Some(end) = self.ends.get_mut(&id) else { return Err(Errno::CONNABORTED.into()) };
        end.listener = None;
        let peer = end.peer.clone();
        self.record_call(machine, &[id], || format!("accept {peer}"));
        Ok((accepted, peer))
    }

    /// Closes a listener: what is in its queue is reset.
    pub(crate) fn close_listener(&mut self, listener: Listener) {
        for id in listener.pending {
            if let Some(end) = self.ends.get_mut(&id) {
                end.listener = None;
            }
            self.reset_end(id);
        }
    }

    /// Draws whether a system call on `id` is interrupted.
    pub(crate) fn interrupt(&mut self, id: EndId) -> io::Result<()> {
        self.draw(id, Fault::Interrupt).map_or(Ok(()), |_| Err(Errno::INTR.into()))
    }

    /// shutdown(2) of the write half.
    pub(crate) fn shutdown_write(&mut self, fd: Fd) -> io::Result<()> {
        let (id, end) = self.end_of(fd)?;
        if end.state != EndState::Open {
            return Err(Errno::NOTCONN.into());
        }
        if end.fin == FinState::Open {
            end.fin = FinState::Wanted;
        }
        let machine = end.machine;
        self.record_call(machine, &[id], || "shutdown".to_owned());
        self.pump(id);
        self.update_end_ready(id);
        Ok(())
    }
}

/// Returns the error of accept(2) that `fault` stands for.
fn accept_error(fault: Fault, details: &mut Rng) -> Errno {
    const SHORTAGES: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    match fault {
        Fault::Interrupt => Errno::INTR,
        Fault::AcceptAborted => Errno::CONNABORTED,
        _ => SHORTAGES[details.up_to(SHORTAGES.len()) - 1],
    }
}

/// Returns `true` if a socket at `at` receives what is sent to `to`, or two sockets conflict.
pub(crate) fn overlaps(at: &Address, to: &Address) -> bool {
    match (at, to) {
        (Address::Inet(at), Address::Inet(to)) => {
            at.port() == to.port()
                && (at.ip() == to.ip() || covers(at.ip(), to.ip()) || covers(to.ip(), at.ip()))
        }
        _ => at == to,
    }
}

/// Returns `true` if `any` is the unspecified address of a family to which `ip` belongs. That
/// of IPv6 includes IPv4 (ipv6(7), `IPV6_V6ONLY`).
fn covers(any: IpAddr, ip: IpAddr) -> bool {
    any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4())
}

/// Returns where a packet to `addr` goes: on Linux, the unspecified address is that of
/// loopback.
pub(crate) fn reached_addr(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, addr.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, addr.port()).into(),
        _ => addr,
    }
}

fn unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Draws how long one packet takes.
pub(crate) fn latency(link: &Link, rng: &mut Rng) -> u64 {
    nanos(link.latency) + rng.below(nanos(link.jitter).saturating_add(1))
}
