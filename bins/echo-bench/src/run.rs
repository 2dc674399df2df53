//! A run: the load of all threads, begun at the same moment, and the report.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::generator::Generator;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::progress::Progress;
use crate::record::Record;
use crate::report;

/// Measures and reports. Fails, after the report, where an answer was wrong or
/// missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let addr = options
        .addr
        .to_socket_addrs()
        .with_context(|| format!("cannot find {}; give --addr HOST:PORT", options.addr))?
        .next()
        .with_context(|| format!("{} has no address", options.addr))?;
    check_descriptors(options)?;

    let record = measure(addr, options)?;
    if options.json {
        report::json(options, addr, &record)?;
    } else {
        report::text(options, addr, &record)?;
    }
    if !record.is_good() {
        bail!("{addr} did not answer as an echo server does; see the report");
    }
    Ok(())
}

/// How many descriptors it takes is known before, and so whether they suffice.
fn check_descriptors(options: &Options) -> anyhow::Result<()> {
    /// The program's own, with room for some that are just being closed.
    const OTHERS: usize = 64;
    /// A reactor's, and some more that are just being closed.
    const PER_THREAD: usize = 8;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused, it stays what it is, and that is looked at next.
    let _ = setrlimit(Resource::Nofile, limit);
    let further = PER_THREAD * (options.threads() - 1);
    let wanted = (options.connections.get() + options.idle + further + OTHERS) as u64;
    match getrlimit(Resource::Nofile).current {
        Some(most) if most < wanted => bail!(
            "needs {wanted} open files, and the limit is {most}: \
             ask for fewer connections, or raise it (as root: ulimit -Hn {wanted})"
        ),
        _ => Ok(()),
    }
}

/// What one thread is to do.
pub(crate) struct Share {
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    /// How many connections the threads before it open.
    pub(crate) first: u32,
}

fn shares(options: &Options) -> Vec<Share> {
    let threads = options.threads();
    let part = |all: usize, thread| all / threads + usize::from(thread < all % threads);
    let mut first = 0;
    let share = |thread| {
        let connections = part(options.connections.get(), thread);
        let idle = part(options.idle, thread);
        let share = Share { connections, idle, first };
        first += u32::try_from(connections + idle).unwrap_or(u32::MAX);
        share
    };
    (0..threads).map(share).collect()
}

/// Has each thread open its connections, and then all of them measure.
fn measure(addr: SocketAddr, options: &Options) -> anyhow::Result<Record> {
    let pattern = Arc::new(Pattern::new(options.size));
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (mut starts, mut threads) = (Vec::new(), Vec::new());
        for share in shares(options) {
            let (start, starts_now) = mpsc::channel::<Arc<Progress>>();
            let (ready, pattern) = (ready.clone(), Arc::clone(&pattern));
            let generate = move || {
                let generator = Generator::open(addr, &share, pattern, options)?;
                let _ = ready.send(());
                drop(ready);
                match starts_now.recv() {
                    Ok(progress) => generator.measure(progress),
                    // Another one failed, and says why.
                    Err(_) => Record::new(),
                }
            };
            let thread = thread::Builder::new().spawn_scoped(scope, generate);
            threads.push(thread.context("cannot start a thread; ask for fewer --threads")?);
            starts.push(start);
        }
        drop(ready);
        // Each is ready, or gone.
        if is_ready.iter().count() == starts.len() {
            let progress = Arc::new(Progress::new(options.warm_up + options.duration));
            for start in &starts {
                let _ = start.send(Arc::clone(&progress));
            }
        }
        drop(starts);

        let mut all = Record::new()?;
        for thread in threads {
            all.add(thread.join().map_err(|_| anyhow!("a thread panicked"))??)?;
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn threads_share_all_connections_and_number_them_in_a_row() {
        let line = ["", "--connections", "7", "--idle", "5", "--threads", "3"];
        let shares = shares(&Options::parse_from(line));
        let told = shares.iter().map(|share| (share.connections, share.idle, share.first));
        assert_eq!(told.collect::<Vec<_>>(), [(3, 2, 0), (2, 2, 5), (2, 1, 9)]);
    }
}
