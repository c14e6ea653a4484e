//! Users and groups as the files of the system say: who may open what.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn lines(file: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

/// Number of a user of `/etc/passwd`.
#[must_use]
pub fn user_id(passwd: &Path, name: &str) -> Option<u32> {
    lines(passwd).iter().find(|row| row[0] == name)?.get(2)?.parse().ok()
}

/// Name of a user, or its number.
#[must_use]
pub fn user_name(root: &Path, id: u32) -> String {
    let known = lines(&root.join("etc/passwd"));
    let row = known.iter().find(|row| row.get(2).is_some_and(|number| *number == id.to_string()));
    row.map_or_else(|| id.to_string(), |row| row[0].clone())
}

/// Name of a group, or its number.
#[must_use]
pub fn group_name(root: &Path, id: u32) -> String {
    let known = lines(&root.join("etc/group"));
    let row = known.iter().find(|row| row.get(2).is_some_and(|number| *number == id.to_string()));
    row.map_or_else(|| id.to_string(), |row| row[0].clone())
}

/// All groups of a user: its own, and those that list it.
fn groups(root: &Path, user: u32) -> Vec<u32> {
    let known = lines(&root.join("etc/passwd"));
    let Some(row) = known.iter().find(|row| row.get(2).is_some_and(|number| *number == user.to_string())) else {
        return Vec::new();
    };
    let own = row.get(3).and_then(|number| number.parse().ok());
    let member = |group: &&Vec<String>| group.get(3).is_some_and(|names| names.split(',').any(|name| name == row[0]));
    let listed = lines(&root.join("etc/group"));
    own.into_iter().chain(listed.iter().filter(member).filter_map(|group| group[2].parse().ok())).collect()
}

/// What is wanted of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Read,
    ReadWrite,
    /// Start a program.
    Run,
    /// Start a script, which its interpreter reads; or list a folder and go into it.
    ReadRun,
}

/// Whether a user may open a file, by owner, group and mode. What lists of access add is not seen.
#[must_use]
pub fn may_open(root: &Path, user: u32, file: &std::fs::Metadata, wish: Wish) -> bool {
    let bits = match wish {
        Wish::Read => 0o4,
        Wish::ReadWrite => 0o6,
        Wish::Run => 0o1,
        Wish::ReadRun => 0o5,
    };
    let mode = file.mode();
    let granted = if user == 0 {
        return true;
    } else if file.uid() == user {
        mode >> 6
    } else if groups(root, user).contains(&file.gid()) {
        mode >> 3
    } else {
        mode
    };
    granted & bits == bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_member_of_the_group_may_and_another_may_not() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let file = root.path().join("port");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o660)).unwrap();
        let found = std::fs::metadata(&file).unwrap();
        let passwd = "root:x:0:0::/:/\nenos-edge:x:71001:71001::/:/\nother:x:71002:71002::/:/\n";
        std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(root.path().join("etc/group"), format!("dialout:x:{}:a,enos-edge\n", found.gid())).unwrap();
        assert!(may_open(root.path(), 71001, &found, Wish::ReadWrite));
        assert!(!may_open(root.path(), 71002, &found, Wish::Read));
        assert!(may_open(root.path(), 0, &found, Wish::ReadWrite));
        assert_eq!(user_id(&root.path().join("etc/passwd"), "enos-edge"), Some(71001));
        assert_eq!(user_name(root.path(), 71002), "other");
        assert_eq!(group_name(root.path(), found.gid()), "dialout");
    }
}
