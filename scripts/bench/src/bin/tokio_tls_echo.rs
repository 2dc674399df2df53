//! An echo server with TLS on tokio and tokio-rustls, on one thread. A certificate and a
//! key, in PEM format, come before the port.
//!
//! As in `tokio_echo`, it is read into a buffer of the thread, not one of the task.

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use peers::{BUFFER, listen};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(cert), Some(key)) = (args.next(), args.next()) else {
        return Err("usage: tokio_tls_echo CERT KEY PORT".into());
    };
    let certs = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        let accepting = tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(converse(acceptor.clone(), stream));
                }
            }
        });
        accepting.await.map_err(io::Error::other)
    })?;
    Ok(())
}

async fn converse(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    loop {
        // What was read leaves the shared buffer before the next task runs.
        let data = poll_fn(|cx| {
            SHARED.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(io::Result::Ok(buffer.filled().to_vec()))
            })
        })
        .await?;
        if data.is_empty() {
            return stream.shutdown().await;
        }
        stream.write_all(&data).await?;
        stream.flush().await?;
    }
}
