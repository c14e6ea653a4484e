//! What a package holds, as one digest: equal for equal files with equal names, however they are packed.

use crate::diagnostic::Diagnostic;
use crate::package::source::{Limits, Source};
use crate::store::sha256;
use std::path::Path;

/// Equal for equal files with equal names.
///
/// # Errors
/// When a file can not be read.
pub fn content_of(path: &Path, limits: &Limits) -> Result<String, Vec<Diagnostic>> {
    content(&Source::open(path, limits)?)
}

pub(super) fn content(source: &Source) -> Result<String, Vec<Diagnostic>> {
    let mut text = String::new();
    for name in source.files() {
        text.push_str(name);
        text.push('\0');
        text.push_str(&source.sha256(name).map_err(|fault| vec![fault])?);
        text.push('\n');
    }
    Ok(sha256(text.as_bytes()))
}
