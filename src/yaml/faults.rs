//! PURE. The faults of many files, capped so that a hostile or hopeless package can not fill the memory.

use crate::diagnostic::{Diagnostic, Place, Severity};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::Arc;

/// More complaints than anybody reads about one file. A point table has up to 1,001 of its own, which stay whole.
const OF_A_FILE: usize = 1_100;
/// And of all files of a package.
const OF_ALL: usize = 20_000;

/// Faults in the order they were found, each once; those beyond a cap are counted.
#[derive(Debug, Default)]
pub struct Faults {
    shown: Vec<Diagnostic>,
    files: HashMap<Arc<str>, OfFile>,
    seen: HashSet<u64>,
    hasher: RandomState,
    found: usize,
    errors: usize,
}

#[derive(Debug, Default)]
struct OfFile {
    shown: usize,
    more: usize,
    more_errors: usize,
}

impl Faults {
    #[must_use]
    pub fn new() -> Faults {
        Faults::default()
    }

    pub fn push(&mut self, fault: Diagnostic) {
        let is_error = fault.severity == Severity::Error;
        self.found += 1;
        self.errors += usize::from(is_error);
        if !self.files.contains_key(&fault.place.file) {
            self.files.insert(Arc::clone(&fault.place.file), OfFile::default());
        }
        let room = self.shown.len() < OF_ALL;
        let Some(file) = self.files.get_mut(&fault.place.file) else { return };
        if !room || file.shown >= OF_A_FILE {
            file.more += 1;
            file.more_errors += usize::from(is_error);
        } else if self.seen.insert(self.hasher.hash_one(&fault)) {
            file.shown += 1;
            self.shown.push(fault);
        }
    }

    pub fn extend(&mut self, faults: impl IntoIterator<Item = Diagnostic>) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }

    /// How many were found, shown or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found == 0
    }

    /// How many of them are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Sorted by place, with a line for each file that has more than are shown.
    #[must_use]
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.shown.sort();
        let mut rest: Vec<_> = self.files.into_iter().filter(|(_, of)| of.more > 0).collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        for (file, of) in rest {
            let (place, text) = (Place::new(&file, 0, 0), format!("… and {} more", of.more));
            let is_error = of.more_errors > 0;
            let fault = if is_error { Diagnostic::error(place, text) } else { Diagnostic::warning(place, text) };
            // Behind the last of its file, where a reader's eye arrives.
            let at = self.shown.partition_point(|shown| shown.place.file <= file);
            self.shown.insert(at, fault);
        }
        self.shown
    }
}

impl From<Vec<Diagnostic>> for Faults {
    fn from(list: Vec<Diagnostic>) -> Faults {
        let mut faults = Faults::new();
        faults.extend(list);
        faults
    }
}

impl Deref for Faults {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(file: &str, line: u32) -> Diagnostic {
        Diagnostic::error(Place::new(&file.into(), line, 1), "wrong")
    }

    #[test]
    fn faults_beyond_the_cap_of_a_file_are_counted_not_kept() {
        let mut faults = Faults::new();
        faults.extend((1..=5_000).map(|line| fault("a.yaml", line)));
        faults.push(fault("b.yaml", 1));
        assert_eq!((faults.len(), faults.errors()), (5_001, 5_001));
        let shown = faults.finish();
        assert_eq!(shown.len(), OF_A_FILE + 2);
        assert_eq!(shown[OF_A_FILE].to_string(), "a.yaml: … and 3900 more");
        assert_eq!(shown[OF_A_FILE + 1].to_string(), "b.yaml:1:1: wrong");
    }

    #[test]
    fn many_files_share_one_cap_and_an_equal_fault_stands_once() {
        let mut faults = Faults::new();
        faults.extend((0..100).flat_map(|file| (1..=1_000).map(move |line| fault(&format!("{file:02}.yaml"), line))));
        assert_eq!(faults.iter().count(), OF_ALL);
        let mut twice = Faults::new();
        twice.extend([fault("a", 1), fault("a", 1)]);
        assert_eq!(twice.finish().len(), 1);
    }
}
