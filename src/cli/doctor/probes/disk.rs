//! The disk of the state folder: room for what waits, and whether it still writes.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use rustix::fs::{Mode, OFlags, StatVfs, StatVfsMountFlags};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Fewer new files than a day needs.
const FEW_FILES: u64 = 1000;
/// The durability bound is a second: a disk that takes longer breaks it.
const SLOW: Duration = Duration::from_secs(1);
const SLUGGISH: Duration = Duration::from_millis(250);

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "the disk") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let folder = existing(&config.state_dir);
    let mut findings = Vec::new();
    match rustix::fs::statvfs(&folder) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            findings.push(Finding::fault("the disk of the state folder can only be read").at(folder.display()).help(
                "after an error the kernel does that: look at `dmesg`, check the disk with fsck, replace it; \
                     or name a writable state_dir",
            ));
        }
        Ok(found) => {
            let used = bytes_below(&config.state_dir.join("outbox"));
            let (quota, reserve) = (config.outbox.quota_bytes, config.outbox.disk_reserve_bytes);
            findings.extend(room(&found, quota.saturating_sub(used), reserve).map(|f| f.at(folder.display())));
            findings.extend(files(&found).map(|finding| finding.at(folder.display())));
            findings.push(speed(&folder));
        }
        Err(error) => findings.push(Finding::unseen("the disk", error).at(folder.display())),
    }
    let trouble = ground.status().and_then(|status| status["outbox"]["trouble"].as_str());
    findings.extend(trouble.map(|why| {
        Finding::fault(format!("the outbox can not write: {why}"))
            .at(folder.display())
            .help("make room, or replace the disk; readings wait in memory meanwhile, and memory is small")
    }));
    findings.extend(wear(ground));
    findings
}

/// The folder itself, or the nearest above it that exists.
fn existing(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

fn room(found: &StatVfs, to_grow: u64, reserve: u64) -> Option<Finding> {
    let (free, size) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1_000_000.0);
    // As the outbox reckons: at most a tenth of a small disk is kept free.
    let reserve = reserve.min(size / 10);
    Some(if free <= reserve {
        Finding::fault(format!(
            "{} are free, and the outbox keeps {} free: it drops the oldest readings",
            mb(free),
            mb(reserve)
        ))
        .help("remove what is not needed, give the state folder a larger disk, or set outbox.quota_mb lower")
    } else if free < to_grow.saturating_add(reserve) {
        let held = mb(free - reserve);
        Finding::warning(format!(
            "{} are free: the outbox can grow by {held}, not by the {} that its quota promises",
            mb(free),
            mb(to_grow)
        ))
        .help("set outbox.quota_mb to what the disk has, or make room")
    } else {
        Finding::ok(format!("{} of {} are free, as quota and reserve want", mb(free), mb(size)))
    })
}

fn files(found: &StatVfs) -> Option<Finding> {
    // Some file systems count none.
    if found.f_files == 0 || found.f_favail >= FEW_FILES {
        return None;
    }
    let what = format!("the file system takes {} more files", found.f_favail);
    let finding = if found.f_favail == 0 { Finding::fault(what) } else { Finding::warning(what) };
    Some(finding.help("some program leaves many small files: find them with `du --inodes -x / | sort -n | tail`"))
}

/// A file without a name: nothing is left behind, whatever happens.
fn speed(folder: &Path) -> Finding {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let measured =
        rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map_err(std::io::Error::from).and_then(|file| {
            let mut file = std::fs::File::from(file);
            file.write_all(&[0x5a; 4096])?;
            let begun = Instant::now();
            file.sync_all()?;
            Ok(begun.elapsed())
        });
    let finding = match measured {
        Ok(took) if took >= SLOW => Finding::warning(format!("a write takes {took:.1?} to be safe"))
            .help("the disk is overloaded or worn: the durability bound can not be kept; replace it"),
        Ok(took) if took >= SLUGGISH => Finding::note(format!("a write takes {took:.0?} to be safe")),
        Ok(took) => Finding::ok(format!("a write is safe after {took:.1?}")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::unseen("writing", error),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Finding::unseen("writing", "this file system has no files without a name")
        }
        Err(error) => {
            Finding::fault(format!("a small file can not be written: {error}")).help("make room, or replace the disk")
        }
    };
    finding.at(folder.display())
}

/// What ext4 and eMMC count themselves.
fn wear(ground: &Ground) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (device, count) in numbers(&ground.path("sys/fs/ext4"), "errors_count") {
        if count.trim().parse::<u64>().is_ok_and(|count| count > 0) {
            findings.push(
                Finding::warning(format!("the file system has counted {} errors", count.trim()))
                    .at(device)
                    .help("check it with fsck at the next start, and look at `dmesg` for errors of the disk"),
            );
        }
    }
    for (device, life) in numbers(&ground.path("sys/block"), "device/life_time") {
        // JEDEC eMMC 5.0: tenths of the life that is used, for both kinds of cells; 0x0b: beyond its life.
        let used =
            life.split_whitespace().filter_map(|word| u8::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        let Some(used) = used.max().filter(|used| *used >= 9) else { continue };
        let what = if used > 10 {
            "the flash is beyond its life".to_owned()
        } else {
            format!("{used}0 % of the flash's life is used")
        };
        findings.push(
            Finding::warning(what).at(device).help("plan to replace it; keep a backup of edge.yaml and the package"),
        );
    }
    findings
}

fn numbers(folder: &Path, file: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let read = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join(file)).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), text))
    };
    entries.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn disk(free_mb: u64, files: u64) -> StatVfs {
        let mut found = rustix::fs::statvfs("/").unwrap();
        (found.f_frsize, found.f_bavail, found.f_blocks) = (1_000_000, free_mb, 10_000);
        (found.f_files, found.f_favail) = (1_000_000, files);
        found
    }

    #[test]
    fn room_is_held_against_quota_and_reserve() {
        let level = |free| room(&disk(free, 1), 1_000_000_000, 64_000_000).unwrap().level;
        assert_eq!([50, 64, 500, 2000].map(level), [Level::Fault, Level::Fault, Level::Warning, Level::Ok]);
    }

    #[test]
    fn a_file_system_without_room_for_names_is_told() {
        assert_eq!(files(&disk(1, 5)).unwrap().level, Level::Warning);
        assert_eq!(files(&disk(1, 0)).unwrap().level, Level::Fault);
        assert!(files(&disk(1, 100_000)).is_none());
    }
}
