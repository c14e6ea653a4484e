//! Asks the running gateway over its local door, on one connection that stays.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The door itself gives up after 30 s.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Door {
    stream: BufReader<UnixStream>,
    line: String,
}

impl Door {
    /// # Errors
    /// When nobody listens.
    pub async fn open(socket: &Path) -> anyhow::Result<Door> {
        let stream = UnixStream::connect(socket).await.context("knock at the gateway's door")?;
        Ok(Door { stream: BufReader::new(stream), line: String::new() })
    }

    /// # Errors
    /// The gateway's refusal, or a broken connection.
    pub async fn ask(&mut self, operation: &str, arguments: Value) -> anyhow::Result<Value> {
        let mut question = json!({ "operation": operation, "arguments": arguments }).to_string();
        question.push('\n');
        timeout(PATIENCE, self.stream.write_all(question.as_bytes())).await.context("ask")??;
        self.line.clear();
        timeout(PATIENCE, self.stream.read_line(&mut self.line)).await.context("wait for an answer")??;
        let mut answer: Value = serde_json::from_str(&self.line).context("the gateway hung up")?;
        if answer["ok"] != true {
            bail!("{operation}: {}", answer["error"]["message"]);
        }
        Ok(answer["data"].take())
    }
}
