//! The same as `tokio_echo`, on the runtime with several threads: two workers.

use std::io;

#[path = "tokio_echo.rs"]
#[allow(dead_code)]
mod one;

fn main() -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build()?;
    runtime.block_on(one::serve())
}
