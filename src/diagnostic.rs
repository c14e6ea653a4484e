//! Faults are collected, never only the first; this is how they are shown.

pub use driver::{Diagnostic, Place, Severity, did_you_mean};

/// More than anybody reads in a log, a status or an answer; `enos-edge check` shows them all.
const TOLD: usize = 200;

/// The faults, one below the other; of very many the first, and how many more there are.
#[must_use]
pub fn joined(faults: &[Diagnostic]) -> String {
    let mut told = faults.iter().take(TOLD).map(Diagnostic::to_string).collect::<Vec<_>>();
    if faults.len() > TOLD {
        told.push(format!("… and {} more; `enos-edge check` shows them", faults.len() - TOLD));
    }
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_thousand_faults_are_no_message() {
        let fault = Diagnostic::error(Place::new(&"a.yaml".into(), 1, 1), "wrong");
        let told = joined(&vec![fault; 20_000]);
        assert_eq!(told.lines().count(), TOLD + 1);
        assert!(told.ends_with("… and 19800 more; `enos-edge check` shows them"), "{}", &told[told.len() - 80..]);
    }
}
