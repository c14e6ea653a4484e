//! PURE. Faults of one file, collected up to a cap so that a hostile file can not fill the memory.

use crate::diagnostic::{Diagnostic, Place, Severity};
use std::sync::Arc;

/// More complaints than anybody reads about one file.
const SHOWN: usize = 1_000;

/// Collects the faults of one file and says at the end how many more there were.
pub struct Faults {
    file: Arc<str>,
    shown: Vec<Diagnostic>,
    more: u64,
    errors: u64,
}

impl Faults {
    #[must_use]
    pub fn new(file: &Arc<str>) -> Faults {
        Faults { file: Arc::clone(file), shown: Vec::new(), more: 0, errors: 0 }
    }

    /// Adds a fault. It is only written out in words when there is room for it.
    pub fn push(&mut self, severity: Severity, make: impl FnOnce() -> Diagnostic) {
        self.errors += u64::from(severity == Severity::Error);
        if self.shown.len() < SHOWN {
            self.shown.push(make());
        } else {
            self.more += 1;
        }
    }

    pub fn error(&mut self, line: u32, column: u32, problem: impl Into<String>, help: impl Into<String>) {
        let place = Place::new(&self.file, line, column);
        self.push(Severity::Error, || with_help(Diagnostic::error(place, problem), help));
    }

    pub fn warning(&mut self, line: u32, column: u32, problem: impl Into<String>, help: impl Into<String>) {
        let place = Place::new(&self.file, line, column);
        self.push(Severity::Warning, || with_help(Diagnostic::warning(place, problem), help));
    }

    pub fn add(&mut self, fault: Diagnostic) {
        self.push(fault.severity, || fault);
    }

    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The faults in the order of the file, the last one counting those that were not shown.
    #[must_use]
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.shown.sort_by_key(|fault| (fault.place.line, fault.place.column));
        if self.more > 0 {
            let whole = Place::new(&self.file, 0, 0);
            let text = format!("… and {} more", self.more);
            let rest = if self.errors > 0 { Diagnostic::error(whole, text) } else { Diagnostic::warning(whole, text) };
            self.shown.push(rest);
        }
        self.shown
    }
}

/// No help is better than an empty line of it.
fn with_help(fault: Diagnostic, help: impl Into<String>) -> Diagnostic {
    let help = help.into();
    if help.is_empty() { fault } else { fault.help(help) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_beyond_the_cap_are_counted_not_kept() {
        let mut faults = Faults::new(&"point.csv".into());
        for line in 1..=1_500 {
            faults.error(line, 1, "wrong", "write it right");
        }
        let shown = faults.finish();
        assert_eq!(shown.len(), SHOWN + 1);
        assert_eq!(shown[SHOWN].to_string(), "point.csv: … and 500 more");
    }
}
