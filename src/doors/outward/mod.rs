//! Doors that the gateway opens from inside: it connects to the cloud's side, ports 8043 and 8099 by custom, keeps the
//! connection, and carries out what is asked through it. So control, tests and watching from afar need no port here.

mod pace;
mod status;
#[cfg(test)]
mod tests;
mod visit;
mod watch;
mod words;

pub use status::Status;

use crate::config::DoorConfig;
use crate::mqtt::reconnect::{Ended, Reconnect, STABLE};
use crate::mqtt::tls::{OwnCertificate, client_config_with};
use crate::operate::Gateway;
use anyhow::Context;
use driver::Timestamp;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch as channel;
use tokio::time::{Instant, timeout};

/// Name, TCP and TLS together.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes not acknowledged by the peer's TCP for this long end the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// However chance falls, no door is knocked at more often.
const LEAST: Duration = Duration::from_millis(500);
/// Short visits in a row that the log tells of one by one.
const TOLD: u32 = 5;

/// What the gateway says of itself when a door opens.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    pub product_key: Option<String>,
    pub device_key: Option<String>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Keeps one door open until told to stop.
pub async fn run(
    config: DoorConfig,
    hello: Hello,
    gateway: Arc<dyn Gateway>,
    status: Arc<Status>,
    mut stopped: channel::Receiver<bool>,
) {
    tokio::select! {
        () = keep(&config, &hello, &gateway, &status) => {}
        // A sender that is gone says stop as well.
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn keep(config: &DoorConfig, hello: &Hello, gateway: &Arc<dyn Gateway>, status: &Status) {
    let begun = Instant::now();
    let mut again = Reconnect::new(false);
    let mut told: Option<String> = None;
    let mut short = 0;
    loop {
        status.connecting();
        let (ended, why) = match timeout(PATIENCE, connect(config)).await {
            Err(_) => (Ended::Unreached, Some(format!("no connection within {PATIENCE:?}"))),
            Ok(Err(error)) => (Ended::Unreached, Some(format!("{error:#}"))),
            Ok(Ok(stream)) => {
                status.open();
                again.connected();
                if short < TOLD {
                    told = None;
                    tracing::info!(door = %config.name, host = %config.host, port = config.port, "door open");
                }
                let (opened, asked) = (Instant::now(), status.requests());
                let end = visit::serve(stream, config, hello, Arc::clone(gateway), status).await;
                // Who only opens and closes is no good peer, and waits for him get longer.
                short = if opened.elapsed() >= STABLE { 0 } else { short + 1 };
                if short == TOLD {
                    let door = &config.name;
                    tracing::warn!(%door, "it opens and closes again and again; told no more until it stays open");
                }
                let ended = match status.requests() > asked {
                    true => Ended::Lost { held: opened.elapsed() },
                    false => Ended::Failed,
                };
                (ended, end.err().map(|error| format!("{error:#}")))
            }
        };
        let wait = again.wait(begun.elapsed(), ended, fastrand::f64()).max(LEAST);
        // The same trouble is told once, not at each try.
        let words = why.as_deref().unwrap_or("the other side hung up");
        if short <= TOLD && told.as_deref() != Some(words) {
            let (door, host, port) = (&config.name, &config.host, config.port);
            tracing::warn!(%door, %host, port, why = words, ?wait, "door closed");
            told = Some(words.to_owned());
        }
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        status.waits(why, Timestamp::now().0.saturating_add(wait_ms));
        tokio::time::sleep(wait).await;
    }
}

async fn connect(config: &DoorConfig) -> anyhow::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((config.host.as_str(), config.port)).await;
    let stream = stream.with_context(|| {
        format!("connect to {} port {}; outgoing connections to that port must be allowed", config.host, config.port)
    })?;
    // Best effort: without it a half-open connection is noticed by its silence.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let _ = stream.set_nodelay(true);
    let Some(tls) = &config.tls else { return Ok(Box::new(stream)) };
    let own = match &config.client_files {
        None => None,
        Some(files) => {
            let pair = files.load(0).map_err(anyhow::Error::msg)?;
            Some(OwnCertificate::parse(&pair)?)
        }
    };
    let client = client_config_with(tls, own)?;
    let name = ServerName::try_from(config.host.clone()).context("the host is no name a certificate can bear")?;
    let stream = tokio_rustls::TlsConnector::from(client).connect(name, stream).await.context("tls")?;
    Ok(Box::new(stream))
}
