//! How earlier jobs ended: one line each, the last hundred.

use super::{Shelf, broken, is_garbage};
use crate::model::update::Offer;
use crate::store;
use crate::update::Manifest;
use crate::update::job::{Job, Origin, State};
use serde::{Deserialize, Serialize};
use std::io;

const HISTORY: &str = "history.jsonl";
/// Older ends are forgotten.
const REMEMBERED: usize = 100;
/// Of all lines, so that the disk gives them again: reasons may be long, and of letters with three bytes.
const BYTES: usize = 192 << 10;

/// How a job ended, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub id: String,
    pub begun: i64,
    pub ended: i64,
    /// `cloud` or the file's name.
    pub from: String,
    pub result: String,
    pub why: String,
    pub name: Option<String>,
    /// `engine`, or the firmware's target.
    pub target: Option<String>,
    pub version: Option<String>,
    pub replaced: Option<String>,
    /// The cloud's digest of the file.
    pub sign: Option<String>,
    /// The device it was offered to, as `productKey/deviceKey`; older engines did not write it down.
    #[serde(default)]
    pub device: Option<String>,
}

impl Shelf {
    /// Writes down how a job ended, once.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn record(&self, job: &Job) -> io::Result<()> {
        let mut past = self.mend_history()?;
        past.retain(|one| one.id != job.id);
        past.push(Past::of(job));
        self.write_history(&past)
    }

    fn write_history(&self, past: &[Past]) -> io::Result<()> {
        let lines: Vec<String> = past.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let mut left = BYTES;
        let fits = |line: &&String| {
            let room = left.checked_sub(line.len() + 1);
            left = room.unwrap_or(left);
            room.is_some()
        };
        let mut newest: Vec<&String> = lines.iter().rev().take(REMEMBERED).take_while(fits).collect();
        newest.reverse();
        let text: String = newest.into_iter().map(|line| format!("{line}\n")).collect();
        store::replace(&*self.disk, &self.folder, HISTORY, text.as_bytes())
    }

    /// The history, of which nothing is garbage any more: what is none of this program's is laid aside as
    /// history.jsonl.broken, and the lines that can be understood stay.
    ///
    /// # Errors
    /// When the disk does not give it, or does not take it.
    pub fn mend_history(&self) -> io::Result<Vec<Past>> {
        let path = self.folder.join(HISTORY);
        let bytes = match store::read(&*self.disk, &path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if is_garbage(&error) || error.kind() == io::ErrorKind::IsADirectory => {
                self.lay_aside(HISTORY)?;
                tracing::warn!(%error, "the history of updates can not be read; it is laid aside as history.jsonl.broken");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let (past, garbage) = understood(&bytes);
        if garbage > 0 {
            store::replace(&*self.disk, &self.folder, &broken(HISTORY), &bytes)?;
            self.write_history(&past)?;
            tracing::warn!(
                garbage,
                kept = past.len(),
                "lines of the history of updates can not be understood; it is laid aside as history.jsonl.broken"
            );
        }
        Ok(past)
    }

    /// Whether the end of this job is in the history.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn is_recorded(&self, job: &Job) -> io::Result<bool> {
        let now = Past::of(job);
        Ok(self.history()?.iter().any(|past| past.id == now.id && past.result == now.result))
    }

    /// The oldest first. Lines that can not be read are left out.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub fn history(&self) -> io::Result<Vec<Past>> {
        let bytes = store::read(&*self.disk, &self.folder.join(HISTORY))?.unwrap_or_default();
        Ok(understood(&bytes).0)
    }

    /// Whether the last change of what `manifest` is for ended between two versions, and this is the newer one: it may
    /// run, and nobody confirmed it.
    ///
    /// # Errors
    /// When the disk does not give the history.
    pub fn is_half_done(&self, manifest: &Manifest) -> io::Result<bool> {
        let done = State::Done.word();
        let changes = |past: &&Past| {
            past.target.as_deref() == Some(manifest.kind.target())
                && [done, LATER, HALF_DONE].contains(&past.result.as_str())
        };
        let history = self.history()?;
        let last = history.iter().rev().find(changes);
        let version = manifest.version.to_string();
        Ok(last.is_some_and(|last| last.result == HALF_DONE && last.version.as_ref() == Some(&version)))
    }
}

/// The lines that can be understood, and how many others there are.
fn understood(bytes: &[u8]) -> (Vec<Past>, usize) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let past: Vec<Past> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let garbage = lines.len() - past.len();
    (past, garbage)
}

