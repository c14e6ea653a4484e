//! FTP that is encrypted from its first byte (port 990), for a library that begins in plain text: a relay within this
//! process answers the two lines of that beginning and hands on the bytes of TLS, which is spoken with the server itself.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use suppaftp::tokio::{AsyncRustlsConnector, AsyncRustlsStream, AsyncTlsConnector};
use suppaftp::{FtpError, FtpResult};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A greeting, with what servers say about themselves.
const GREETING: usize = 8 << 10;
const LINE: usize = 64;

/// The near end of a relay to `server`.
///
/// # Errors
/// When this machine has no loopback.
pub(super) async fn relayed(server: TcpStream) -> io::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let own = near.local_addr()?;
    tokio::spawn(async move {
        // Ends when either end is closed; the session at the near end has its deadlines.
        let _ = relay(listener, own, server).await;
    });
    Ok(near)
}

async fn relay(listener: TcpListener, own: std::net::SocketAddr, mut server: TcpStream) -> io::Result<()> {
    let mut far = loop {
        // Another process of this machine may knock as well; it is left standing.
        let (stream, from) = listener.accept().await?;
        if from == own {
            break stream;
        }
    };
    drop(listener);
    far.write_all(b"220 relay\r\n").await?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\n") {
        if asked.len() >= LINE {
            return Err(io::Error::other("no AUTH"));
        }
        asked.push(far.read_u8().await?);
    }
    far.write_all(b"234 relay\r\n").await?;
    copy_bidirectional(&mut far, &mut server).await.map(|_| ())
}

/// Takes the server's greeting off the control connection, the first one that is encrypted.
#[derive(Debug)]
pub(super) struct Greeted {
    connector: AsyncRustlsConnector,
    greeted: AtomicBool,
}

impl From<AsyncRustlsConnector> for Greeted {
    fn from(connector: AsyncRustlsConnector) -> Greeted {
        Greeted { connector, greeted: AtomicBool::new(false) }
    }
}

impl AsyncTlsConnector for Greeted {
    type Stream = AsyncRustlsStream;

    fn connect<'me, 'domain, 'answer>(
        &'me self,
        domain: &'domain str,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = FtpResult<AsyncRustlsStream>> + Send + 'answer>>
    where
        'me: 'answer,
        'domain: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            let mut stream = self.connector.connect(domain, stream).await?;
            if !self.greeted.swap(true, Ordering::Relaxed) {
                greeting(&mut stream).await?;
            }
            Ok(stream)
        })
    }
}

/// Lines up to the one whose code is followed by a blank (RFC 959 4.2).
async fn greeting(stream: &mut (impl AsyncRead + Unpin)) -> FtpResult<()> {
    let (mut line, mut all) = (Vec::new(), 0);
    loop {
        let byte = stream.read_u8().await.map_err(FtpError::ConnectionError)?;
        all += 1;
        if all > GREETING {
            return Err(FtpError::SecureError("the greeting has no end".to_owned()));
        }
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        match line.as_slice() {
            [b'2', _, _, b' ', ..] => return Ok(()),
            [b'4' | b'5', _, _, b' ', ..] => {
                let words = String::from_utf8_lossy(&line).trim().to_owned();
                return Err(FtpError::SecureError(format!("the server turns everybody away: {words}")));
            }
            _ => line.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_greeting_ends_with_its_last_line_and_a_refusal_is_one() {
        let mut lines = &b"220-Welcome\r\n220 is not this line\r\nrest"[..];
        greeting(&mut lines).await.unwrap();
        assert_eq!(lines, b"rest");
        let mut full = &b"421 too many users\r\n"[..];
        assert!(greeting(&mut full).await.unwrap_err().to_string().contains("too many users"));
        assert!(greeting(&mut &b"x".repeat(GREETING + 1)[..]).await.is_err());
        assert!(greeting(&mut &b"220"[..]).await.is_err());
    }

    #[tokio::test]
    async fn the_relay_answers_the_beginning_and_hands_on_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut near = relayed(server).await.unwrap();
        near.write_all(b"AUTH TLS\r\n").await.unwrap();
        let mut said = [0; 22];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"220 relay\r\n234 relay\r\n");
        near.write_all(b"hello").await.unwrap();
        let mut came = [0; 5];
        far.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, b"hello", "and nothing of the beginning");
        drop(near);
        assert_eq!(far.read(&mut came).await.unwrap(), 0, "it ends with the session");
    }
}
