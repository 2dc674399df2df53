//! Datagrams: sending, losing, duplicating, reordering and receiving them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use reactor::Address;
use reactor::kernel::{Fd, Packet};
use rustix::io::Errno;

use crate::connect::{latency, overlaps, reached_addr};
use crate::fault::Fault;
use crate::socket::{Datagram, DatagramSocket, Object, Sender};
use crate::trace::EventKind;
use crate::unix::Found;
use crate::world::{Event, World, stream};

/// The longest payload of a datagram (UDP over IPv4).
const MAX_DATAGRAM: usize = 65_507;

/// The longest one over a Unix socket (Linux: `wmem_default`, less what the kernel adds).
const MAX_UNIX_DATAGRAM: usize = 212_960;

/// How many datagrams a Unix socket holds beyond the first one, before their senders have to
/// wait (Linux: `net.unix.max_dgram_qlen`).
const MAX_QUEUED: usize = 10;

/// How many bytes a socket holds until they are received (Linux: `rmem_default`).
const RECEIVE_BUFFER: usize = 212_992;

/// By how much a datagram that is overtaken is late.
const REORDER_DELAY: u64 = 50_000_000;

impl World {
    pub(crate) fn open_datagram(
        &mut self,
        machine: usize,
        at: Option<&Address>,
        peer: Option<SocketAddr>,
    ) -> io::Result<Fd> {
        self.check_limit(machine)?;
        let peer = peer.map(reached_addr);
        let ip = peer.map_or(self.machines[machine].ip, |peer| self.source_ip(machine, peer.ip()));
        let local = match at {
            Some(at) => self.bind_address(machine, at)?,
            None => self.bind_address(machine, &Address::Inet(SocketAddr::new(ip, 0)))?,
        };
        self.take_path(machine, &local)?;
        let is_taken = self.open_descriptors().any(|(_, other)| match &other.object {
            Object::Datagram(socket) => {
                let is_same_host = self.machines[other.machine].ip == self.machines[machine].ip;
                is_same_host && overlaps(&socket.local, &local)
            }
            _ => false,
        });
        if is_taken {
            return Err(Errno::ADDRINUSE.into());
        }
        let number = self.next_socket(machine);
        let dice = self.socket_dice(stream::DATAGRAM, number);
        let socket = DatagramSocket {
            local: local.clone(),
            peer: peer.map(Address::Inet),
            number,
            received: VecDeque::new(),
            error: None,
            dice,
        };
        let fd = self.open(machine, Object::Datagram(Box::new(socket)));
        self.record_call(machine, &[], || format!("bind {local}"));
        Ok(fd)
    }

    fn datagram_socket(&mut self, fd: Fd) -> io::Result<&mut DatagramSocket> {
        match &mut self.descriptor_mut(fd)?.object {
            Object::Datagram(socket) => Ok(socket),
            _ => Err(Errno::NOTSOCK.into()),
        }
    }

    pub(crate) fn send_datagram(
        &mut self,
        machine: usize,
        fd: Fd,
        data: &[u8],
        to: Option<&Address>,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        let own_ip = self.machines[machine].ip;
        let is_foreign = from.is_some_and(|from| !self.has_address(machine, from));
        let source_ip = match to {
            Some(Address::Inet(to)) => self.source_ip(machine, reached_addr(*to).ip()),
            _ => own_ip,
        };
        let socket = self.datagram_socket(fd)?;
        // As the next call on a socket reports an ICMP message about an earlier one.
        if let Some(error) = socket.error.take() {
            self.update_ready(fd);
            return Err(error.into());
        }
        let is_unix = !matches!(socket.local, Address::Inet(_));
        if data.len() > if is_unix { MAX_UNIX_DATAGRAM } else { MAX_DATAGRAM } {
            return Err(Errno::MSGSIZE.into());
        }
        if is_foreign {
            return Err(Errno::NETUNREACH.into());
        }
        let to = match to.cloned().or(socket.peer.clone()).ok_or(Errno::DESTADDRREQ)? {
            Address::Inet(to) => Address::Inet(reached_addr(to)),
            to => to,
        };
        let local = match (socket.local.clone(), &to) {
            (Address::Inet(mut local), Address::Inet(_)) => {
                if let Some(ip) = from {
                    local.set_ip(ip);
                } else if local.ip().is_unspecified() {
                    local.set_ip(source_ip);
                }
                Address::Inet(local)
            }
            (local, _) => local,
        };
        let sender = Sender { machine, fd, number: socket.number };
        let mut dice = socket.dice.clone();
        let is_lost = dice.draw(Fault::DatagramLoss, &self.faults).is_some();
        let is_doubled = dice.draw(Fault::DatagramDuplicate, &self.faults).is_some();
        let is_late = dice.draw(Fault::DatagramReorder, &self.faults).is_some();
        let Address::Inet(addr) = to else {
            self.datagram_socket(fd)?.dice = dice;
            let datagram = Datagram { sender, data: data.to_vec(), from: local, to: None };
            return self.send_unix(&to, datagram);
        };
        let reached = self.machines_at(machine, addr.ip()).into_iter().find(|&at| {
            self.open_descriptors().any(|(_, other)| match &other.object {
                Object::Datagram(socket) => other.machine == at && overlaps(&socket.local, &to),
                _ => false,
            })
        });
        // A host without such a socket answers; one that does not exist is silent.
        let host = reached.or_else(|| self.machines_at(machine, addr.ip()).first().copied());
        let link = host.map_or(self.link, |host| self.link_between(machine, host));
        let at = self.now + latency(&link, &mut dice.rng);
        let again = at + latency(&link, &mut dice.rng);
        self.datagram_socket(fd)?.dice = dice;
        let len = data.len();
        self.trace.mix(data);
        self.record_call(machine, &[len as u64], || format!("send {len} bytes to {addr}"));
        for (happens, fault) in [
            (is_lost, Fault::DatagramLoss),
            (is_doubled && !is_lost, Fault::DatagramDuplicate),
            (is_late && !is_lost, Fault::DatagramReorder),
        ] {
            if happens {
                self.record_fault(machine, fault);
            }
        }
        let Some(host) = host.filter(|_| !is_lost) else { return Ok(()) };
        let at = if is_late { at + REORDER_DELAY } else { at };
        let to = Some(addr.ip());
        let datagram = Datagram { sender, data: data.to_vec(), from: local, to };
        for at in [Some(at), is_doubled.then_some(again)].into_iter().flatten() {
            let (to, datagram) = (Address::Inet(addr), datagram.clone());
            self.schedule(at, Event::Datagram { machine: host, to, datagram });
        }
        Ok(())
    }

