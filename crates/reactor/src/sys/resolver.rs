//! [`Resolver`]: name resolution on threads, since the system's resolver blocks.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The longest host name in bytes, without a final dot, and the longest part of one.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Receives the result of one lookup, on the thread that made it.
type Completion = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

/// Looks up host names, a few at a time; further ones wait in a queue. A thread
/// exists only while there is work for it.
#[derive(Default)]
pub(crate) struct Resolver(Arc<Mutex<Lookups>>);

#[derive(Default)]
struct Lookups {
    waiting: VecDeque<(Box<str>, u16, Completion)>,
    threads: usize,
}

impl Resolver {
    const MAX_THREADS: usize = 8;

    /// Resolves `host` and calls `completion` with its addresses, on another
    /// thread.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread runs and none can be started.
    pub(crate) fn lookup(
        &self,
        host: &str,
        port: u16,
        completion: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) -> io::Result<()> {
        #[cfg(all(unix, feature = "sim"))]
        if let Some(kernel) = crate::sys::kernel::current() {
            check_name(host)?;
            kernel.resolve(host, port, Box::new(completion));
            return Ok(());
        }
        let mut lookups = lock(&self.0);
        lookups.waiting.push_back((host.into(), port, Box::new(completion)));
        if lookups.threads == Self::MAX_THREADS {
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        match thread::Builder::new().name("resolver".into()).spawn(move || run(&shared)) {
            Ok(_) => lookups.threads += 1,
            Err(error) if lookups.threads == 0 => {
                lookups.waiting.pop_back();
                return Err(error);
            }
            // The threads that run take it from the queue.
            Err(_) => {}
        }
        Ok(())
    }
}

/// One resolver thread: resolves until the queue is empty.
fn run(shared: &Mutex<Lookups>) {
    loop {
        let mut lookups = lock(shared);
        let Some((host, port, completion)) = lookups.waiting.pop_front() else {
            lookups.threads -= 1;
            return;
        };
        drop(lookups);
        completion(resolve(&host, port));
    }
}

fn lock(lookups: &Mutex<Lookups>) -> MutexGuard<'_, Lookups> {
    // No code that can panic runs under the lock.
    lookups.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    check_name(host)?;
    let addrs: Vec<_> = (host, port).to_socket_addrs()?.collect();
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
    }
    Ok(addrs)
}

/// Checks the form of a name (RFC 1035, section 2.3.4), so that an impossible one is not
/// sent to a name server.
///
/// # Errors
///
/// Returns `InvalidInput` for a name that is empty or too long, or contains an empty
/// label or a zero byte.
fn check_name(host: &str) -> io::Result<()> {
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return invalid("the host name is empty");
    }
    if name.contains('\0') {
        return invalid("the host name contains a zero byte");
    }
    if name.len() > MAX_NAME {
        return invalid("the host name is longer than 253 bytes");
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL) {
        return invalid("a part of the host name is empty or longer than 63 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lookups_beyond_the_thread_limit_are_queued() {
        let resolver = Resolver::default();
        let (result_tx, result_rx) = mpsc::channel();
        let (release_tx, release_rx) = mpsc::channel::<()>();
        let release_rx = Arc::new(Mutex::new(release_rx));
        let count = 3 * Resolver::MAX_THREADS;
        for _ in 0..count {
            let (result_tx, release_rx) = (result_tx.clone(), Arc::clone(&release_rx));
            let completion = move |result: io::Result<Vec<SocketAddr>>| {
                release_rx.lock().unwrap().recv().unwrap();
                result_tx.send(result.unwrap()).unwrap();
            };
            resolver.lookup("127.0.0.1", 80, completion).unwrap();
        }
        assert!(lock(&resolver.0).threads <= Resolver::MAX_THREADS);
        for _ in 0..count {
            release_tx.send(()).unwrap();
            let addrs = result_rx.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(addrs, ["127.0.0.1:80".parse().unwrap()]);
        }
    }
}
