//! One conversation at an outward door, from the greeting to its end.

use super::Hello;
use super::status::Status;
use super::watch::{QUEUE, Watches};
use super::words::{self, LONGEST, Listener, Request, Unheard};
use crate::config::DoorConfig;
use crate::operate::{Gateway, perform};
use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

/// How long an answer may take; longer than any read of a device.
const PATIENCE: Duration = Duration::from_secs(30);
/// A visitor who takes nothing for so long is gone.
const SEND: Duration = Duration::from_secs(20);
/// The gateway says so often that it lives.
const ALIVE: Duration = Duration::from_secs(20);
/// Somebody who says nothing for so long is gone: a cable was cut without a word.
const SILENCE: Duration = Duration::from_secs(90);
/// Requests under way; a further one is refused.
const AT_ONCE: usize = 4;
/// Lines in a row that are none: this is no visitor of ours.
const GARBAGE: u32 = 8;

pub(super) struct Visit<'a, S> {
    config: &'a DoorConfig,
    gateway: Arc<dyn Gateway>,
    status: &'a Status,
    writer: WriteHalf<S>,
    watches: Watches,
    answers: JoinSet<Json>,
    garbage: u32,
}

/// Serves until somebody hangs up or breaks the rules. Cancelling it ends the conversation.
pub(super) async fn serve<S>(
    stream: S,
    config: &DoorConfig,
    hello: &Hello,
    gateway: Arc<dyn Gateway>,
    status: &Status,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let session = session()?;
    let mut listener = Listener::new(config.key.as_ref().map(crate::config::Secret::reveal), &session);
    let (out, mut told) = mpsc::channel(QUEUE);
    let watches = Watches::new(out);
    let mut visit = Visit { config, gateway, status, writer, watches, answers: JoinSet::new(), garbage: 0 };
    visit.send(&greeting(hello, config, &session)).await?;
    // A task of its own: a line that is half read is not lost when something else happens. Full: the peer waits.
    let (lines, mut heard) = mpsc::channel(4);
    let mut reading = JoinSet::new();
    reading.spawn(read(reader, lines));
    let mut alive = interval(ALIVE);
    alive.reset();
    let mut last = Instant::now();
    loop {
        tokio::select! {
            line = heard.recv() => match line {
                None => return reading.join_next().await.map_or(Ok(()), |ended| ended.context("read lines")?),
                Some(line) => {
                    last = Instant::now();
                    visit.line(&mut listener, &line).await?;
                }
            },
            Some(answer) = visit.answers.join_next() => {
                let answer = answer.unwrap_or_else(|_| words::refused(None, "failed", "a fault in the gateway"));
                visit.send(&answer).await?;
            }
            Some(line) = told.recv() => visit.send(&line).await?,
            _ = alive.tick() => {
                if last.elapsed() >= SILENCE {
                    bail!("nothing was said for {SILENCE:?}");
                }
                visit.send(&json!({ "alive": now() })).await?;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite> Visit<'_, S> {
    async fn line(&mut self, listener: &mut Listener, line: &[u8]) -> anyhow::Result<()> {
        let request = match listener.hear(line) {
            Ok(request) => request,
            Err(Unheard::Unproven(why)) => {
                self.status.refused();
                tracing::warn!(door = %self.config.name, why, "a line at the door was not proven; hanging up");
                self.send(&words::refused(None, "unproven", why)).await?;
                bail!("{why}");
            }
            Err(malformed) => {
                self.status.refused();
                self.garbage += 1;
                self.send(&words::refused(None, "bad_request", &malformed.to_string())).await?;
                if self.garbage >= GARBAGE {
                    bail!("{GARBAGE} lines in a row were no requests");
                }
                return Ok(());
            }
        };
        self.garbage = 0;
        self.request(request).await
    }

    async fn request(&mut self, Request { n, operation, arguments }: Request) -> anyhow::Result<()> {
        let needed = words::needed(&operation, &arguments);
        if !self.config.allow.contains(&needed) {
            self.status.refused();
            tracing::warn!(door = %self.config.name, operation = %short(&operation), needed = needed.word(), "not allowed at this door");
            let why = format!("this door does not allow it; `allow:` of the door needs {}", needed.word());
            return self.send(&words::refused(n, "forbidden", &why)).await;
        }
        self.status.asked();
        let at_once = match operation.as_str() {
            "alive" => return Ok(()),
            "watch" => self.watches.start(n, &arguments, &self.gateway),
            "stop" => self.watches.stop(&arguments),
            _ if self.answers.len() >= AT_ONCE => {
                let why = format!("{AT_ONCE} requests are under way");
                return self.send(&words::refused(n, "busy", &why)).await;
            }
            _ => {
                let (gateway, door) = (Arc::clone(&self.gateway), self.config.name.clone());
                self.answers.spawn(answer(gateway, door, n, operation, arguments));
                return Ok(());
            }
        };
        let answer = match at_once {
            Ok(data) => words::answered(n, data),
            Err(refusal) => words::refused(n, refusal.code, &refusal.message),
        };
        self.send(&answer).await
    }

    async fn send(&mut self, line: &Json) -> anyhow::Result<()> {
        let mut text = line.to_string();
        text.push('\n');
        let sending = async {
            self.writer.write_all(text.as_bytes()).await?;
            self.writer.flush().await
        };
        timeout(SEND, sending).await.context("nothing more is taken there")?.context("send")
    }
}

async fn answer(gateway: Arc<dyn Gateway>, door: String, n: Option<u64>, operation: String, arguments: Json) -> Json {
    match timeout(PATIENCE, perform(&*gateway, &door, &operation, arguments)).await {
        Ok(Ok(data)) => words::answered(n, data),
        Ok(Err(refusal)) => words::refused(n, refusal.code, &refusal.message),
        Err(_) => words::refused(n, "timeout", &format!("no answer within {PATIENCE:?}")),
    }
}

/// Lines without their end, until there are no more.
async fn read(reader: impl AsyncRead + Unpin, lines: mpsc::Sender<Vec<u8>>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX) + 1;
        let read = (&mut reader).take(most).read_until(b'\n', &mut line).await.context("receive")?;
        if read == 0 {
            return Ok(());
        }
        if line.pop_if(|last| *last == b'\n').is_none() {
            if read > LONGEST {
                bail!("a line has more than {LONGEST} bytes");
            }
            // Half a line at the end is no request.
            return Ok(());
        }
        line.pop_if(|last| *last == b'\r');
        if !line.is_empty() && lines.send(line).await.is_err() {
            return Ok(());
        }
    }
}

fn greeting(hello: &Hello, config: &DoorConfig, session: &str) -> Json {
    json!({ "hello": {
        "protocol": 1,
        "product_key": hello.product_key,
        "device_key": hello.device_key,
        "version": crate::version::current(),
        "door": config.name,
        "session": session,
        "proof": config.key.is_some(),
        "allow": config.allow.iter().map(|right| right.word()).collect::<Vec<_>>(),
        "time": now(),
    }})
}

/// Made for this conversation: nobody can say again what was said in another.
fn session() -> anyhow::Result<String> {
    let mut bytes = [0u8; 16];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    filled.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(words::hex(&bytes))
}

fn now() -> i64 {
    driver::Timestamp::now().0
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
