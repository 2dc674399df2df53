//! [`MachineKernel`]: the system calls of one machine.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use reactor::Address;
use reactor::kernel::{Completion, Fd, Kernel, Packet, Readiness};
use rustix::io::Errno;

use crate::dice::Dice;
use crate::socket::{Object, Queue};
use crate::world::{World, stream};

/// The system of one machine, which is a part of the world.
pub(crate) struct MachineKernel {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) machine: usize,
}

impl Kernel for MachineKernel {
    fn now(&self) -> Instant {
        self.world.borrow().instant()
    }

    fn random(&self) -> u64 {
        self.world.borrow_mut().machines[self.machine].random.next()
    }

    fn connect(&self, to: &Address, from: Option<SocketAddr>) -> io::Result<Fd> {
        self.world.borrow_mut().connect(self.machine, to, from)
    }

    fn take_connect_result(&self, fd: Fd) -> io::Result<()> {
        self.world.borrow_mut().take_connect_result(fd)
    }

    fn listen(&self, at: &Address, reuse_port: bool) -> io::Result<Fd> {
        self.world.borrow_mut().listen(self.machine, at, reuse_port)
    }

    fn accept(&self, fd: Fd) -> io::Result<(Fd, Address)> {
        self.world.borrow_mut().accept(self.machine, fd)
    }

    fn read(&self, fd: Fd, buffer: &mut [u8]) -> io::Result<usize> {
        self.world.borrow_mut().read(fd, buffer)
    }

    fn write(&self, fd: Fd, data: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().write(fd, data)
    }

    fn shutdown_write(&self, fd: Fd) -> io::Result<()> {
        self.world.borrow_mut().shutdown_write(fd)
    }

    fn reset_on_close(&self, fd: Fd) {
        if let Ok((_, end)) = self.world.borrow_mut().end_of(fd) {
            end.reset_on_close = !end.is_unix();
        }
    }

    fn take_error(&self, fd: Fd) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let (id, end) = world.end_of(fd)?;
        let error = end.error.take();
        world.update_end_ready(id);
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn watch_unsent(&self, fd: Fd) {
        let mut world = self.world.borrow_mut();
        if let Ok((id, end)) = world.end_of(fd) {
            end.watches_unsent = true;
            world.update_end_ready(id);
        }
    }

    fn unsent(&self, fd: Fd) -> usize {
        self.world.borrow_mut().end_of(fd).map_or(0, |(_, end)| end.unsent.len())
    }

    fn open_datagram(&self, at: Option<&Address>, peer: Option<SocketAddr>) -> io::Result<Fd> {
        self.world.borrow_mut().open_datagram(self.machine, at, peer)
    }

    fn send(
        &self,
        fd: Fd,
        data: &[u8],
        to: Option<&Address>,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        self.world.borrow_mut().send_datagram(self.machine, fd, data, to, from)
    }

    fn receive(&self, fd: Fd, buffer: &mut [u8]) -> io::Result<Packet> {
        self.world.borrow_mut().receive_datagram(fd, buffer)
    }

    fn local_addr(&self, fd: Fd) -> io::Result<Address> {
        let world = self.world.borrow();
        match &world.descriptor(fd)?.object {
            Object::Listener(listener) => Ok(listener.at.clone()),
            Object::Datagram(socket) => Ok(socket.local.clone()),
            Object::Stream(id) => {
                world.ends.get(id).map(|end| end.local.clone()).ok_or(Errno::BADF.into())
            }
            Object::Signals { .. } | Object::Queue(_) => Err(Errno::NOTSOCK.into()),
        }
    }

    fn peer_addr(&self, fd: Fd) -> io::Result<Address> {
        self.world.borrow_mut().end_of(fd).map(|(_, end)| end.peer.clone())
    }

    fn close(&self, fd: Fd) {
        let mut world = self.world.borrow_mut();
        // One that was closed with its program may belong to another machine by now.
        if world.descriptor(fd).is_ok_and(|descriptor| descriptor.machine == self.machine) {
            world.close(fd);
        }
    }

    fn open_signals(&self, signals: &[i32]) -> io::Result<Fd> {
        let mut world = self.world.borrow_mut();
        world.check_limit(self.machine)?;
        let object = Object::Signals { numbers: signals.to_vec(), arrived: Vec::new() };
        Ok(world.open(self.machine, object))
    }

    fn take_signals(&self, fd: Fd) -> Vec<i32> {
        self.world.borrow_mut().take_signals(fd)
    }

    fn resolve(&self, host: &str, port: u16, completion: Completion) {
        self.world.borrow_mut().resolve(self.machine, host, port, completion);
    }

    fn open_queue(&self) -> io::Result<(Fd, Arc<AtomicBool>)> {
        let mut world = self.world.borrow_mut();
        world.check_limit(self.machine)?;
        let woken = Arc::new(AtomicBool::new(false));
        let queue = Queue {
            watched: BTreeMap::new(),
            ready: BTreeSet::new(),
            woken: Arc::clone(&woken),
            dice: Dice::new(world.seed, &[stream::QUEUE, self.machine as u64]),
        };
        let fd = world.open(self.machine, Object::Queue(queue));
        world.machines[self.machine].queue = Some(fd);
        Ok((fd, woken))
    }

    fn watch(&self, queue: Fd, fd: Fd, key: usize, wanted: Readiness) -> io::Result<()> {
        self.world.borrow_mut().watch(queue, fd, key, wanted)
    }

    fn forget(&self, queue: Fd, fd: Fd) -> io::Result<()> {
        self.world.borrow_mut().forget(queue, fd)
    }

    fn take_events(&self, queue: Fd, events: &mut Vec<(usize, Readiness)>) {
        self.world.borrow_mut().take_events(queue, events);
    }

    fn readiness(&self, fd: Fd) -> Readiness {
        self.world.borrow().readiness(fd)
    }
}
