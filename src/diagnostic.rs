//! Faults are collected, never only the first; this is how they are shown.

pub use driver::{Diagnostic, Place, Severity, did_you_mean};

/// All faults, one below the other.
#[must_use]
pub fn joined(faults: &[Diagnostic]) -> String {
    faults.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}
