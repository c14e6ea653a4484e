//! Conformance tests every protocol must pass, and builders for their input.

use crate::{Parameters, Place, Text};
use std::sync::Arc;

/// Parameters from pairs, all at line 1 of `protocol.sys`.
#[must_use]
pub fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    let file: Arc<str> = "protocol.sys".into();
    let text = |text: &str| Text { text: text.to_owned(), place: Place::new(&file, 1, 1) };
    Parameters { entries: pairs.iter().map(|(k, v)| (text(k), text(v))).collect() }
}
