//! PURE. The version of this program, said in one place: the command line, the cloud, status and every request ask here.
//!
//! The program's own `main` sets it, so that an engine of another version is one more link of the same library.

use std::sync::OnceLock;

static VERSION: OnceLock<&'static str> = OnceLock::new();

/// Says which version this is, before anything asks. A second call changes nothing.
pub fn set(version: &'static str) {
    // Whoever came first has been asked already, perhaps.
    let _ = VERSION.set(version);
}

/// The version of this program.
#[must_use]
pub fn current() -> &'static str {
    VERSION.get_or_init(|| env!("CARGO_PKG_VERSION"))
}

/// How this program introduces itself to servers.
#[must_use]
pub fn user_agent() -> String {
    format!("enos-edge/{}", current())
}