    /// A Unix datagram is with its receiver at once.
    fn send_unix(&mut self, to: &Address, datagram: Datagram) -> io::Result<()> {
        let target = match self.find_path(datagram.sender.machine, to) {
            Found::Datagram(target) => target,
            Found::Listener(_) => return Err(Errno::PROTOTYPE.into()),
            Found::Left => return Err(Errno::CONNREFUSED.into()),
            Found::Nothing => return Err(Errno::NOENT.into()),
        };
        let machine = self.descriptor(target)?.machine;
        if self.datagram_socket(target)?.received.len() > MAX_QUEUED {
            return Err(Errno::AGAIN.into());
        }
        self.on_datagram(machine, to, datagram);
        Ok(())
    }

    /// A datagram arrives.
    pub(crate) fn on_datagram(&mut self, machine: usize, to: &Address, datagram: Datagram) {
        let sender = datagram.sender;
        if !self.is_reachable(sender.machine, machine) {
            return;
        }
        let found = self.open_descriptors().find(|(_, descriptor)| match &descriptor.object {
            Object::Datagram(socket) => {
                let is_from_peer = socket.peer.as_ref().is_none_or(|peer| *peer == datagram.from);
                descriptor.machine == machine && overlaps(&socket.local, to) && is_from_peer
            }
            _ => false,
        });
        let found = found.map(|(fd, _)| fd);
        let len = datagram.data.len();
        let machines = (sender.machine, Some(machine));
        self.trace.record(self.now, EventKind::Message, machines, &[len as u64], || {
            let what = if found.is_some() { "" } else { ", which no socket receives" };
            format!("datagram of {len} bytes{what}")
        });
        let Some(fd) = found else {
            let link = self.link_between(sender.machine, machine);
            if let Ok(socket) = self.datagram_socket(sender.fd) {
                let at = latency(&link, &mut socket.dice.rng);
                self.schedule(self.now + at, Event::PortUnreachable { sender });
            }
            return;
        };
        if let Ok(socket) = self.datagram_socket(fd) {
            let held: usize = socket.received.iter().map(|datagram| datagram.data.len()).sum();
            if held + len <= RECEIVE_BUFFER || datagram.to.is_none() {
                socket.received.push_back(datagram);
            }
        }
        self.update_ready(fd);
    }

    pub(crate) fn on_port_unreachable(&mut self, sender: Sender) {
        if let Ok(socket) = self.datagram_socket(sender.fd)
            && socket.number == sender.number
            // An unconnected socket does not report it (udp(7)).
            && socket.peer.is_some()
        {
            socket.error = Some(Errno::CONNREFUSED);
            self.update_ready(sender.fd);
        }
    }

    pub(crate) fn receive_datagram(&mut self, fd: Fd, buffer: &mut [u8]) -> io::Result<Packet> {
        let socket = self.datagram_socket(fd)?;
        if let Some(error) = socket.error.take() {
            self.update_ready(fd);
            return Err(error.into());
        }
        let is_any = matches!(&socket.local, Address::Inet(local) if local.ip().is_unspecified());
        let Some(datagram) = socket.received.pop_front() else { return Err(Errno::AGAIN.into()) };
        let Datagram { data, from, to, .. } = datagram;
        self.update_ready(fd);
        let copied = data.len().min(buffer.len());
        buffer[..copied].copy_from_slice(&data[..copied]);
        let machine = self.descriptor(fd)?.machine;
        let len = data.len();
        self.record_call(machine, &[len as u64], || format!("receive {len} bytes from {from}"));
        Ok(Packet { len, from, to: to.filter(|_| is_any) })
    }
}
