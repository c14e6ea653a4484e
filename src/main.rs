//! The daemon and its command line in one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    enos_edge::cli::main_from(std::env::args_os())
}
