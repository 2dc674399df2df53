//! What a machine's poller reports.

use std::io;
use std::sync::atomic::Ordering;

use reactor::kernel::{Fd, Readiness};
use rustix::io::Errno;

use crate::fault::Fault;
use crate::socket::{Descriptor, End, EndId, Object};
use crate::world::World;

impl World {
    pub(crate) fn readiness(&self, fd: Fd) -> Readiness {
        let Ok(descriptor) = self.descriptor(fd) else { return Readiness::default() };
        let readable = |readable| Readiness { readable, ..Readiness::default() };
        match &descriptor.object {
            Object::Stream(id) => self.ends.get(id).map_or_else(Readiness::default, End::readiness),
            Object::Listener(listener) => readable(!listener.pending.is_empty()),
            Object::Datagram(socket) => Readiness {
                readable: !socket.received.is_empty() || socket.error.is_some(),
                writable: true,
                hung_up: socket.error.is_some(),
            },
            Object::Signals { arrived, .. } => readable(!arrived.is_empty()),
            Object::Queue(_) => Readiness::default(),
        }
    }

    /// Updates whether the queue that watches `fd` reports it.
    pub(crate) fn update_ready(&mut self, fd: Fd) {
        let readiness = self.readiness(fd);
        let Some(queue) = self.descriptor(fd).ok().and_then(|descriptor| descriptor.queue) else {
            return;
        };
        let Ok(Descriptor { object: Object::Queue(queue), .. }) = self.descriptor_mut(queue) else {
            return;
        };
        let Some((_, wanted)) = queue.watched.get(&fd) else { return };
        if intersection(readiness, *wanted).is_some() {
            queue.ready.insert(fd);
        } else {
            queue.ready.remove(&fd);
        }
    }

    pub(crate) fn update_end_ready(&mut self, end: EndId) {
        let Some(end) = self.ends.get(&end) else { return };
        if let Some(fd) = end.fd.or(end.listener) {
            self.update_ready(fd);
        }
    }

    pub(crate) fn watch(
        &mut self,
        queue: Fd,
        fd: Fd,
        key: usize,
        wanted: Readiness,
    ) -> io::Result<()> {
        self.descriptor_mut(fd)?.queue = Some(queue);
        if let Object::Queue(queue) = &mut self.descriptor_mut(queue)?.object {
            queue.watched.insert(fd, (key, wanted));
        }
        self.update_ready(fd);
        Ok(())
    }

    pub(crate) fn forget(&mut self, queue: Fd, fd: Fd) -> io::Result<()> {
        self.descriptor_mut(fd)?.queue = None;
        let Object::Queue(queue) = &mut self.descriptor_mut(queue)?.object else {
            return Err(Errno::INVAL.into());
        };
        queue.ready.remove(&fd);
        queue.watched.remove(&fd).map(drop).ok_or(Errno::NOENT.into())
    }

    /// Appends the keys of what is ready, in any order.
    pub(crate) fn take_events(&mut self, queue: Fd, events: &mut Vec<(usize, Readiness)>) {
        let faults = self.faults.clone();
        let Ok(Descriptor { object: Object::Queue(queue), machine, .. }) =
            self.descriptor_mut(queue)
        else {
            return;
        };
        let machine = *machine;
        let ready = queue.ready.iter().filter_map(|fd| Some((*fd, *queue.watched.get(fd)?)));
        let mut reported: Vec<_> = ready.map(|(fd, watched)| (fd, watched, false)).collect();
        let mut is_spurious = false;
        if let Some(mut rng) = queue.dice.draw(Fault::Spurious, &faults) {
            let idle = queue
                .watched
                .iter()
                .filter(|(fd, (_, wanted))| wanted.readable && !queue.ready.contains(fd));
            let idle: Vec<_> = idle.map(|(fd, watched)| (*fd, *watched, true)).collect();
            is_spurious = !idle.is_empty();
            if is_spurious {
                reported.push(idle[rng.up_to(idle.len()) - 1]);
            }
        }
        queue.dice.rng.shuffle(&mut reported);
        if is_spurious {
            self.record_fault(machine, Fault::Spurious);
        }
        for &(fd, (key, wanted), is_spurious) in &reported {
            let mut readiness = self.readiness(fd);
            readiness.readable |= is_spurious;
            events.extend(intersection(readiness, wanted).map(|readiness| (key, readiness)));
        }
        self.trace.mix(&[u8::try_from(reported.len()).unwrap_or(u8::MAX)]);
    }

    /// Returns `true` if the queue of `machine` has something to report.
    pub(crate) fn is_awake(&self, machine: usize) -> bool {
        let queue = self.machines[machine].queue.map(|queue| self.descriptor(queue));
        match queue {
            Some(Ok(Descriptor { object: Object::Queue(queue), .. })) => {
                !queue.ready.is_empty() || queue.woken.load(Ordering::Acquire)
            }
            _ => false,
        }
    }
}

/// Returns what of `readiness` is reported to one who wants `wanted`: a hang-up always.
fn intersection(readiness: Readiness, wanted: Readiness) -> Option<Readiness> {
    let reported = Readiness {
        readable: readiness.readable && wanted.readable,
        writable: readiness.writable && wanted.writable,
        hung_up: readiness.hung_up,
    };
    (reported != Readiness::default()).then_some(reported)
}
