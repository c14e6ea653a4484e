//! How large a package may be on this machine: what is read beside the one that runs must not take its memory.

use super::FOLDER;
use crate::package::source::Limits;
use std::path::Path;

/// Bytes a YAML value takes on its way from text to site, measured with 1.5 million sites of two values.
const OF_A_VALUE: u64 = 200;
/// Bytes of a point that is planned and runs: the plan, the live value, what was uploaded last.
const OF_A_POINT: u64 = 200;
/// Never less than these: any machine that runs the engine has room for a small site.
const VALUES: u64 = 200_000;
const POINTS: u64 = 50_000;

/// Archives are unpacked beside the generations: the system's folder for temporary files may be memory.
#[must_use]
pub fn limits(state_dir: &Path) -> Limits {
    limits_of(&state_dir.join(FOLDER))
}

/// As [`limits`], and no more than this machine has memory for beside the package that runs. For new ones only: what
/// was taken once is run at every start.
#[must_use]
pub fn limits_for_new(state_dir: &Path) -> Limits {
    fitted(limits(state_dir))
}

pub(super) fn limits_of(folder: &Path) -> Limits {
    Limits { staging: Some(folder.to_owned()).filter(|folder| folder.is_dir()), ..Limits::default() }
}

/// Limits for which half of the memory that is free suffices. Without a figure they stay as they are.
fn fitted(limits: Limits) -> Limits {
    match free() {
        Some(free) => within(limits, free / 2),
        None => limits,
    }
}

fn within(limits: Limits, bytes: u64) -> Limits {
    let values = usize::try_from((bytes / OF_A_VALUE).max(VALUES)).unwrap_or(usize::MAX);
    Limits {
        values: limits.values.min(values),
        points: limits.points.min((bytes / OF_A_POINT).max(POINTS)),
        text_bytes: limits.text_bytes.min((bytes / 4).max(4 << 20)),
        ..limits
    }
}

/// What the machine says it could give (proc_meminfo(5)), or what the control group leaves, whichever is less.
fn free() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = available(&memory)?;
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{path}/{name}")).ok();
        left(&read("memory.max")?, &read("memory.current")?)
    });
    Some(group.map_or(machine, |group| group.min(machine)))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// `memory.max` of a group without a limit is `max`.
fn left(most: &str, used: &str) -> Option<u64> {
    Some(most.trim().parse::<u64>().ok()?.saturating_sub(used.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_takes_smaller_packages_and_a_large_one_no_larger_ones() {
        let small = within(Limits::default(), 100 << 20);
        assert_eq!((small.values, small.points, small.text_bytes), (524_288, 524_288, 25 << 20));
        let tiny = within(Limits::default(), 0);
        assert_eq!((tiny.values, tiny.points, tiny.text_bytes), (200_000, 50_000, 4 << 20));
        let large = within(Limits::default(), 1 << 40);
        assert_eq!((large.values, large.points), (Limits::default().values, Limits::default().points));
    }

    #[test]
    fn free_memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(available("MemTotal:  16 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemAvailable: many kB\n"), None);
        assert_eq!((left("1000\n", "400\n"), left("max\n", "400\n"), left("1", "2")), (Some(600), None, Some(0)));
        assert!(free().is_none_or(|free| free > 1 << 20), "this machine");
    }
}
