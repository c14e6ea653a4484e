//! An HTTP port: with TLS or without, every request handed to one function.

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// Answers a request. An error closes the connection without an answer.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    fn answer(self, request: Request<Incoming>) -> impl Future<Output = anyhow::Result<Response<Self::Body>>> + Send;
}

/// Never ends. Every connection ends with it.
pub(crate) async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, answers: impl Answers) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, answers) = (acceptor.clone(), answers.clone());
        connections.spawn(async move {
            match acceptor {
                None => serve(stream, answers).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => serve(stream, answers).await,
                    Err(error) => debug!(%error, "no TLS"),
                },
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answers: impl Answers) {
    let service = service_fn(move |request| answers.clone().answer(request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        debug!(%error, "connection ended");
    }
}
