//! Which generations there are and which one runs: one small file, replaced as a whole, with its own digest in it.

use super::watch::Noted;
use crate::package::guards::{Named, Types};
use crate::store::{self, Disk, sha256};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The pointer. What it said before lies beside it.
pub const CURRENT: &str = "current";
const BEFORE: &str = "current.before";

/// What is known of one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub generation: u64,
    pub name: String,
    pub version: String,
    /// The one OU of the package, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// SHA-256 of the file that is kept.
    pub sha256: String,
    /// Digest of what was handed over: equal for equal files, whether in a folder or an archive.
    pub content: String,
    /// Where it came from, for people.
    pub from: String,
    /// When it became a generation, in milliseconds UTC.
    pub at: i64,
}

impl Facts {
    pub(super) fn named(&self) -> Named<'_> {
        Named { name: &self.name, version: &self.version, org: self.org.as_deref() }
    }
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The generation that runs; 0: none yet.
    pub current: u64,
    /// As they ran: the one that runs is last, but for those that were gone back from.
    pub generations: Vec<Facts>,
    /// The highest number ever given.
    pub last: u64,
    /// Contents that were taken back: not installed again unless forced.
    #[serde(default)]
    pub rejected: Vec<String>,
    /// Content of `package:` of edge.yaml when it was last looked at.
    #[serde(default)]
    pub seed: Option<String>,
    /// Model, point -> data type, of every point that could have been sent (R31).
    #[serde(default)]
    pub types: Types,
    /// The current one is being judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Noted>,
    /// Generations that were replaced while they were judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<u64>,
}

impl Record {
    #[must_use]
    pub fn facts(&self, generation: u64) -> Option<&Facts> {
        self.generations.iter().find(|facts| facts.generation == generation)
    }

    /// What ran last before the current one, and was neither taken back nor replaced before it had proved itself.
    #[must_use]
    pub fn proven_before_current(&self) -> Option<&Facts> {
        let later = self.generations.iter().rev().skip_while(|one| one.generation != self.current);
        later.skip(1).find(|one| {
            one.generation < self.current
                && !self.rejected.contains(&one.content)
                && !self.unproven.contains(&one.generation)
        })
    }

    /// Forgets the oldest of more than `kept` beside the current one, but never the one to go back to.
    pub(super) fn prune(&mut self, kept: usize) {
        let back = self.proven_before_current().map(|one| one.generation);
        while self.generations.len() > kept + 1 {
            let needed = |one: &Facts| one.generation == self.current || Some(one.generation) == back;
            let Some(oldest) = self.generations.iter().position(|one| !needed(one)) else { break };
            self.generations.remove(oldest);
        }
        let known: Vec<u64> = self.generations.iter().map(|one| one.generation).collect();
        self.unproven.retain(|one| known.contains(one));
    }

    /// The last one written, or the one before it when that is damaged. `None` when there was never any.
    ///
    /// # Errors
    /// When there are files and none is whole, or the disk does not tell.
    pub fn read(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Record>> {
        let mut damaged = false;
        for name in [CURRENT, BEFORE] {
            match store::read(disk, &folder.join(name))? {
                None => {}
                Some(bytes) => match parse(&bytes) {
                    Some(record) => return Ok(Some(record)),
                    None => damaged = true,
                },
            }
        }
        if damaged { Err(io::Error::other("the list of generations is damaged")) } else { Ok(None) }
    }

    /// On disk when it returns well; the old one is still there otherwise.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        if let Some(bytes) = store::read(disk, &folder.join(CURRENT))?.filter(|bytes| parse(bytes).is_some()) {
            store::replace(disk, folder, BEFORE, &bytes)?;
        }
        let text = serde_json::to_string(self)?;
        store::replace(disk, folder, CURRENT, format!("{}\n{text}\n", sha256(text.as_bytes())).as_bytes())
    }
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let (digest, text) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once('\n')?;
    if sha256(text.as_bytes()) != digest {
        return None;
    }
    serde_json::from_str(text).ok()
}
