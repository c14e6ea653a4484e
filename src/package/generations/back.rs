//! Which generation is gone back to, and the end of a watch.

use super::record::{Facts, Record};
use super::{Generations, REJECTED};
use crate::model::Site;
use crate::package::guards;
use std::io;

impl Generations {
    /// The generation to go back to: the one named, or the one that proved itself last before the current one.
    ///
    /// # Errors
    /// When there is none.
    pub fn before(&self, wanted: Option<u64>) -> Result<Facts, String> {
        let known = || {
            let all: Vec<String> = self.record.generations.iter().map(|one| one.generation.to_string()).collect();
            if all.is_empty() { "there is none".to_owned() } else { format!("there are {}", all.join(", ")) }
        };
        match wanted {
            Some(number) if number == self.record.current => Err(format!("generation {number} is the one that runs")),
            Some(number) => {
                self.record.facts(number).cloned().ok_or_else(|| format!("generation {number}: {}", known()))
            }
            None => {
                let before = self.record.proven_before_current();
                before.cloned().ok_or_else(|| format!("no generation before the current one is kept; {}", known()))
            }
        }
    }

    /// Points back to an older generation, which holds `site`. `reject`: what ran is not installed again unless forced.
    ///
    /// # Errors
    /// When the disk does not take it; nothing has changed then.
    pub fn go_back(&mut self, to: &Facts, site: &Site, reject: bool, why: &str) -> io::Result<()> {
        let mut record = self.record.clone();
        if reject && let Some(bad) = self.current() {
            record.rejected.push(bad.content.clone());
            let surplus = record.rejected.len().saturating_sub(REJECTED);
            record.rejected.drain(..surplus);
        }
        record.current = to.generation;
        record.watch = None;
        record.unproven.retain(|one| *one != to.generation);
        // From now on its types are sent again, whatever was forced upon the one that is left.
        guards::learn(&mut record.types, site);
        record.write(&*self.disk, &self.folder)?;
        self.record = record;
        self.note("rolled_back", to, why.to_owned());
        Ok(())
    }

    /// Its readings were as they should be: the watch is over, if it is still this one that runs.
    ///
    /// # Errors
    /// When the disk does not take it; the next start watches again then.
    pub fn keep(&mut self, facts: &Facts, why: String) -> io::Result<()> {
        if self.record.current != facts.generation {
            return Ok(());
        }
        let record = Record { watch: None, ..self.record.clone() };
        record.write(&*self.disk, &self.folder)?;
        self.record = record;
        self.note("kept", facts, why);
        Ok(())
    }
}
