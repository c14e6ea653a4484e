//! Which generations there are and which one runs: one small file, replaced as a whole, with its own digest in it.

use super::watch::Watch;
use crate::package::guards::{Named, Types};
use crate::store::{self, Disk, sha256};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The pointer. What it said before lies beside it.
pub const CURRENT: &str = "current";
const BEFORE: &str = "current.before";
/// Names of devices and connections a watch may have on disk; one with more ends with the process.
const WATCHED: usize = 2000;

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
    pub watch: Option<Watch>,
}

impl Record {
    #[must_use]
    pub fn facts(&self, generation: u64) -> Option<&Facts> {
        self.generations.iter().find(|facts| facts.generation == generation)
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
        let many = |watch: &Watch| watch.new.len() + watch.kept.len() > WATCHED;
        let text = if self.watch.as_ref().is_some_and(many) {
            serde_json::to_string(&Record { watch: None, ..self.clone() })?
        } else {
            serde_json::to_string(self)?
        };
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
