//! Unix sockets: the paths of a host, and connecting to one.

use std::io;
use std::time::Duration;

use reactor::Address;
use reactor::kernel::Fd;
use rustix::io::Errno;

use crate::connect::overlaps;
use crate::dice::Dice;
use crate::link::Link;
use crate::socket::{Descriptor, End, EndState, Object, SocketNumber};
use crate::world::{World, stream};

/// What is at the path of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Listener(Fd),
    Datagram(Fd),
    /// The file of a socket that was not closed, but ended with its program. So is an
    /// abstract name that nobody has: Linux refuses connections to both.
    Left,
    Nothing,
}

/// Returns the local address of a socket that has one.
fn local_addr(descriptor: &Descriptor) -> Option<&Address> {
    match &descriptor.object {
        Object::Listener(listener) => Some(&listener.at),
        Object::Datagram(socket) => Some(&socket.local),
        Object::Stream(_) | Object::Signals { .. } | Object::Queue(_) => None,
    }
}

impl World {
    /// Returns what the path `at` leads to on the host of `machine`.
    pub(crate) fn find_path(&self, machine: usize, at: &Address) -> Found {
        let host = self.machines[machine].ip;
        let mut open = self.open_descriptors();
        let user = open.find(|(_, other)| {
            self.machines[other.machine].ip == host
                && local_addr(other).is_some_and(|local| overlaps(local, at))
        });
        match (user, at) {
            (Some((fd, Descriptor { object: Object::Listener(_), .. })), _) => Found::Listener(fd),
            (Some((fd, _)), _) => Found::Datagram(fd),
            (None, Address::Abstract(_)) => Found::Left,
            (None, Address::Unix(Some(path)))
                if self.left_paths.contains(&(host, path.clone())) =>
            {
                Found::Left
            }
            (None, _) => Found::Nothing,
        }
    }

    /// Prepares to bind a socket to `at`. A path that was left behind is free, since the
    /// library replaces it.
    ///
    /// # Errors
    ///
    /// Returns `EADDRINUSE` for a path that another socket has.
    pub(crate) fn take_path(&mut self, machine: usize, at: &Address) -> io::Result<()> {
        if matches!(at, Address::Inet(_)) {
            return Ok(());
        }
        if matches!(self.find_path(machine, at), Found::Listener(_) | Found::Datagram(_)) {
            return Err(Errno::ADDRINUSE.into());
        }
        let host = self.machines[machine].ip;
        if let Address::Unix(Some(path)) = at {
            self.left_paths.remove(&(host, path.clone()));
        }
        Ok(())
    }

    /// Connects to a path that is in use, as the library does to see if anyone listens.
    pub(crate) fn probe_path(&mut self, machine: usize, at: &Address) {
        if !matches!(at, Address::Unix(_)) {
            return;
        }
        let number = self.next_socket(machine);
        let dice = self.socket_dice(stream::CONNECT, number);
        if let Ok(probe) = self.connect_unix(machine, at, number, dice) {
            self.close(probe);
        }
    }

    /// Leaves the paths of a program behind that has no time to remove them.
    pub(crate) fn leave_paths(&mut self, machine: usize) {
        let host = self.machines[machine].ip;
        let own = self.open_descriptors().filter(|(_, other)| other.machine == machine);
        let paths = own.filter_map(|(_, other)| match local_addr(other)? {
            Address::Unix(path) => Some((host, path.clone()?)),
            _ => None,
        });
        let paths: Vec<_> = paths.collect();
        self.left_paths.extend(paths);
    }

    /// A Unix socket is connected at once, if there is room in the listener's queue.
    pub(crate) fn connect_unix(
        &mut self,
        machine: usize,
        to: &Address,
        number: SocketNumber,
        dice: Dice,
    ) -> io::Result<Fd> {
        let listener = match self.find_path(machine, to) {
            Found::Listener(listener) => listener,
            Found::Datagram(_) => return Err(Errno::PROTOTYPE.into()),
            Found::Left => return Err(Errno::CONNREFUSED.into()),
            Found::Nothing => return Err(Errno::NOENT.into()),
        };
        let peer_machine = self.descriptor(listener)?.machine;
        if self.is_backlog_full(listener, peer_machine) {
            return Err(Errno::AGAIN.into());
        }
        let link = Link::default().with_latency(Duration::ZERO, Duration::ZERO);
        let unnamed = Address::Unix(None);
        let end =
            End::new(machine, unnamed.clone(), to.clone(), peer_machine, link, (number, dice));
        let id = self.add_end(end);
        let fd = self.attach(machine, id);
        let other = self.add_embryo(id, peer_machine, to.clone(), unnamed, listener);
        for (end, other) in [(id, other), (other, id)] {
            if let Some(end) = self.ends.get_mut(&end) {
                end.state = EndState::Open;
                end.other = Some(other);
            }
        }
        self.record_call(machine, &[id], || format!("connect to {to}"));
        self.queue_connection(other, listener);
        Ok(fd)
    }
}
