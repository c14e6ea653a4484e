//! Faults are collected, never only the first; this is how they are shown.

pub use driver::{Diagnostic, Place, Severity, did_you_mean};
