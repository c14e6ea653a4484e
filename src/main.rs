//! The daemon and its command line in one binary.

use std::process::ExitCode;

/// A build may say another: an engine for a trial differs in nothing else.
const VERSION: &str = match option_env!("ENOS_EDGE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// How many heaps glibc's allocator keeps.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// The daemon keeps one heap for all its threads: with one each, every thread that ever read a package keeps what that took,
/// 12 MB more after 300 packages and 60 MB after one of 100,000 devices. The allocator looks at its environment
/// before `main`, so the program starts itself again, as the same process. Who has set it knows why.
fn keep_one_heap() {
    use std::os::unix::process::CommandExt;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let is_daemon = words.next().is_some_and(|word| word == "run");
    if !cfg!(target_env = "gnu") || !is_daemon || std::env::var_os(ARENAS).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut again = std::process::Command::new(program);
        // It only returns when it failed; then the daemon runs as it is.
        drop(again.arg0(name).args(std::env::args_os().skip(1)).env(ARENAS, "1").exec());
    }
}

fn main() -> ExitCode {
    keep_one_heap();
    enos_edge::version::set(VERSION);
    enos_edge::cli::main_from(std::env::args_os())
}
