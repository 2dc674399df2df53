//! An echo server on tokio, on one thread: a task for each connection.
//!
//! It is read into a buffer of the thread, not one of the task, which would
//! cost 4 KiB or more of memory for an idle connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use peers::{BUFFER, Unsent, listen};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve())
}

pub async fn serve() -> io::Result<()> {
    let listener = TcpListener::from_std(listen()?)?;
    let accepting = tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream));
            }
        }
    });
    accepting.await.map_err(io::Error::other)
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    let mut unsent = Unsent::default();
    while poll_fn(|cx| {
        SHARED.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
            let data = buffer.filled();
            if data.is_empty() {
                return Poll::Ready(io::Result::Ok(false));
            }
            let sent = match Pin::new(&mut stream).poll_write(cx, data) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => 0,
            };
            unsent.keep(&data[sent..]);
            Poll::Ready(Ok(true))
        })
    })
    .await?
    {
        if !unsent.is_empty() {
            stream.write_all(unsent.bytes()).await?;
            unsent.clear();
        }
    }
    Ok(())
}
