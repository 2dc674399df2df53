//! [`Workload`]: how connections are opened, and what they send.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cli_tls::Security;
use reactor::{Address, Context, Limits, Protocol, Stream, Token};

use crate::failure::Failure;
use crate::options::{Options, Spacing};
use crate::pattern::Pattern;
use crate::record::Record;
use crate::schedule::Schedule;
use crate::share::Share;
use crate::sys::unix_socket::connect_unix;

/// Time to connect, before the load starts.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of connections from one loopback address, which has about
/// 28,000 ports.
const CONNECTIONS_PER_SOURCE: u32 = 25_000;

/// Number of loopback addresses that churn uses in turn. Each closed connection
/// keeps its port in TIME-WAIT for a minute, and with many of them the kernel
/// takes long to find a free port.
const CHURN_SOURCES: u32 = 200;

/// In the open loop, no message is sent while more bytes than this wait to be
/// sent on a connection: the server does not read.
pub(crate) const MAX_UNSENT: usize = 1024 * 1024;

/// What all connections of one thread share.
pub(crate) struct Workload {
    addr: Address,
    size: usize,
    pipeline: usize,
    churn: bool,
    /// Messages per second of all threads, in the open loop.
    rate: Option<usize>,
    spacing: Spacing,
    /// Number of conversations of all threads.
    conversations: usize,
    /// Number of messages that may still be sent.
    messages_left: Cell<u64>,
    /// Number of messages of the load whose reply is not complete.
    in_flight: Cell<u64>,
    reply_timeout: Duration,
    use_many_sources: bool,
    /// Shared by all threads.
    pattern: Arc<Pattern>,
    /// Number of the next connection, among those of all threads.
    next_number: Cell<u32>,
    /// Number of the next conversation, among those of all threads.
    next_conversation: Cell<usize>,
    /// Number of open conversations.
    open_count: Cell<usize>,
    stage: RefCell<Stage>,
    record: RefCell<Record>,
    security: Security,
}

/// State machine for the load: `Opening` → `Started`.
enum Stage {
    /// These conversations have received their first reply.
    Opening { ready: Vec<Token> },
    /// All conversations send messages.
    Started { at: Instant },
}

impl Workload {
    /// Creates the workload of a thread.
    pub(crate) fn new(
        addr: Address,
        share: Share,
        pattern: Arc<Pattern>,
        security: Security,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let connections = options.connections.get() + options.idle;
        Ok(Workload {
            addr,
            size: options.size,
            pipeline: if options.churn { 1 } else { options.pipeline.get() },
            churn: options.churn,
            rate: options.rate.map(usize::from),
            spacing: options.spacing,
            conversations: options.connections.get(),
            messages_left: Cell::new(share.messages().unwrap_or(u64::MAX)),
            in_flight: Cell::new(0),
            reply_timeout: options.reply_timeout,
            use_many_sources: options.churn || connections > CONNECTIONS_PER_SOURCE as usize,
            pattern,
            next_number: Cell::new(share.first_number()),
            next_conversation: Cell::new(share.first_conversation()),
            open_count: Cell::new(0),
            stage: RefCell::new(Stage::Opening { ready: Vec::new() }),
            record: RefCell::new(Record::new()?),
            security,
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
        let stream = match (&self.addr, self.source(number)) {
            (Address::Unix(Some(path)), _) => connect_unix(path, protocol),
            (Address::Inet(addr), Some(source)) => Stream::connect_from(source, *addr, protocol),
            (addr, _) => Stream::connect(addr.as_inet(), protocol),
        };
        let in_flight = self.size.saturating_mul(self.pipeline);
        let timeout = if self.has_started() { self.reply_timeout } else { CONNECT_TIMEOUT };
        let limits = Limits {
            // More than the messages in flight, so that reading never stops.
            high_water: in_flight.max(MAX_UNSENT).saturating_add(1),
            read_while_congested: true,
            connect_timeout: Some(timeout),
            handshake_timeout: Some(timeout),
            stall_timeout: None,
            ..Limits::default()
        };
        cx.add(self.security.protect(stream.with_limits(limits))?).map(drop)
    }

    /// Records an error, and ends the run: a measurement with errors is of no
    /// use, and a server that has stopped sends no more replies.
    pub(crate) fn fail(&self, cx: &mut Context, failure: &Failure) {
        let mut record = self.record.borrow_mut();
        record.record_error(failure);
        record.finish(Instant::now());
        cx.stop();
    }

    /// Counts a conversation that is opened. Returns its number, among those of
    /// all threads.
    pub(crate) fn count_opened(&self) -> usize {
        self.open_count.set(self.open_count.get() + 1);
        self.next_conversation.replace(self.next_conversation.get().wrapping_add(1))
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
            Stage::Started { .. } => 0,
        }
    }

    /// Starts the load, and returns the conversations that are ready.
    pub(crate) fn start(&self, now: Instant) -> Vec<Token> {
        match self.stage.replace(Stage::Started { at: now }) {
            Stage::Opening { ready } => ready,
            Stage::Started { .. } => Vec::new(),
        }
    }

    /// Returns `true` if the load has started.
    pub(crate) fn has_started(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Started { .. })
    }

    /// Returns the schedule of a conversation, or `None` in the closed loop or
    /// before the start.
    pub(crate) fn schedule(&self, conversation: usize) -> Option<Schedule> {
        let (Stage::Started { at }, Some(rate)) = (&*self.stage.borrow(), self.rate) else {
            return None;
        };
        Some(Schedule::new(*at, rate, self.conversations, conversation, self.spacing))
    }

    /// Counts a message that is to be sent. Returns `false` if there are none
    /// left.
    pub(crate) fn take_message(&self) -> bool {
        if self.is_exhausted() {
            return false;
        }
        self.messages_left.set(self.messages_left.get() - 1);
        self.in_flight.set(self.in_flight.get() + 1);
        true
    }

    /// Counts the reply to a message. Returns `true` if it is the last one.
    pub(crate) fn complete_message(&self) -> bool {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.is_exhausted() && self.in_flight.get() == 0
    }

    /// Returns `true` if no more messages may be sent.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.messages_left.get() == 0
    }

    /// Returns the time without a reply after which a run fails.
    pub(crate) fn reply_timeout(&self) -> Duration {
        self.reply_timeout
    }

    /// Returns the address to connect from, or `None` for the system's choice.
    fn source(&self, number: u32) -> Option<SocketAddr> {
        let ip = self.addr.as_inet()?.ip();
        if !self.use_many_sources || !ip.is_loopback() || !ip.is_ipv4() {
            return None;
        }
        let index =
            if self.churn { number % CHURN_SOURCES } else { number / CONNECTIONS_PER_SOURCE };
        // All of 127.0.0.0/8 is this machine.
        let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + index);
        Some(SocketAddr::new(IpAddr::V4(ip), 0))
    }

    /// Returns the server's address.
    pub(crate) fn addr(&self) -> &Address {
        &self.addr
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
