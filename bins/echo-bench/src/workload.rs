//! [`Workload`]: how connections are opened, and what they send.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reactor::{Context, Limits, Protocol, Stream, Token};

use crate::options::Options;
use crate::pattern::Pattern;
use crate::record::Record;

/// Time to connect, before the load starts.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of connections from one loopback address, which has about
/// 28,000 ports.
const CONNECTIONS_PER_SOURCE: u32 = 25_000;

/// Number of loopback addresses that churn uses in turn. Each closed connection
/// keeps its port in TIME-WAIT for a minute, and with many of them the kernel
/// takes long to find a free port.
const CHURN_SOURCES: u32 = 200;

/// What all connections of one thread share.
pub(crate) struct Workload {
    addr: SocketAddr,
    size: usize,
    pipeline: usize,
    churn: bool,
    reply_timeout: Duration,
    use_many_sources: bool,
    /// Shared by all threads.
    pattern: Arc<Pattern>,
    /// Number of the next connection, among those of all threads.
    next_number: Cell<u32>,
    /// Number of open conversations.
    open_count: Cell<usize>,
    stage: RefCell<Stage>,
    record: RefCell<Record>,
}

/// State machine for the load: `Opening` → `Started`.
enum Stage {
    /// These conversations have received their first reply.
    Opening { ready: Vec<Token> },
    /// All conversations send messages.
    Started,
}

impl Workload {
    /// Creates the workload of a thread whose first connection has the number
    /// `first_number`.
    pub(crate) fn new(
        addr: SocketAddr,
        first_number: u32,
        pattern: Arc<Pattern>,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let connections = options.connections.get() + options.idle;
        Ok(Workload {
            addr,
            size: options.size,
            pipeline: if options.churn { 1 } else { options.pipeline.get() },
            churn: options.churn,
            reply_timeout: options.reply_timeout,
            use_many_sources: options.churn || connections > CONNECTIONS_PER_SOURCE as usize,
            pattern,
            next_number: Cell::new(first_number),
            open_count: Cell::new(0),
            stage: RefCell::new(Stage::Opening { ready: Vec::new() }),
            record: RefCell::new(Record::new()?),
        })
    }

    /// Opens a connection and adds it to the reactor.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor accepts no more channels. Failures to
    /// connect are passed to the protocol.
    pub(crate) fn open(&self, cx: &mut Context, protocol: impl Protocol) -> io::Result<()> {
        let number = self.next_number.get();
        self.next_number.set(number.wrapping_add(1));
        let stream = match self.source(number) {
            Some(source) => Stream::connect_from(source, self.addr, protocol),
            None => Stream::connect([self.addr], protocol),
        };
        let limits = Limits {
            // More than the messages in flight, so that reading never stops.
            high_water: self.size.saturating_mul(self.pipeline).saturating_add(1),
            connect_timeout: Some(if self.has_started() {
                self.reply_timeout
            } else {
                CONNECT_TIMEOUT
            }),
            stall_timeout: None,
            ..Limits::default()
        };
        cx.add(stream.with_limits(limits)).map(drop)
    }

    /// Records an error, and ends the run: a measurement with errors is of no
    /// use, and a server that has stopped sends no more replies.
    pub(crate) fn fail(&self, cx: &mut Context, error: String) {
        let mut record = self.record.borrow_mut();
        record.record_error(error);
        record.finish(Instant::now());
        cx.stop();
    }

    /// Counts a conversation that was opened.
    pub(crate) fn count_opened(&self) {
        self.open_count.set(self.open_count.get() + 1);
    }

    /// Counts a conversation that has closed. Returns `true` if it was the last.
    pub(crate) fn count_closed(&self) -> bool {
        self.open_count.set(self.open_count.get().saturating_sub(1));
        self.open_count.get() == 0
    }

    /// Returns the number of open conversations.
    pub(crate) fn open_count(&self) -> usize {
        self.open_count.get()
    }

    /// Records that a conversation has received its first reply.
    pub(crate) fn record_ready(&self, token: Token) {
        if let Stage::Opening { ready } = &mut *self.stage.borrow_mut() {
            ready.push(token);
        }
    }

    /// Returns the number of conversations that are ready.
    pub(crate) fn ready_count(&self) -> u64 {
        match &*self.stage.borrow() {
            Stage::Opening { ready } => ready.len() as u64,
            Stage::Started => 0,
        }
    }

    /// Starts the load, and returns the conversations that are ready.
    pub(crate) fn start(&self) -> Vec<Token> {
        match self.stage.replace(Stage::Started) {
            Stage::Opening { ready } => ready,
            Stage::Started => Vec::new(),
        }
    }

    /// Returns `true` if the load has started.
    pub(crate) fn has_started(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Started)
    }

    /// Returns the time without a reply after which a run fails.
    pub(crate) fn reply_timeout(&self) -> Duration {
        self.reply_timeout
    }

    /// Returns the address to connect from, or `None` for the system's choice.
    fn source(&self, number: u32) -> Option<SocketAddr> {
        if !self.use_many_sources || !self.addr.ip().is_loopback() || !self.addr.is_ipv4() {
            return None;
        }
        let index =
            if self.churn { number % CHURN_SOURCES } else { number / CONNECTIONS_PER_SOURCE };
        // All of 127.0.0.0/8 is this machine.
        let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + index);
        Some(SocketAddr::new(IpAddr::V4(ip), 0))
    }

    /// Returns the server's address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the size of a message.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of messages in flight on each connection.
    pub(crate) fn pipeline(&self) -> usize {
        self.pipeline
    }

    /// Returns `true` if each message has its own connection.
    pub(crate) fn is_churn(&self) -> bool {
        self.churn
    }

    /// Returns `len` bytes of what a connection sends, starting at `position`.
    pub(crate) fn data_at(&self, position: u64, len: usize) -> &[u8] {
        self.pattern.slice_at(position, len)
    }

    /// Borrows the record.
    pub(crate) fn record(&self) -> Ref<'_, Record> {
        self.record.borrow()
    }

    /// Borrows the record for changes.
    pub(crate) fn record_mut(&self) -> RefMut<'_, Record> {
        self.record.borrow_mut()
    }

    /// Returns the record.
    pub(crate) fn into_record(self) -> Record {
        self.record.into_inner()
    }
}
