//! The TCP connection under a secure channel: every address tried, no Nagle, and the frame tap.

use driver::{Direction, FrameTap};
use opcua::client::transport::{StreamConnection, StreamConnector};
use opcua::core::comms::tcp_codec::TcpCodec;
use opcua::types::{DecodingOptions, Error, StatusCode};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

use crate::settings::Endpoint;

type Connection = StreamConnection<Tapped<OwnedReadHalf>, Tapped<OwnedWriteHalf>>;

/// What the library asks for a connection. Its own connector tries one address only, so that
/// `localhost` fails wherever it means `::1` first and the server listens on IPv4.
pub(crate) fn connector(
    endpoint: &Endpoint,
    tap: Arc<dyn FrameTap>,
) -> impl opcua::client::transport::Connector + use<> {
    let target = Arc::new(endpoint.clone());
    let url = endpoint.url.clone();
    StreamConnector::new(move |_, options| connect(Arc::clone(&target), Arc::clone(&tap), options), url)
}

async fn connect(
    endpoint: Arc<Endpoint>,
    tap: Arc<dyn FrameTap>,
    options: DecodingOptions,
) -> Result<Connection, Error> {
    let unreachable = |e: io::Error| Error::new(StatusCode::BadConnectionRejected, e);
    // Tries the addresses in turn; the dead-line over the whole connect bounds it.
    let socket = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
    // Publish and Read are in flight together: Nagle would hold one back for the other's answer.
    socket.set_nodelay(true).map_err(unreachable)?;
    let (read, write) = socket.into_split();
    let read = Tapped { inner: read, tap: Arc::clone(&tap) };
    let write = Tapped { inner: write, tap };
    Ok(StreamConnection::new(FramedRead::new(read, TcpCodec::new(options)), write, endpoint.url.clone()))
}

/// Shows the tap what passes, in the pieces in which it passes.
pub(crate) struct Tapped<T> {
    inner: T,
    tap: Arc<dyn FrameTap>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        if !new.is_empty() {
            self.tap.frame(Direction::Received, new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.tap.frame(Direction::Sent, &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
