//! One file that somebody told the address of: fetched by HTTP to its end, going on where an earlier attempt broke.

use super::http_rules;
use super::incoming::Incoming;
use super::journal::{Chance, Journal, Trouble};
use super::pull::{self, Fetched};
use super::tls;
use crate::config::{SourceConfig, Trust};
use crate::model::progress::Progress;
use hyper::header::HeaderMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is wanted.
pub struct Download<'a> {
    /// Its name is that of the files in `folder`.
    pub source: &'a SourceConfig,
    pub folder: &'a Path,
    pub progress: &'a Progress,
}

/// A file that is whole, as far as the server can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    pub path: PathBuf,
    pub bytes: u64,
    /// Put together from parts that nobody vouched for.
    pub unsure: bool,
}

impl Download<'_> {
    /// One attempt. What came is kept whatever happens.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn attempt(&self) -> Result<Downloaded, Trouble> {
        let quiet =
            |done: &super::journal::Done| tracing::debug!(step = done.step.word(), said = %done.said, "download");
        let mut journal = Journal::new(&quiet);
        let mut incoming = Incoming::open(self.folder, &self.source.name)?;
        incoming.progress = self.progress.clone();
        match pull::fetch(self.source, &mut incoming, false, &mut journal).await? {
            Fetched::New { bytes, unsure, .. } => Ok(Downloaded { path: incoming.part(), bytes, unsure }),
            // Nothing is ever noted as taken here.
            Fetched::Looked | Fetched::Unchanged => {
                Err(Trouble::new(super::journal::Step::Ask, "the server sends no file"))
            }
        }
    }

    /// Bytes that are here already.
    #[must_use]
    pub fn held(&self) -> u64 {
        Incoming::open(self.folder, &self.source.name).map_or(0, |incoming| incoming.held())
    }

    /// The next attempt begins anew.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn forget(&self) -> Result<(), Trouble> {
        let mut incoming = Incoming::open(self.folder, &self.source.name)?;
        incoming.forget_part();
        incoming.remember()
    }
}

/// TLS as downloads use it, for those who have to log in before.
///
/// # Errors
/// Which file is not as it should be.
pub fn tls_client(trust: &Trust) -> Result<Arc<rustls::ClientConfig>, Trouble> {
    tls::client(trust)
}

/// When a server that is busy may be asked again, as it says.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    http_rules::retry_after(text("retry-after"), text("date"))
}

/// What another attempt is worth after an error of such a client.
#[must_use]
pub fn chance(error: &(dyn std::error::Error + 'static)) -> Chance {
    tls::chance(error)
}
