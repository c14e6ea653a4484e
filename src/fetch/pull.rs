//! One attempt at one source: fetch, then size and digest. What comes out lies whole in STATE/incoming.

use super::digest;
use super::incoming::{Incoming, Mark};
use super::journal::{Journal, Step, Trouble};
use super::{folder, ftp, http, sftp};
use crate::config::{Checksum, Scheme, SourceConfig};
use tokio::time::timeout;

/// What a way in found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It could be fetched; nobody wanted more.
    Looked,
    /// The archive that was taken last lies there still.
    Unchanged,
    Whole(Whole),
}

/// An archive, complete in the incoming folder as far as its way in can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub size: u64,
    /// What the source tells; compared.
    pub sha256: Option<String>,
    /// It was not fetched in one go.
    pub resumed: bool,
}

/// What an attempt brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    Looked,
    Unchanged,
    /// Lies in [`Incoming::part`], checked.
    New {
        sha256: String,
        bytes: u64,
        unsure: bool,
    },
}

/// # Errors
/// The step that failed, at the latest after the source's deadline.
pub(super) async fn fetch(
    source: &SourceConfig,
    incoming: &mut Incoming,
    look: bool,
    journal: &mut Journal<'_>,
) -> Result<Fetched, Trouble> {
    let fetching = async {
        let found = match source.address.scheme {
            Scheme::Http | Scheme::Https => http::fetch(source, incoming, look, journal).await?,
            Scheme::Ftp | Scheme::Ftps => ftp::fetch(source, incoming, look, journal).await?,
            Scheme::Sftp => sftp::fetch(source, incoming, look, journal).await?,
            Scheme::File => folder::fetch(source, incoming, look, journal).await?,
        };
        match found {
            Found::Looked => Ok(Fetched::Looked),
            Found::Unchanged => Ok(Fetched::Unchanged),
            Found::Whole(whole) => checked(incoming, whole, journal).await,
        }
    };
    let late = |_| {
        let trouble = Trouble::new(Step::Transfer, format!("not done within {:?}", source.deadline));
        Err(trouble.help("the next attempt goes on where this one ended; deadline_s sets the limit"))
    };
    timeout(source.deadline, fetching).await.unwrap_or_else(late)
}

async fn checked(incoming: &mut Incoming, whole: Whole, journal: &mut Journal<'_>) -> Result<Fetched, Trouble> {
    let (sha256, bytes) = incoming.digest().await?;
    let wrong = if bytes != whole.size {
        Some(format!("{bytes} bytes are on disk and {} were sent", whole.size))
    } else {
        whole
            .sha256
            .as_ref()
            .filter(|told| **told != sha256)
            .map(|told| format!("SHA-256 is {sha256}, the source tells {told}"))
    };
    let other = incoming.wanted_sha256.as_ref().filter(|wanted| **wanted != sha256);
    let wrong =
        wrong.or_else(|| other.map(|wanted| format!("SHA-256 is {sha256}, that of the published archive is {wanted}")));
    let vouched = whole.sha256.is_some() || incoming.wanted_sha256.is_some();
    if let Some(wrong) = wrong {
        incoming.forget_part();
        // The next attempt must not be answered with "unchanged".
        incoming.remember()?;
        return Err(Trouble::new(Step::Digest, wrong)
            .help("the archive was changed on its way, or its .sha256 is that of another one"));
    }
    journal.done(
        Step::Digest,
        format!("SHA-256 {sha256}{}", if whole.sha256.is_some() { ", as the source tells" } else { "" }),
    );
    if incoming.memory.taken_sha256.as_ref() == Some(&sha256) {
        taken(incoming, sha256)?;
        return Ok(Fetched::Unchanged);
    }
    Ok(Fetched::New { sha256, bytes, unsure: whole.resumed && !vouched })
}

/// The archive needs not be fetched again.
///
/// # Errors
/// Those of the disk.
pub(super) fn taken(incoming: &mut Incoming, sha256: String) -> Result<(), Trouble> {
    let mark: Option<Mark> = incoming.memory.part.take();
    incoming.forget_part();
    incoming.memory.taken = mark;
    incoming.memory.taken_sha256 = Some(sha256);
    incoming.remember()
}

/// # Errors
/// When the source must tell a digest.
pub(super) fn missing_sidecar(source: &SourceConfig, beside: &str, why: &str) -> Result<Option<String>, Trouble> {
    match source.checksum {
        Checksum::Required => Err(Trouble::new(Step::Digest, format!("{beside}: {why}"))
            .help("put the file there, or write `checksum: optional`")),
        Checksum::Optional | Checksum::Ignore => Ok(None),
    }
}

/// # Errors
/// When the source must tell a digest, and the text is none.
pub(super) fn sidecar_text(
    source: &SourceConfig,
    beside: &str,
    text: &str,
    journal: &mut Journal<'_>,
) -> Result<Option<String>, Trouble> {
    let name = beside.rsplit('/').next().unwrap_or_default().trim_end_matches(".sha256");
    match digest::of_sidecar(text, name) {
        Some(sha256) => {
            journal.done(Step::Digest, format!("{beside} tells one"));
            Ok(Some(sha256))
        }
        None => missing_sidecar(source, beside, "it holds no SHA-256"),
    }
}
