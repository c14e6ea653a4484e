//! The local door: a unix socket that only its owner may open. One JSON request a line, one JSON answer a line.
//!
//! ```text
//! -> {"operation":"status","arguments":{}}
//! <- {"ok":true,"data":{…}}   or   {"ok":false,"error":{"code":"…","message":"…"}}
//! ```

use crate::operate::{Gateway, Refusal, perform};
use crate::systemd;
use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Commands of people at this machine are told from those of other doors by this name.
const DOOR: &str = "local";

/// A request is a line of at most this many bytes.
const REQUEST_LIMIT: u64 = 64 * 1024;

/// People and scripts at once; a further one waits for a place.
const VISITORS: usize = 16;

/// Nobody holds a place for longer than this without asking anything.
const IDLE: Duration = Duration::from_secs(60);

/// How long an answer may take; longer than any read of a device.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Request {
    operation: String,
    #[serde(default)]
    arguments: Json,
}

/// Listens until dropped.
pub struct LocalDoor {
    entries: Vec<Entry>,
}

struct Entry {
    listener: UnixListener,
    /// Removed with it; none when systemd keeps the door for us.
    path: Option<PathBuf>,
}

impl LocalDoor {
    /// Takes over the door that systemd keeps, or opens one, for this user alone. A command that comes while the
    /// gateway restarts waits at systemd's.
    ///
    /// # Errors
    /// When another gateway answers there, or the folder can not be written.
    pub fn open(path: &Path) -> anyhow::Result<LocalDoor> {
        let Some(kept) = systemd::door() else { return Ok(LocalDoor { entries: vec![Entry::open(path)?] }) };
        let at = kept.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
        let mut entries = vec![Entry::kept(kept).context("take over the door that systemd keeps")?];
        if at.as_deref() != Some(path) {
            let (kept, own) = (at.unwrap_or_default(), path.display());
            tracing::warn!(kept = %kept.display(), %own, "systemd keeps the door elsewhere; both are open, name one in edge.yaml");
            entries.push(Entry::open(path)?);
        }
        Ok(LocalDoor { entries })
    }

    /// Serves visitors for ever.
    pub async fn serve(self, gateway: Arc<dyn Gateway>) {
        let places = Arc::new(Semaphore::new(VISITORS));
        let mut serving = JoinSet::new();
        for entry in self.entries {
            let (gateway, places) = (Arc::clone(&gateway), Arc::clone(&places));
            serving.spawn(async move { entry.serve(gateway, places).await });
        }
        while serving.join_next().await.is_some() {}
    }
}

impl Entry {
    fn kept(listener: std::os::unix::net::UnixListener) -> std::io::Result<Entry> {
        listener.set_nonblocking(true)?;
        Ok(Entry { listener: UnixListener::from_std(listener)?, path: None })
    }

    fn open(path: &Path) -> anyhow::Result<Entry> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
        }
        if let Ok(found) = std::fs::symlink_metadata(path) {
            // A path that was written by mistake must not cost what lies there.
            anyhow::ensure!(
                found.file_type().is_socket(),
                "{} is no socket; move it away, or write another control_socket",
                path.display()
            );
            anyhow::ensure!(
                BlockingStream::connect(path).is_err(),
                "another gateway answers at {}; stop it, or give this one its own state_dir",
                path.display()
            );
            std::fs::remove_file(path).with_context(|| format!("remove stale socket {}", path.display()))?;
        }
        let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("restrict {}", path.display()))?;
        Ok(Entry { listener, path: Some(path.to_owned()) })
    }

    async fn serve(&self, gateway: Arc<dyn Gateway>, places: Arc<Semaphore>) {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let gateway = Arc::clone(&gateway);
                    tokio::spawn(async move {
                        // A visitor who hangs up in the middle concerns nobody else.
                        let _ = serve_one(stream, gateway.as_ref()).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "local door can not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Best effort: a socket left behind is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn serve_one(stream: UnixStream, gateway: &dyn Gateway) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = String::new();
        let mut limited = (&mut reader).take(REQUEST_LIMIT);
        if tokio::time::timeout(IDLE, limited.read_line(&mut line)).await?? == 0 {
            return Ok(());
        }
        let mut answer = match answer(&line, gateway).await {
            Ok(data) => json!({"ok": true, "data": data}).to_string(),
            Err(refusal) => json!({"ok": false, "error": refusal}).to_string(),
        };
        answer.push('\n');
        tokio::time::timeout(PATIENCE, writer.write_all(answer.as_bytes())).await??;
    }
}

async fn answer(line: &str, gateway: &dyn Gateway) -> Result<Json, Refusal> {
    let request: Request =
        serde_json::from_str(line).map_err(|e| Refusal::new("bad_request", format!("not a request: {e}")))?;
    tokio::time::timeout(PATIENCE, perform(gateway, DOOR, &request.operation, request.arguments))
        .await
        .unwrap_or_else(|_| Err(Refusal::new("timeout", format!("no answer within {PATIENCE:?}"))))
}

/// The gateway answered, and its answer is no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub code: String,
    pub message: String,
}

/// The visitor's side, for the command line.
pub struct Visitor {
    stream: BufReader<BlockingStream>,
}

impl Visitor {
    /// Knocks.
    ///
    /// # Errors
    /// When no gateway answers there.
    pub fn connect(path: &Path) -> anyhow::Result<Visitor> {
        let stream = BlockingStream::connect(path).with_context(|| {
            format!("no gateway answers at {}; is it running, and may this user open it?", path.display())
        })?;
        stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(1)))?;
        Ok(Visitor { stream: BufReader::new(stream) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The gateway's refusal, or a broken connection.
    pub fn ask(&mut self, operation: &str, arguments: &Json) -> anyhow::Result<Json> {
        let mut line = json!({"operation": operation, "arguments": arguments}).to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).context("ask the gateway")?;
        line.clear();
        self.stream.read_line(&mut line).context("wait for the gateway's answer")?;
        anyhow::ensure!(
            !line.is_empty(),
            "the gateway stopped before it answered; look whether it was done when it runs again"
        );
        let mut answer: Json = serde_json::from_str(&line).context("understand the gateway's answer")?;
        if answer["ok"] == true {
            return Ok(answer["data"].take());
        }
        let text = |key: &str, otherwise: &str| answer["error"][key].as_str().unwrap_or(otherwise).to_owned();
        Err(Refused { code: text("code", ""), message: text("message", "refused without a reason") }.into())
    }
}
