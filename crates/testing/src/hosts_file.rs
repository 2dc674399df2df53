//! Names with several addresses.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::{command, report_skip};

/// A hosts file in which a name has several addresses. It replaces the system's
/// in a mount namespace that only one program uses.
pub struct HostsFile(NamedTempFile);

impl HostsFile {
    /// Creates a file in which `name` has `addresses`.
    ///
    /// Returns `None`, and reports the skip, if the system does not allow it.
    pub fn new(name: &str, addresses: &[IpAddr]) -> Option<Self> {
        let hosts = HostsFile(NamedTempFile::new().unwrap());
        hosts.set(name, addresses);
        let resolved = hosts.command("getent").args(["ahosts", name]).output();
        let is_used = resolved.is_ok_and(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success()
                && addresses.iter().all(|address| text.contains(&address.to_string()))
        });
        if is_used {
            return Some(hosts);
        }
        report_skip("no namespaces are available, or the hosts file is not used");
        None
    }

    /// Replaces the addresses, also for programs that run.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        let lines = addresses.iter().map(|address| format!("{address} {name}\n"));
        fs::write(&self.0, lines.collect::<String>()).unwrap();
    }

    /// Creates a command for `program`, which finds the names of this file.
    pub fn command(&self, program: &str) -> Command {
        let mut command = command("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(self.0.path()).arg(program);
        command
    }
}
