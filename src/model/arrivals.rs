//! PURE. The hand-over between the ways in and what verifies, checks and switches: one archive, whole on disk, and what
//! became of it.

use super::Publish;
use crate::diagnostic::Diagnostic;
use driver::Answer;
use std::path::Path;

/// Where an archive came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the source in `fetch:`, or `push`.
    pub source: String,
    /// Address without account and password, for people.
    pub address: String,
    /// SHA-256 of the archive, in lower-case hex.
    pub sha256: String,
    pub bytes: u64,
    /// Which publish it is.
    pub publish: Publish,
    /// The version that whoever published it says it has.
    pub version: Option<String>,
}

/// The archive runs, or is on its way to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Name and version of the package, for people.
    pub package: String,
    /// What was done with it, for people: `runs as generation 7`, `runs already`.
    pub outcome: String,
}

/// The archive is not used; what ran before runs on.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub reason: String,
    pub at: RefusedAt,
    /// Each with file, line, column and remedy.
    pub faults: Vec<Diagnostic>,
    /// The same archive may be taken later: no space on the disk, another switch under way.
    pub passing: bool,
}

/// Which step refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedAt {
    Signature,
    /// It is no package, or not sound, or may not come after what runs.
    Check,
    /// The disk or a part did not take it.
    Switch,
}

/// Who takes archives.
pub trait Arrivals: Send + Sync {
    /// The file is complete and its size and digest were checked. It belongs to the caller, who removes it afterwards:
    /// whoever wants to keep it copies or renames it. Ends by itself.
    fn arrived<'a>(&'a self, path: &'a Path, from: Origin) -> Answer<'a, Result<Accepted, Refused>>;
}
