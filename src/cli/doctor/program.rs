//! Runs a program of the system and takes what it says, within bounds.

use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(4);

/// Standard output, whatever the exit status; nothing when the program is not there, hangs, or says too much.
pub async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    bounded(program, arguments, 256 << 10, PATIENCE).await.map(|(text, _)| text)
}

/// The first `most` bytes, and whether there were more. The program is ended at the deadline.
pub async fn bounded(program: &str, arguments: &[&str], most: u64, within: Duration) -> Option<(String, bool)> {
    let mut child = Command::new(program)
        .args(arguments)
        // What is read must not depend on the language of the system.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut text = Vec::new();
    let mut out = child.stdout.take()?.take(most + 1);
    timeout(within, out.read_to_end(&mut text)).await.ok()?.ok()?;
    let more = text.len() as u64 > most;
    text.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Some((String::from_utf8_lossy(&text).into_owned(), more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_heard_within_bounds() {
        assert_eq!(said("sh", &["-c", "echo here"]).await.as_deref(), Some("here\n"));
        assert_eq!(said("no-such-program-here", &[]).await, None);
        let (text, more) = bounded("sh", &["-c", "echo abcdef"], 3, PATIENCE).await.unwrap();
        assert_eq!((text.as_str(), more), ("abc", true));
        assert!(bounded("sleep", &["60"], 3, Duration::from_millis(20)).await.is_none());
    }
}
