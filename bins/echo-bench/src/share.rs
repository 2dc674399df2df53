//! [`Share`]: each thread's part of the connections.

use crate::options::Options;

/// The connections that one thread opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    connections: usize,
    idle: usize,
    first_number: u32,
    first_conversation: usize,
    messages: Option<u64>,
}

impl Share {
    /// Divides the connections of the options among the threads.
    pub(crate) fn for_threads(options: &Options) -> Vec<Self> {
        let threads = options.threads();
        let part = |total: usize, thread| total / threads + usize::from(thread < total % threads);
        let (mut first_number, mut first_conversation) = (0, 0);
        let share = |thread| {
            let connections = part(options.connections.get(), thread);
            let idle = part(options.idle, thread);
            let messages = options.messages.map(|total| part(total.get(), thread) as u64);
            let share = Share { connections, idle, first_number, first_conversation, messages };
            first_conversation += connections;
            first_number += u32::try_from(connections + idle).unwrap_or(u32::MAX);
            share
        };
        (0..threads).map(share).collect()
    }

    /// Returns the number of connections that exchange messages.
    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// Returns the number of idle connections.
    pub(crate) fn idle(&self) -> usize {
        self.idle
    }

    /// Returns the number of the first connection: the count of those that the
    /// preceding threads open.
    pub(crate) fn first_number(&self) -> u32 {
        self.first_number
    }

    /// Returns the number of connections with messages that the preceding
    /// threads open.
    pub(crate) fn first_conversation(&self) -> usize {
        self.first_conversation
    }

    /// Returns the number of messages to send, or `None` without a limit.
    pub(crate) fn messages(&self) -> Option<u64> {
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn connections_are_divided_and_numbered() {
        let line = ["", "-c", "7", "--idle", "5", "--threads", "3", "-n", "10"];
        let shares = Share::for_threads(&Options::parse_from(line));
        let parts = shares.iter().map(|share| (share.connections, share.idle, share.first_number));
        assert_eq!(parts.collect::<Vec<_>>(), [(3, 2, 0), (2, 2, 5), (2, 1, 9)]);
        let first = shares.iter().map(Share::first_conversation);
        assert_eq!(first.collect::<Vec<_>>(), [0, 3, 5]);
        let messages = shares.iter().filter_map(Share::messages);
        assert_eq!(messages.collect::<Vec<_>>(), [4, 3, 3]);
    }
}
