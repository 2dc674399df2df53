//! An echo server on smol: a task for each connection, all on one thread.
//!
//! It is read into a buffer of the thread, not one of the task, which would
//! cost 4 KiB or more of memory for an idle connection.

use std::cell::RefCell;
use std::io;
use std::net::TcpStream;

use peers::{BUFFER, Unsent, echo, listen};
use smol::io::AsyncWriteExt;
use smol::{Async, LocalExecutor};

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

fn main() -> io::Result<()> {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = Async::new(listen()?)?;
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                let _ = stream.get_ref().set_nodelay(true);
                executor.spawn(converse(stream)).detach();
            }
        }
    }))
}

async fn converse(mut stream: Async<TcpStream>) -> io::Result<()> {
    let mut unsent = Unsent::default();
    loop {
        let read = stream.read_with(|mut stream| {
            SHARED.with_borrow_mut(|buffer| echo(&mut stream, buffer, &mut unsent))
        });
        if read.await? == 0 {
            return Ok(());
        }
        if !unsent.is_empty() {
            stream.write_all(unsent.bytes()).await?;
            unsent.clear();
        }
    }
}
