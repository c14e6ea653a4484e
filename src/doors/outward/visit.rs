//! One conversation at an outward door, from the greeting to its end.

use super::Hello;
use super::pace::Pace;
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
use tokio::time::{Instant, interval, sleep_until, timeout, timeout_at};

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
/// Lines heard in a second; who says more waits.
const HEARD: u32 = 500;
/// What is not allowed is logged so often in one conversation; `status` counts all.
const LOGGED: u32 = 3;
/// Who has said all he wants still gets the answers that are ready by then.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

pub(super) struct Visit<'a, S> {
    config: &'a DoorConfig,
    gateway: Arc<dyn Gateway>,
    status: &'a Status,
    writer: WriteHalf<S>,
    watches: Watches,
    answers: JoinSet<String>,
    pace: Arc<Pace>,
    garbage: u32,
    forbidden: u32,
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
    let pace = Pace::new();
    let watches = Watches::new(out, Arc::clone(&pace));
    let answers = JoinSet::new();
    let mut visit = Visit { config, gateway, status, writer, watches, answers, pace, garbage: 0, forbidden: 0 };
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
                None => {
                    reading.join_next().await.map_or(Ok(()), |ended| ended.context("read lines")?)?;
                    return visit.last_answers().await;
                }
                Some(line) => {
                    last = Instant::now();
                    visit.line(&mut listener, &line).await?;
                }
            },
            Some(answer) = visit.answers.join_next() => {
                let answer = answer.unwrap_or_else(|_| fault());
                visit.send_text(answer).await?;
            }
            Some(mut line) = told.recv() => {
                let text = line.take();
                visit.send_text(text).await?;
            }
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
            self.forbidden += 1;
            if self.forbidden <= LOGGED {
                let (door, operation) = (&self.config.name, short(&operation));
                tracing::warn!(%door, operation, needed = needed.word(), "not allowed at this door");
            }
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
                self.answers.spawn(answer(gateway, door, Arc::clone(&self.pace), n, operation, arguments));
                return Ok(());
            }
        };
        let answer = match at_once {
            Ok(data) => words::answered(n, data),
            Err(refusal) => words::refused(n, refusal.code, &refusal.message),
        };
        self.send(&answer).await
    }

    /// The other side says no more, and may still listen.
    async fn last_answers(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + LAST_ANSWERS;
        while let Ok(Some(answer)) = timeout_at(until, self.answers.join_next()).await {
            self.send_text(answer.unwrap_or_else(|_| fault())).await?;
        }
        Ok(())
    }

    async fn send(&mut self, line: &Json) -> anyhow::Result<()> {
        self.send_text(line.to_string()).await
    }

    async fn send_text(&mut self, mut text: String) -> anyhow::Result<()> {
        text.push('\n');
        let sending = async {
            self.writer.write_all(text.as_bytes()).await?;
            self.writer.flush().await
        };
        timeout(SEND, sending).await.context("nothing more is taken there")?.context("send")
    }
}

/// As text: it waits to be sent, and all values of a plant are large as a tree.
async fn answer(
    gateway: Arc<dyn Gateway>,
    door: String,
    pace: Arc<Pace>,
    n: Option<u64>,
    operation: String,
    arguments: Json,
) -> String {
    let collects = matches!(operation.as_str(), "values" | "status");
    let asked = async {
        if !collects {
            return perform(&*gateway, &door, &operation, arguments).await;
        }
        pace.turn().await;
        let begun = Instant::now();
        let collected = perform(&*gateway, &door, &operation, arguments).await;
        pace.took(begun.elapsed());
        collected
    };
    let answer = match timeout(PATIENCE, asked).await {
        Ok(Ok(data)) => words::answered(n, data),
        Ok(Err(refusal)) => words::refused(n, refusal.code, &refusal.message),
        Err(_) => words::refused(n, "timeout", &format!("no answer within {PATIENCE:?}")),
    };
    answer.to_string()
}

fn fault() -> String {
    words::refused(None, "failed", "a fault in the gateway").to_string()
}

/// Lines without their end, until there are no more.
async fn read(reader: impl AsyncRead + Unpin, lines: mpsc::Sender<Vec<u8>>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(reader);
    let (mut second, mut heard) = (Instant::now(), 0);
    loop {
        // The peer waits, and polling does not.
        heard += 1;
        if heard > HEARD {
            sleep_until(second + Duration::from_secs(1)).await;
            (second, heard) = (Instant::now(), 1);
        }
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
