//! Which files of the folder of conditions are asked, and which look as if they should be and are not.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// More programs are a mistake.
const MOST: usize = 32;
/// Names of texts, and what editors and dpkg leave behind; a name that begins with a dot is none either.
const TEXTS: &[&str] = &["readme", "license", "licence", "copying", "changelog"];
const ENDINGS: &[&str] =
    &["~", ".md", ".txt", ".rst", ".bak", ".old", ".orig", ".rej", ".swp", ".save", ".disabled", ".sample", ".example"];
/// Followed by a word of dpkg's or ucf's, as run-parts knows them.
const PACKAGED: &[&str] = &[".dpkg-", ".ucf-"];

/// What lies in the folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// In the order in which they are asked.
    pub programs: Vec<PathBuf>,
    pub deaf: Vec<Deaf>,
}

/// A file that looks like a condition and is not asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deaf {
    pub path: PathBuf,
    named: bool,
    executable: bool,
}

impl Folder {
    /// As run-parts takes them: executable files with plain names. A folder that is not there holds none.
    ///
    /// # Errors
    /// In words, when it can not be told what is to be asked.
    pub fn read(folder: &Path) -> Result<Folder, String> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Folder::default()),
            entries => entries.map_err(|error| error.to_string())?,
        };
        let mut found = Folder::default();
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            found.take(path)?;
        }
        found.programs.sort();
        found.deaf.sort();
        match found.programs.len() {
            0..=MOST => Ok(found),
            more => Err(format!("there are {more} programs, and {MOST} at most are asked; take some away")),
        }
    }

    fn take(&mut self, path: PathBuf) -> Result<(), String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_text(&name) {
            return Ok(());
        }
        let about = std::fs::metadata(&path).map_err(|error| format!("{name}: {error}"))?;
        if !about.is_file() {
            return Ok(());
        }
        let named = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let executable = about.permissions().mode() & 0o111 != 0;
        if named && executable {
            self.programs.push(path);
        } else {
            self.deaf.push(Deaf { path, named, executable });
        }
        Ok(())
    }
}

fn is_text(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let stem = name.split(['.', '-', '_']).next().unwrap_or_default();
    name.starts_with('.')
        || TEXTS.contains(&stem)
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || PACKAGED.iter().any(|mark| name.contains(mark))
}

impl Deaf {
    /// Why it is not asked.
    #[must_use]
    pub fn why(&self) -> &'static str {
        match (self.named, self.executable) {
            (true, _) => "it is not executable",
            (false, true) => "its name has something else than letters, digits, - and _",
            (false, false) => "it is not executable, and its name has something else than letters, digits, - and _",
        }
    }

    /// The command that has it asked.
    #[must_use]
    pub fn remedy(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
        // The ending says what it is written in; no other program reads that.
        let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
        let better = self.path.with_file_name(stem.chars().map(plain).collect::<String>());
        let (from, to) = (quoted(&self.path), quoted(&better));
        match (self.named, self.executable) {
            (true, _) => format!("chmod +x {from}"),
            (false, true) => format!("mv {from} {to}"),
            (false, false) => format!("mv {from} {to} && chmod +x {to}"),
        }
    }
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, mode: u32) {
        std::fs::write(folder.join(name), "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn names<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
        paths.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_should_be_asked_is_told_from_what_only_lies_there() {
        let home = tempfile::tempdir().unwrap();
        for name in ["20-b", "10-a"] {
            put(home.path(), name, 0o755);
        }
        // Whether they are executable or not: a stick with FAT makes all files so.
        for mode in [0o644, 0o755] {
            for name in ["README", "Readme.sh", "README-conditions", "notes.md", ".hidden", "10-a~", "10-a.dpkg-dist"] {
                put(home.path(), name, mode);
            }
            let found = Folder::read(home.path()).unwrap();
            assert_eq!(names(found.programs.iter()), ["10-a", "20-b"]);
            assert_eq!(found.deaf, []);
        }
        // An editor's lock leads nowhere.
        std::os::unix::fs::symlink("user@host.1", home.path().join(".#10-a")).unwrap();
        std::fs::create_dir(home.path().join("off")).unwrap();
        put(home.path(), "30-c", 0o644);
        put(home.path(), "40 it's.sh", 0o755);
        put(home.path(), "50.py", 0o600);
        let found = Folder::read(home.path()).unwrap();
        assert_eq!(names(found.programs.iter()), ["10-a", "20-b"]);
        let folder = home.path().display();
        let told: Vec<_> = found.deaf.iter().map(|one| (one.why(), one.remedy())).collect();
        assert_eq!(told[0], ("it is not executable", format!("chmod +x {folder}/30-c")));
        assert_eq!(told[1].1, format!("mv '{folder}/40 it'\\''s.sh' {folder}/40-it-s"));
        assert_eq!(told[2].1, format!("mv {folder}/50.py {folder}/50 && chmod +x {folder}/50"));
    }

    #[test]
    fn what_can_not_be_told_is_no_yes() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", home.path().join("power")).unwrap();
        assert!(Folder::read(home.path()).unwrap_err().starts_with("power: "));
        std::fs::remove_file(home.path().join("power")).unwrap();
        for number in 0..=MOST {
            put(home.path(), &format!("{number}"), 0o755);
        }
        assert!(Folder::read(home.path()).unwrap_err().contains("33 programs, and 32 at most"));
    }
}
