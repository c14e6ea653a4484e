//! How much memory the C library's allocator keeps for itself.

/// What glibc's allocator is told: one heap for all threads, and to give back what is free above 2 MiB. Without the first,
/// every thread that ever read a package keeps what that took, 60 MB after one of 100,000 devices. Without the second, the
/// allocator learns from a large block that large blocks are usual, and keeps 12 MB more after some hundred packages.
pub const WORDS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "2097152")];

/// The allocator looks at its environment before `main`, so the daemon starts itself again, as the same process. Who has
/// set a word of [`WORDS`] knows why.
pub fn keep_small() {
    use std::os::unix::process::CommandExt;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let is_daemon = words.next().is_some_and(|word| word == "run");
    if !cfg!(target_env = "gnu") || !is_daemon || WORDS.iter().any(|(word, _)| std::env::var_os(word).is_some()) {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut again = std::process::Command::new(program);
        // It only returns when it failed; then the daemon runs as it is.
        drop(again.arg0(name).args(std::env::args_os().skip(1)).envs(WORDS).exec());
    }
}
