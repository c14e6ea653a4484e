//! One attempt without a running gateway, for `enos-edge package fetch`: nothing is handed over.

use super::incoming::Incoming;
use super::journal::{Done, Journal, Step, Trouble};
use super::pull::{self, Fetched};
use crate::config::SourceConfig;
use crate::model::progress::Progress;
use std::path::Path;

/// What is wanted.
pub struct Errand<'a> {
    pub source: &'a SourceConfig,
    /// Where the half-fetched archive is kept between attempts.
    pub folder: &'a Path,
    /// Where the archive goes; `None` looks only whether it could be fetched.
    pub to: Option<&'a Path>,
    pub watcher: &'a (dyn Fn(&Done) + Send + Sync),
    /// Told how far the transfer is.
    pub progress: &'a Progress,
}

/// SHA-256 of what was written, or nothing when it was only looked for.
///
/// # Errors
/// The step that failed.
pub async fn once(errand: &Errand<'_>) -> Result<Option<String>, Trouble> {
    let mut journal = Journal::new(errand.watcher);
    let mut incoming = Incoming::open(errand.folder, &format!("{}.once", errand.source.name))?;
    incoming.progress = errand.progress.clone();
    // Whoever asks by hand wants the archive, not to hear that it is unchanged.
    (incoming.memory.taken, incoming.memory.taken_sha256) = (None, None);
    match pull::fetch(errand.source, &mut incoming, errand.to.is_none(), &mut journal).await? {
        Fetched::Looked | Fetched::Unchanged => Ok(None),
        Fetched::New { sha256, .. } => {
            let Some(to) = errand.to else { return Ok(Some(sha256)) };
            let told = |error: std::io::Error| Trouble::new(Step::Transfer, format!("write {}: {error}", to.display()));
            if std::fs::rename(incoming.part(), to).is_err() {
                std::fs::copy(incoming.part(), to).map_err(told)?;
            }
            incoming.forget_part();
            incoming.remember()?;
            Ok(Some(sha256))
        }
    }
}
