//! Which process has a device or a port open, as `/proc` says. A plain user sees its own processes only.

use std::fmt;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub process: u32,
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process)
    }
}

/// Who has this file open; not this process.
#[must_use]
pub fn of_file(root: &Path, file: &Path) -> Vec<Holder> {
    let wanted = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    holding(root, |target| target == wanted)
}

/// Who listens at this TCP port.
#[must_use]
pub fn of_port(root: &Path, port: u16) -> Option<Holder> {
    let socket = ["proc/net/tcp", "proc/net/tcp6"].iter().find_map(|file| {
        let text = std::fs::read_to_string(root.join(file)).ok()?;
        text.lines().find_map(|line| listening(line, port))
    })?;
    let wanted = PathBuf::from(format!("socket:[{socket}]"));
    holding(root, |target| target == wanted).into_iter().next()
}

/// Who listens at this local socket.
#[must_use]
pub fn of_door(root: &Path, door: &Path) -> Option<Holder> {
    let door = std::path::absolute(door).ok()?;
    let text = std::fs::read_to_string(root.join("proc/net/unix")).ok()?;
    let sockets: Vec<PathBuf> = text.lines().filter_map(|line| waiting(line, &door)).collect();
    holding(root, |target| sockets.iter().any(|socket| socket == target)).into_iter().next()
}

/// The link of a socket that waits for visitors at this place: flag 00010000 (unix(7)).
fn waiting(line: &str, door: &Path) -> Option<PathBuf> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let fits = words.get(3) == Some(&"00010000") && words.get(7).is_some_and(|path| Path::new(path) == door);
    words.get(6).filter(|_| fits).map(|inode| PathBuf::from(format!("socket:[{inode}]")))
}

/// The inode of a listening socket: state 0A (proc(5)).
fn listening(line: &str, port: u16) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, ours) = words.get(1)?.rsplit_once(':')?;
    let fits = u16::from_str_radix(ours, 16).ok()? == port && words.get(3) == Some(&"0A");
    words.get(9).filter(|_| fits)?.parse().ok()
}

fn holding(root: &Path, fits: impl Fn(&Path) -> bool) -> Vec<Holder> {
    let mut found = Vec::new();
    for process in processes(root) {
        let folder = root.join("proc").join(process.to_string());
        let open = std::fs::read_dir(folder.join("fd")).into_iter().flatten().map_while(Result::ok);
        let holds = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| fits(&target));
        if holds && process != std::process::id() {
            found.push(Holder { process, name: name(root, process) });
        }
    }
    found
}

/// All processes there are.
#[must_use]
pub fn processes(root: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(root.join("proc")).into_iter().flatten().map_while(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// As `ps` shows it.
#[must_use]
pub fn name(root: &Path, process: u32) -> String {
    let text = std::fs::read_to_string(root.join(format!("proc/{process}/comm"))).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_line_is_told_from_a_connected_one() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0";
        assert_eq!(listening(line, 8080), Some(12345));
        assert_eq!(listening(line, 80), None);
        assert_eq!(listening(&line.replace(" 0A ", " 01 "), 8080), None);
    }

    #[test]
    fn who_waits_at_a_door_is_told_from_who_visits_it() {
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/x/control.sock";
        let door = Path::new("/run/x/control.sock");
        assert_eq!(waiting(line, door), Some("socket:[4711]".into()));
        assert_eq!(waiting(line, Path::new("/run/x/control")), None);
        assert_eq!(waiting(&line.replace("00010000", "00000000"), door), None);
    }

    #[test]
    fn who_holds_a_file_is_found_by_its_links() {
        let root = tempfile::tempdir().unwrap();
        let port = root.path().join("ttyS1");
        std::fs::write(&port, "").unwrap();
        std::fs::create_dir_all(root.path().join("proc/77/fd")).unwrap();
        std::fs::write(root.path().join("proc/77/comm"), "agetty\n").unwrap();
        std::os::unix::fs::symlink(std::fs::canonicalize(&port).unwrap(), root.path().join("proc/77/fd/3")).unwrap();
        assert_eq!(of_file(root.path(), &port), [Holder { process: 77, name: "agetty".to_owned() }]);
    }
}
