//! The command line.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser};
use cli::value::{self, Endpoint};
use log::LevelFilter;
use proxy_protocol::IpNet;

/// More threads than any machine has processors for.
const MAX_THREADS: usize = 1024;

/// TCP echo server: sends received data back to the sender
///
/// Serves any number of peers at once. Prints `Listening on ADDRESS` for each
/// address when it accepts connections, and `Incoming connection from ADDRESS` for each peer.
/// Log messages are written to standard error. Output that is not read does not
/// stop the server: lines that cannot be written are dropped and counted.
///
/// SIGINT (Ctrl-C) or SIGTERM starts a graceful shutdown: the server accepts the
/// connections that are queued, stops listening, and lets its peers finish. A
/// second signal closes all connections. On Windows, Ctrl-C, Ctrl-Break, and
/// closing the console do the same; the system ends a program about five seconds
/// after its console was closed.
///
/// On Unix, a service manager such as systemd or s6 may pass listening sockets
/// (the environment variables `LISTEN_FDS` and `LISTEN_PID`). The server then
/// serves these, TCP and Unix, instead of --host and --port. They stay open
/// across a restart, so that connections wait for the next server. It reports
/// READY=1 and STOPPING=1 to `NOTIFY_SOCKET`, if that is set.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(version, after_long_help = EXAMPLES_AND_EXIT_CODES)]
pub struct Options {
    /// Address to listen on: HOST, HOST:PORT or `unix:PATH`
    ///
    /// The host is a name or an IP address, as for --host. An IPv6 address with a
    /// port is written in brackets, as in `[::1]:9999`.
    #[arg(value_name = "ADDRESS", value_parser = value::listen_endpoint, conflicts_with = "host")]
    address: Option<Endpoint>,

    /// Further address to listen on (may be repeated)
    ///
    /// The same as ADDRESS.
    #[arg(short, long, value_name = "ADDRESS", value_parser = value::listen_endpoint, conflicts_with = "host")]
    listen: Vec<Endpoint>,

    /// Unix socket to listen on (may be repeated); the same as `unix:PATH`
    ///
    /// A socket that a terminated server left behind is replaced. With several
    /// --threads, the first one serves it.
    #[arg(
        short = 'U',
        long,
        value_name = "PATH",
        value_parser = OsStringValueParser::new().try_map(value::unix_path),
        conflicts_with = "host",
    )]
    unix: Vec<PathBuf>,

    /// Address or name to listen on [default: 127.0.0.1]
    ///
    /// 0.0.0.0 stands for all IPv4 addresses of this machine, :: for all IPv6
    /// addresses (on most systems also for the IPv4 addresses). If a name has
    /// several addresses, such as `localhost`, the server listens on all that
    /// this machine has. An IPv6 address may be written in brackets.
    #[arg(long, value_parser = value::host)]
    host: Option<String>,

    /// TCP port for addresses without one; 0 selects a free port
    ///
    /// The `Listening on` lines show the port.
    #[arg(short, long, default_value_t = 9999)]
    port: u16,

    /// Listen only on the IPv4 addresses of a name
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Listen only on the IPv6 addresses of a name
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,

    /// Maximum number of open connections
    ///
    /// The maximum applies to all threads and addresses together. A connection
    /// above it is accepted and then closed, rather than left in the queue,
    /// and is counted in the log. By default only the open file limit applies,
    /// and further peers wait until others disconnect.
    #[arg(short, long, value_name = "N", value_parser = value::count)]
    pub(crate) max_connections: Option<NonZeroUsize>,

    /// Number of threads; the kernel distributes connections among them
    ///
    /// Each thread has its own event loop and listening socket
    /// (`SO_REUSEPORT`; inherited sockets are shared), so a connection stays on
    /// the thread that accepted it. Not available on Windows and illumos.
    ///
    /// More threads than processors gain nothing. On a busy machine, start the
    /// server with `chrt --batch 0`. The scheduler then wakes the server less
    /// often, so it handles several messages per context switch.
    ///
    /// When these sockets close after a signal, Linux resets a connection that
    /// is being established on one of them, unless the system setting
    /// `net.ipv4.tcp_migrate_req` is 1.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = value::count_up_to(MAX_THREADS))]
    pub(crate) threads: NonZeroUsize,

    /// Pin each thread to its own processor
    ///
    /// The processors available to the program (see taskset) are used in
    /// numerical order; avoid two that share a core. Pinning improves
    /// throughput if these processors are otherwise idle, and reduces it if
    /// other programs use them.
    #[arg(long)]
    pub(crate) pin: bool,

    /// Poll without blocking for up to DURATION before sleeping
    ///
    /// Reduces the latency of a single peer, at the cost of processor time;
    /// 100us is a good choice. Suspended automatically while it has no effect.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = value::duration)]
    pub(crate) busy_poll: Duration,

    /// Close a connection after DURATION without traffic
    ///
    /// By default an idle connection stays open. One that is closed is reset: its
    /// client must not mistake that for the end of the replies.
    #[arg(short, long, value_name = "DURATION", value_parser = value::timeout)]
    pub(crate) idle_timeout: Option<Duration>,

    /// Close a connection whose peer reads nothing for DURATION
    ///
    /// Applies while output is pending. Meanwhile the server reads nothing from
    /// that peer, and buffers at most 128 KiB for it.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = value::timeout)]
    pub(crate) stall_timeout: Duration,

    /// Time for peers to finish after the first SIGINT or SIGTERM
    ///
    /// Connections that are still open then are closed. With 0s, all are closed
    /// at once.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = value::duration)]
    pub(crate) drain_timeout: Duration,

    /// Serve TLS, with the certificate in FILE
    ///
    /// In PEM format, followed by the certificates that signed it, if clients
    /// do not know them. TLS 1.2 and 1.3 are served.
    ///
    /// On Unix, SIGHUP loads all files again, for connections that are accepted
    /// from then on; if one cannot be used, the previous certificate stays in
    /// use.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM format, not encrypted
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Require clients to present a certificate that one in FILE has signed
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Require a header of the PROXY protocol on each connection
    ///
    /// For a server behind a proxy that sends one, version 1 or 2 (`send-proxy`
    /// and `send-proxy-v2` of `HAProxy`). `Incoming connection from` and the
    /// log then name the original client. A connection with a wrong header, or
    /// none, is closed. With TLS, the header comes first, unencrypted.
    #[arg(long)]
    pub(crate) proxy_protocol: bool,

    /// Network of the proxies, such as 10.0.0.0/8 (may be repeated)
    ///
    /// Connections from other addresses are closed, because they could claim
    /// to be any client. Unix sockets are trusted. By default, proxies must be
    /// on this machine (127.0.0.0/8 and `::1`).
    #[arg(long, value_name = "CIDR", requires = "proxy_protocol", value_parser = network)]
    pub(crate) proxy_from: Vec<IpNet>,

    /// Time for a TLS handshake, or a header of the PROXY protocol
    ///
    /// A connection that takes longer is closed.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = value::timeout)]
    pub(crate) handshake_timeout: Duration,

    /// Increase log verbosity (may be repeated)
    ///
    /// -v logs the main events, -vv each connection, -vvv each message. Takes
    /// precedence over the environment variable `RUST_LOG`, which can also
    /// select modules (`RUST_LOG=reactor=debug`). By default, warnings and
    /// errors are logged.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Log errors only, and print no line for each connection
    ///
    /// Takes precedence over the environment variable `RUST_LOG`.
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