/// Results of jobs that the state alone does not tell.
const LATER: &str = "rolled back later";
const HALF_DONE: &str = "half done";

impl Past {
    /// What one meter took, the next one still needs.
    #[must_use]
    pub fn may_be_of(&self, offer: &Offer) -> bool {
        let whose = format!("{}/{}", offer.product_key, offer.device_key);
        self.device.as_ref().is_none_or(|device| *device == whose)
    }

    fn of(job: &Job) -> Past {
        let manifest =
            job.manifest.as_deref().and_then(|text| Manifest::parse(text).ok()).map(|(_, manifest)| manifest);
        let result = match &job.state {
            State::RolledBack { .. } if job.was_done => LATER,
            state if state.is_half_done() => HALF_DONE,
            state => state.word(),
        };
        Past {
            id: job.id.clone(),
            begun: job.begun,
            ended: job.changed,
            from: match &job.origin {
                Origin::Cloud(_) => "cloud".to_owned(),
                Origin::File(name) => name.clone(),
            },
            result: result.to_owned(),
            why: job.state.why().chars().take(1000).collect(),
            name: job.name.clone(),
            target: manifest.as_ref().map(|manifest| manifest.kind.target().to_owned()),
            version: manifest.map(|m| m.version.to_string()).or_else(|| job.offer().map(|o| o.version.clone())),
            replaced: job.from.clone(),
            sign: job.offer().map(|offer| offer.sign.clone()),
            device: job.offer().map(|offer| format!("{}/{}", offer.product_key, offer.device_key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;
    use crate::update::job::tests::job;
    use std::path::Path;
    use std::sync::Arc;

    fn done(number: usize) -> Job {
        Job { id: format!("{number}-a"), state: State::Done, ..job() }
    }

    fn shelf(folder: &Path) -> Shelf {
        Shelf::new(Arc::new(RealDisk), folder)
    }

    #[test]
    fn a_history_that_is_none_is_laid_aside_and_the_next_end_is_recorded() {
        let huge = vec![b'x'; 300 << 10];
        let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        for garbage in [&huge, &noise] {
            let home = tempfile::tempdir().unwrap();
            let (shelf, file) = (shelf(home.path()), home.path().join("update/history.jsonl"));
            shelf.record(&done(1)).unwrap();
            std::fs::write(&file, garbage).unwrap();
            assert_eq!(shelf.history().unwrap_or_default().len(), 0);
            assert!(shelf.mend_history().unwrap().is_empty());
            assert_eq!(std::fs::read(home.path().join("update/history.jsonl.broken")).unwrap(), *garbage);
            shelf.record(&done(2)).unwrap();
            assert_eq!(shelf.history().unwrap().len(), 1);
            assert_eq!(shelf.laid_aside(), [home.path().join("update/history.jsonl.broken")]);
        }
    }

    #[test]
    fn a_folder_in_its_place_is_laid_aside_and_torn_lines_cost_no_others() {
        let home = tempfile::tempdir().unwrap();
        let (shelf, file) = (shelf(home.path()), home.path().join("update/history.jsonl"));
        std::fs::create_dir_all(file.join("x")).unwrap();
        shelf.record(&done(1)).unwrap();
        shelf.record(&done(2)).unwrap();
        std::fs::remove_dir_all(home.path().join("update/history.jsonl.broken")).unwrap();
        let text = std::fs::read_to_string(&file).unwrap().replacen('\n', "\n{\"id\":\n", 1);
        std::fs::write(&file, &text).unwrap();
        shelf.record(&done(3)).unwrap();
        let ids: Vec<String> = shelf.history().unwrap().into_iter().map(|past| past.id).collect();
        assert_eq!(ids, ["1-a", "2-a", "3-a"]);
        assert_eq!(std::fs::read_to_string(home.path().join("update/history.jsonl.broken")).unwrap(), text);
    }

    #[test]
    fn a_hundred_long_reasons_can_be_read_again() {
        let home = tempfile::tempdir().unwrap();
        let shelf = shelf(home.path());
        for number in 0..100 {
            let state = State::Refused { why: "电".repeat(1000) };
            shelf.record(&Job { state, ..done(number) }).unwrap();
        }
        let history = shelf.history().unwrap();
        assert!(history.len() > 40, "{}", history.len());
        assert_eq!(history.last().unwrap().id, "99-a");
    }
}
