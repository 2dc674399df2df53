//! What the Rust peers have in common: the listening socket, and one step of an
//! echo on a socket that does not block. `compare.py` counts the lines of each file for
//! the servers that import its name.

mod echo;
mod listen;
mod unsent;

pub use echo::echo;
pub use listen::listen;
pub use unsent::Unsent;

/// As much as any server here reads at once, ours included.
pub const BUFFER: usize = 64 * 1024;