const EXAMPLES_AND_EXIT_CODES: &str = "\
Durations are written like 500ms, 30s or \"1m 30s\"; a number is in seconds. Counts
accept k and M (64k is 64,000).

Examples:
  echo-server
          Serve local clients, on port 9999
  echo-server [::]:7 --max-connections 1k --idle-timeout 5m
          Serve all clients, with limits
  echo-server -l localhost:7 -l unix:/run/echo
          Listen on several addresses
  echo-server --tls-cert server.pem --tls-key server.key
          Serve TLS
  echo-server -p 0 -q
          Use a free port, and print only `Listening on ADDRESS`

Exit codes:
  0  terminated by SIGINT or SIGTERM; peers had up to the drain timeout
  1  could not listen, failed later, or was terminated by a second signal
  2  invalid command line";

/// Parses a network. A single address stands for itself.
fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "expected a network such as 10.0.0.0/8, or an address")
}

impl Options {
    /// Returns the addresses to listen on, at least one, with their ports.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let unix = self.unix.iter().cloned().map(Endpoint::Unix);
        let mut endpoints: Vec<_> =
            self.address.iter().chain(&self.listen).cloned().chain(unix).collect();
        if endpoints.is_empty() {
            let host = self.host.as_deref().unwrap_or("127.0.0.1").to_owned();
            endpoints.push(Endpoint::Inet { host, port: None });
        }
        for endpoint in &mut endpoints {
            if let Endpoint::Inet { port, .. } = endpoint {
                port.get_or_insert(self.port);
            }
        }
        endpoints
    }

    /// Returns the log level that the command line requests, if any.
    pub fn log_level(&self) -> Option<LevelFilter> {
        if self.quiet {
            Some(LevelFilter::Error)
        } else {
            cli::logging::level_for_verbose(self.verbose)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn addresses_are_arguments_or_options() {
        let inet = |host: &str, port| Endpoint::Inet { host: host.to_owned(), port: Some(port) };
        #[cfg(unix)] // Unix sockets
        let unix = |path: &str| Endpoint::Unix(path.into());
        for (line, expected) in [
            (&[][..], vec![inet("127.0.0.1", 9999)]),
            (&["-p", "7"], vec![inet("127.0.0.1", 7)]),
            (&["--host", "here"], vec![inet("here", 9999)]),
            (&["here", "-p", "7"], vec![inet("here", 7)]),
            (&["[::]:0", "-l", "here"], vec![inet("::", 0), inet("here", 9999)]),
            #[cfg(unix)]
            (&["unix:/a", "-U", "/b"], vec![unix("/a"), unix("/b")]),
            (&["-l", "a:1", "-l", "b:2", "-p", "7"], vec![inet("a", 1), inet("b", 2)]),
        ] {
            let options = Options::parse_from([&["echo-server"], line].concat());
            assert_eq!(options.endpoints(), expected, "{line:?}");
        }
        for line in [&["here", "--host", "there"][..], &["here", "there"], &["-4", "-6"]] {
            assert!(Options::try_parse_from([&["echo-server"], line].concat()).is_err());
        }
    }

    #[test]
    fn quiet_logs_errors_only() {
        let level =
            |flags: &[&str]| Options::parse_from([&["echo-server"], flags].concat()).log_level();
        assert_eq!(level(&["-q"]), Some(LevelFilter::Error));
        assert_eq!(level(&["-v"]), Some(LevelFilter::Info));
        assert_eq!(level(&[]), None);
    }
}
