//! The daemon and its command line in one binary.

use std::process::ExitCode;

/// A build may say another: an engine for a trial differs in nothing else.
const VERSION: &str = match option_env!("ENOS_EDGE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    enos_edge::heap::keep_small();
    enos_edge::version::set(VERSION);
    enos_edge::cli::main_from(std::env::args_os())
}
