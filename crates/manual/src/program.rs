//! [`Program`]: a program of this workspace, and its command line.

use clap::{Command, CommandFactory};

#[path = "../../../bins/echo-bench/src/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "only the definition is used")]
mod echo_bench;

#[path = "../../../bins/echo-client/src/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "only the definition is used")]
mod echo_client;

#[path = "../../../bins/echo-server/src/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "only the definition is used")]
mod echo_server;

/// A program that users install.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    command: fn() -> Command,
    /// The other programs.
    pub(crate) see_also: [&'static str; 2],
}

/// All programs.
pub(crate) const PROGRAMS: [Program; 3] = [
    Program {
        name: "echo-bench",
        command: echo_bench::Options::command,
        see_also: ["echo-client", "echo-server"],
    },
    Program {
        name: "echo-client",
        command: echo_client::Options::command,
        see_also: ["echo-bench", "echo-server"],
    },
    Program {
        name: "echo-server",
        command: echo_server::Options::command,
        see_also: ["echo-bench", "echo-client"],
    },
];

impl Program {
    /// Returns the definition of the command line, under the program's name:
    /// clap's default is the name of the crate that is compiled.
    pub(crate) fn command(&self) -> Command {
        (self.command)().name(self.name).bin_name(self.name)
    }
}
