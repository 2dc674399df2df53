//! Prints the events of a directory: a custom source in the loop.
//!
//! ```text
//! cargo run --package reactor --example inotify DIRECTORY
//! ```
//!
//! The library has dispatchers for sockets and pipes. For any other pollable
//! descriptor (Linux's `inotify` here; a `timerfd` or a device is similar)
//! implement [`Dispatcher`](reactor::Dispatcher): return the descriptor from
//! `source`, and read it in `handle_read`.

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;

    use anyhow::{anyhow, bail};
    use reactor::{Cause, CloseReason, Context, Dispatcher, Reactor, Source};
    use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
    use rustix::io::Errno;

    struct Watcher(OwnedFd);

    impl Dispatcher for Watcher {
        fn source(&self) -> Source<'_> {
            Source::from(&self.0)
        }

        /// Reads one buffer of events. If there are more, the source stays
        /// ready, and other channels are served before the next call.
        fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(&self.0, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    // Spurious readiness is possible, and is not an error.
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(error) => return Err(error.into()),
                };
                print(&event);
                if event.events().contains(ReadFlags::IGNORED) {
                    // The directory was removed, so no more events follow.
                    cx.close(cx.token());
                }
                if reader.is_buffer_empty() {
                    return Ok(());
                }
            }
        }

        fn handle_close(&mut self, _cx: &mut Context, reason: &CloseReason) {
            if !matches!(reason.cause, Cause::Local) {
                eprintln!("inotify: {reason}");
            }
        }
    }

    fn print(event: &Event<'_>) {
        const NAMES: [(ReadFlags, &str); 7] = [
            (ReadFlags::CREATE, "created"),
            (ReadFlags::CLOSE_WRITE, "written"),
            (ReadFlags::MOVED_FROM, "moved away"),
            (ReadFlags::MOVED_TO, "moved here"),
            (ReadFlags::DELETE, "deleted"),
            (ReadFlags::QUEUE_OVERFLOW, "too much at once, something was missed"),
            (ReadFlags::IGNORED, "the directory was removed"),
        ];
        for (_, what) in NAMES.iter().filter(|(flag, _)| event.events().contains(*flag)) {
            match event.file_name() {
                // Quoted, as a name may contain a newline.
                Some(name) => println!("{what}: {:?}", name.to_string_lossy()),
                None => println!("{what}"),
            }
        }
    }

    pub(super) fn main() -> anyhow::Result<()> {
        let mut args = env::args().skip(1);
        let (Some(path), None) = (args.next(), args.next()) else {
            bail!("usage: inotify DIRECTORY");
        };
        // A read must never block the loop, so NONBLOCK.
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let wanted = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, &path, wanted).map_err(|error| anyhow!("{path}: {error}"))?;
        println!("Watching {path}");
        let mut reactor = Reactor::new()?;
        reactor.add(Watcher(inotify))?;
        Ok(reactor.run()?)
    }
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("inotify is Linux's own")
}
