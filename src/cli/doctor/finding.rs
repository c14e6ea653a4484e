//! PURE. One thing that was looked at, and what a person can do about it.

use serde::Serialize;

/// How bad it is. The worst decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Worth knowing: also what could not be looked at, and why.
    Note,
    /// It works, and will not for ever.
    Warning,
    /// It does not work.
    Fault,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// Who looked.
    pub probe: &'static str,
    pub what: String,
    /// File, host, device; empty when there is no such place.
    pub r#where: String,
    /// Empty when nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>) -> Finding {
        Finding { level, probe: "", what: what.into(), r#where: String::new(), remedy: String::new() }
    }

    pub fn ok(what: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, what)
    }

    pub fn note(what: impl Into<String>) -> Finding {
        Finding::new(Level::Note, what)
    }

    pub fn warning(what: impl Into<String>) -> Finding {
        Finding::new(Level::Warning, what)
    }

    pub fn fault(what: impl Into<String>) -> Finding {
        Finding::new(Level::Fault, what)
    }

    /// What could not be looked at, and why.
    pub fn unseen(what: &str, why: impl std::fmt::Display) -> Finding {
        Finding::note(format!("not looked at: {what}: {why}"))
    }

    #[must_use]
    pub fn at(mut self, place: impl std::fmt::Display) -> Finding {
        self.r#where = place.to_string();
        self
    }

    #[must_use]
    pub fn help(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }
}

/// All findings, in the order of the table of probes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    /// Milliseconds UTC.
    pub at: i64,
    pub took_ms: u64,
    /// `running`, `stopped`, `silent` or `unknown`.
    pub gateway: &'static str,
    pub worst: Level,
    pub findings: Vec<Finding>,
}

impl Report {
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_written_in_small_letters() {
        assert!(Level::Ok < Level::Note && Level::Note < Level::Warning && Level::Warning < Level::Fault);
        let finding = Finding::fault("it broke").at("/x").help("mend it");
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["level"], "fault");
        assert_eq!((&json["where"], &json["remedy"]), (&"/x".into(), &"mend it".into()));
    }
}
