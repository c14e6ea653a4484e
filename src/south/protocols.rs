//! The protocols this daemon speaks: one line each.

use driver::Protocol;

/// All protocols, in the order they are shown to people.
#[must_use]
pub fn all() -> &'static [&'static dyn Protocol] {
    &[]
}

/// The protocol a package names, whatever the letter case.
#[must_use]
pub fn named(word: &str) -> Option<&'static dyn Protocol> {
    all().iter().copied().find(|protocol| protocol.name().eq_ignore_ascii_case(word))
}
