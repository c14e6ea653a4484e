//! What is told of a pushed archive before it comes, and what is half here of one: with its digest told an upload that broke
//! goes on where it ended.

use super::incoming::{Incoming, Mark};
use serde_json::{Value as Json, json};
use std::path::Path;

/// Its files in STATE/incoming; no source of `fetch:` may have this name.
pub(super) const NAME: &str = "push";

/// The head of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub sha256: Option<String>,
    /// Length of the whole archive.
    pub total: Option<u64>,
    /// Where the body begins in it.
    pub first: u64,
    /// Its last byte, where the body is a part.
    last: Option<u64>,
}

impl Told {
    /// `range` is `bytes FIRST-LAST/TOTAL` (RFC 9110 14.4).
    ///
    /// # Errors
    /// What can not be.
    pub fn read(sha256: Option<String>, length: Option<&str>, range: Option<&str>) -> Result<Told, &'static str> {
        let length = length.and_then(|length| length.trim().parse::<u64>().ok());
        let Some(range) = range else { return Ok(Told { sha256, total: length, ..Told::default() }) };
        if sha256.is_none() {
            return Err("content-range needs x-sha256, the digest of the whole archive");
        }
        let parsed = range.strip_prefix("bytes ").and_then(|range| {
            let (range, total) = range.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total.trim().parse().ok()?))
        });
        let fits = |(first, last, total): &(u64, u64, u64)| {
            first <= last && last < total && length.is_none_or(|length| length == last - first + 1)
        };
        let (first, last, total) =
            parsed.filter(fits).ok_or("content-range is `bytes FIRST-LAST/TOTAL`, and as long as the body")?;
        Ok(Told { sha256, total: Some(total), first, last: Some(last) })
    }

    /// How long the archive is after this body, where that is known.
    pub fn ends_at(&self) -> Option<u64> {
        self.last.map(|last| last + 1)
    }

    /// What proves that a rest belongs to it.
    pub fn mark(&self) -> Mark {
        let etag = self.sha256.as_ref().map(|sha256| format!("\"{sha256}\""));
        Mark { address: NAME.to_owned(), etag, modified: None, size: self.total }
    }
}

/// What is half here, for whoever wants to send the rest.
pub(super) fn held(folder: &Path) -> Json {
    let Ok(incoming) = Incoming::open(folder, NAME) else { return Json::Null };
    let bytes = incoming.held();
    match incoming.memory.part.as_ref() {
        Some(Mark { etag: Some(etag), size: Some(total), .. }) if bytes > 0 => {
            json!({ "sha256": etag.trim_matches('"'), "bytes": bytes, "total": total })
        }
        _ => Json::Null,
    }
}

/// A gateway that was killed left half an archive: what nobody can go on with goes.
pub(super) fn tidy(folder: &Path) {
    let Ok(mut incoming) = Incoming::open(folder, NAME) else { return };
    if held(folder).is_null() {
        incoming.forget_part();
        // Best effort: the next upload begins anew in any case.
        let _ = incoming.remember();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_belongs_to_a_digest_and_to_the_length_of_the_body() {
        let sha256 = || Some("a".repeat(64));
        let rest = Told::read(sha256(), Some("4"), Some("bytes 6-9/10")).unwrap();
        assert_eq!((rest.first, rest.total, rest.ends_at()), (6, Some(10), Some(10)));
        assert_eq!(rest.mark(), Told::read(sha256(), Some("10"), None).unwrap().mark(), "the same archive");
        assert!(Told::read(None, Some("4"), Some("bytes 6-9/10")).is_err());
        for bad in ["bytes 6-10/10", "bytes 9-6/10", "bytes */10", "bytes 6-9/*", "6-9/10", "bytes 0-9/10"] {
            assert!(Told::read(sha256(), Some("4"), Some(bad)).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn half_an_archive_is_kept_only_with_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        for (sha256, kept) in [(Some("b".repeat(64)), true), (None, false)] {
            let told = Told { sha256, total: Some(10), ..Told::default() };
            let mut incoming = Incoming::open(folder.path(), NAME).unwrap();
            let mut writer = incoming.begin(told.mark()).unwrap();
            writer.append(b"half").await.unwrap();
            writer.finish().await.unwrap();
            tidy(folder.path());
            assert_eq!(held(folder.path())["bytes"] == 4, kept);
            assert_eq!(incoming.part().exists(), kept);
        }
    }
}
