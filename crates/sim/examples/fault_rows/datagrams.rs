//! What goes wrong with datagrams.

use std::io;

use anyhow::ensure;
use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, TimerId};
use sim::{Fault, Faults, MachineId, Sim};

use crate::common::{LATENCY, MINUTE, pattern, server_addr};
use crate::support::{Shared, choose, open_channels};

/// Returns each datagram.
struct Echo;

impl DatagramProtocol for Echo {
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()> {
        io.send_to(data, from)
    }
}

/// Sends datagrams of the given lengths, one each 10 ms.
struct Sender {
    lens: Vec<usize>,
    next: usize,
    received: Shared<Vec<usize>>,
}

impl DatagramProtocol for Sender {
    fn handle_add(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        io.set_timer(LATENCY);
        Ok(())
    }

    fn handle_timer(&mut self, io: &mut DatagramIo<'_>, _: TimerId) -> io::Result<()> {
        if let Some(&len) = self.lens.get(self.next) {
            self.next += 1;
            io.set_timer(LATENCY);
            io.send(&pattern(len))?;
        }
        Ok(())
    }

    fn handle_datagram(
        &mut self,
        _: &mut DatagramIo<'_>,
        data: &[u8],
        _: &Address,
    ) -> io::Result<()> {
        assert_eq!(data, pattern(data.len()));
        self.received.borrow_mut().push(data.len());
        Ok(())
    }
}

fn add_echo(sim: &mut Sim) -> anyhow::Result<MachineId> {
    let server = sim.machine("server", [10, 0, 0, 1], |reactor| {
        reactor.add(Datagram::bind(server_addr(), Echo)?).map(drop)
    });
    Ok(server?)
}

fn add_sender(sim: &mut Sim, lens: &[usize]) -> anyhow::Result<(MachineId, Shared<Vec<usize>>)> {
    let received = Shared::<Vec<usize>>::default();
    let (lens, noted) = (lens.to_vec(), received.clone());
    let machine = sim.machine("sender", [10, 0, 0, 2], move |reactor| {
        let sender = Sender { lens: lens.clone(), next: 0, received: noted.clone() };
        reactor.add(Datagram::connect(server_addr(), sender)?).map(drop)
    })?;
    Ok((machine, received))
}

/// Returns lengths of which a third is 0.
fn lens(sim: &mut Sim) -> Vec<usize> {
    let len = |_| [0, 1, choose(sim, 1400)][choose(sim, 3)];
    (0..20).map(len).collect()
}

/// Datagrams without content arrive as any other, and close nothing.
pub(crate) fn empty(sim: &mut Sim) -> anyhow::Result<()> {
    sim.set_faults(Faults::none().with(Fault::Spurious, 100_000));
    let server = add_echo(sim)?;
    let lens = lens(sim);
    let (sender, received) = add_sender(sim, &lens)?;
    sim.run(MINUTE)?;
    ensure!(*received.borrow() == lens, "{received:?} instead of {lens:?}");
    for machine in [server, sender] {
        ensure!(open_channels(sim, machine) == 1, "the channel has closed");
    }
    Ok(())
}

/// No program receives the datagrams, which the host reports by ICMP. Once one does, they
/// arrive.
pub(crate) fn port_unreachable(sim: &mut Sim) -> anyhow::Result<()> {
    // The host is there, and the program is not.
    let other = sim.machine("server", [10, 0, 0, 1], |reactor| {
        reactor.context().call_later(MINUTE, |_| ());
        Ok(())
    })?;
    let lens = lens(sim);
    let (sender, received) = add_sender(sim, &lens)?;
    let starts_with = choose(sim, 15);
    sim.run(LATENCY * u32::try_from(starts_with)?)?;
    add_echo(sim)?;
    sim.run(MINUTE)?;
    ensure!(!sim.has_ended(other) || open_channels(sim, sender) == 1, "the channel has closed");
    ensure!(open_channels(sim, sender) == 1, "the channel has closed");
    // An error that is reported with a later one may cost that one.
    let arrived = received.borrow().len();
    ensure!(arrived + starts_with + 3 >= lens.len(), "{arrived} of {} returned", lens.len());
    ensure!(lens.ends_with(&received.borrow()), "{received:?} of {lens:?}");
    let stats = crate::support::stats(sim, sender)?;
    ensure!(starts_with < 3 || stats.icmp_errors > 0, "{stats:?}");
    Ok(())
}
