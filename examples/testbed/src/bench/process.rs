//! What the operating system knows of another process: processor time and memory.

use anyhow::Context as _;
use std::time::Duration;

/// Processor time so far, user and system together.
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the gateway's processor time")?;
    // The name in brackets may hold blanks; fields count from behind it (proc(5)): utime and stime are 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / per_second as f64))
}

/// Resident bytes: now, and at most so far.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read the gateway's memory")?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Ok((field("VmRSS:"), field("VmHWM:")))
}

/// Bytes written to a disk so far.
///
/// # Errors
/// When the process is gone.
pub fn written(pid: u32) -> anyhow::Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))
        .context("read what the gateway wrote; it keeps its memory private, so this wants root")?;
    let line = io.lines().find(|line| line.starts_with("write_bytes:"));
    Ok(line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0))
}

/// Threads and open files.
///
/// # Errors
/// When the process is gone.
pub fn handles(pid: u32) -> anyhow::Result<(usize, usize)> {
    let count = |what: &str| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/{what}"));
        anyhow::Ok(entries.with_context(|| format!("count the gateway's {what}"))?.count())
    };
    Ok((count("task")?, count("fd")?))
}
