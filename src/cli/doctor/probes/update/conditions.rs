//! The programs that are asked before an update: those that are not asked at all, and those that the daemon can not start.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::people::{self, Wish};
use crate::config::UPDATE_CONDITIONS;
use crate::update::conditions::Folder;
use std::fs::Metadata;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub(super) fn look(ground: &Ground, folder: &Path) -> Vec<Finding> {
    let about = match std::fs::metadata(folder) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => return missing(folder),
        Err(error) => return vec![Finding::unseen("the conditions of updates", error).at(folder.display())],
    };
    let found = match Folder::read(folder) {
        Ok(found) => found,
        Err(why) if std::fs::read_dir(folder).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) => {
            return vec![Finding::unseen("the conditions of updates", why).at(folder.display())];
        }
        Err(why) => {
            let what = format!("every update waits, for the conditions can not be read: {why}");
            return vec![Finding::fault(what).at(folder.display()).help("mend or remove what it names")];
        }
    };
    let mut findings: Vec<Finding> = found
        .deaf
        .iter()
        .map(|deaf| {
            let what = format!("this condition of updates is not asked: {}", deaf.why());
            Finding::warning(what).at(deaf.path.display()).help(deaf.remedy())
        })
        .collect();
    let Some(daemon) = ground.daemon() else { return findings };
    let may_not = |about: &Metadata, wish| !people::may_open(&ground.root, daemon, about, wish);
    let closed = |program: &&Path| std::fs::metadata(program).is_ok_and(|about| may_not(&about, wish(program)));
    let programs = found.programs.iter().map(PathBuf::as_path).filter(closed);
    let closed = may_not(&about, Wish::ReadRun).then_some(folder).into_iter().chain(programs);
    let name = people::user_name(&ground.root, daemon);
    findings.extend(closed.map(|path| {
        let what = format!("every update waits, for {name}, who runs the gateway, may not start it");
        Finding::fault(what).at(path.display()).help(format!("chmod 755 {}", path.display()))
    }));
    findings
}

/// What its start needs; of one that this user can not read, the least.
fn wish(program: &Path) -> Wish {
    let mut start = [0; 2];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut start));
    if read.is_ok() && start == *b"#!" { Wish::ReadRun } else { Wish::Run }
}

/// The package makes the default one; who names another one wants it asked.
fn missing(folder: &Path) -> Vec<Finding> {
    if folder == Path::new(UPDATE_CONDITIONS) {
        return Vec::new();
    }
    let what = "update.conditions_dir is not there, so no update is asked for a condition";
    vec![Finding::warning(what).at(folder.display()).help(format!("mkdir -p {}", folder.display()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;
    use crate::cli::doctor::ground::Gateway;
    use std::os::unix::fs::{PermissionsExt, chown};

    struct Site {
        home: tempfile::TempDir,
        ground: Ground,
    }

    impl Site {
        /// The daemon is somebody else than whoever runs the tests.
        fn new() -> Site {
            let home = tempfile::tempdir().unwrap();
            for folder in ["etc", "conditions"] {
                std::fs::create_dir(home.path().join(folder)).unwrap();
            }
            std::fs::write(home.path().join("etc/passwd"), "enos-edge:x:71001:71001::/:/\n").unwrap();
            let ground = Ground {
                config_path: PathBuf::new(),
                config: None,
                faults: Vec::new(),
                gateway: Gateway::Stopped,
                now: 0,
                root: home.path().to_owned(),
                user: 0,
            };
            let site = Site { home, ground };
            site.open("", 0o755);
            site
        }

        fn folder(&self) -> PathBuf {
            self.home.path().join("conditions")
        }

        fn put(&self, name: &str, mode: u32) {
            std::fs::write(self.folder().join(name), "#!/bin/sh\n").unwrap();
            self.open(name, mode);
        }

        fn open(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.folder().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn seen(&self) -> Vec<(Level, String, String)> {
            let found = look(&self.ground, &self.folder());
            found.into_iter().map(|finding| (finding.level, finding.r#where, finding.remedy)).collect()
        }
    }

    #[test]
    fn one_that_is_not_asked_is_told_with_its_remedy_and_a_page_of_text_is_none() {
        let site = Site::new();
        for name in ["README", "notes.md", ".hidden", "10-power~", "10-power.dpkg-dist"] {
            site.put(name, 0o644);
        }
        site.put("10-power", 0o755);
        assert_eq!(site.seen(), []);
        site.put("20-battery", 0o644);
        let path = site.folder().join("20-battery").display().to_string();
        assert_eq!(site.seen(), [(Level::Warning, path.clone(), format!("chmod +x {path}"))]);
        site.open("20-battery", 0o755);
        assert_eq!(site.seen(), []);
    }

    #[test]
    fn what_the_daemon_can_not_start_and_what_can_not_be_read_hold_every_update_back() {
        let site = Site::new();
        site.put("10-power", 0o700);
        let path = site.folder().join("10-power").display().to_string();
        assert_eq!(site.seen(), [(Level::Fault, path.clone(), format!("chmod 755 {path}"))]);
        // Its own, when the tests may give files away.
        if chown(&path, Some(71001), None).is_ok() {
            assert_eq!(site.seen(), []);
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert_eq!(site.seen()[0].0, Level::Fault);
        let other = look(&site.ground, &site.home.path().join("none"));
        assert!(other[0].level == Level::Warning && other[0].remedy.starts_with("mkdir -p "), "{other:?}");
    }
}
