//! The public keys whose update files are taken. A key that can not be read is an error, not a key less.

use crate::config::UpdateConfig;
use crate::diagnostic::{Diagnostic, Place};
use crate::package::trust::{PublicKey, key_files};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More keys than anybody who builds engines has.
const MOST: usize = 64;

/// The keys of the configuration. What the daemon itself could have put there is no anchor of trust: a key lies outside
/// the state folder, belongs to root or to the owner of `edge.yaml`, and nobody else may write it.
///
/// # Errors
/// Every file that is no key, or not safe.
pub fn load(config: &UpdateConfig, state: &Path) -> Result<Vec<PublicKey>, Vec<Diagnostic>> {
    let files = config.keys.iter().flat_map(|path| key_files(path.clone(), &mut Vec::new()));
    let folders = config.keys.iter().filter(|path| path.is_dir()).cloned();
    let faults: Vec<Diagnostic> =
        folders.chain(files).filter_map(|path| unsafe_place(&path, state, config.owner)).collect();
    if faults.is_empty() { read(&config.keys) } else { Err(faults) }
}

fn unsafe_place(path: &Path, state: &Path, owner: Option<u32>) -> Option<Diagnostic> {
    let refuse = |problem: String, help: &str| {
        let place = Place::new(&path.display().to_string().into(), 0, 0);
        Some(Diagnostic::error(place, problem).help(help))
    };
    let (real, found) = match path.canonicalize().and_then(|real| Ok((real, std::fs::metadata(path)?))) {
        Ok(found) => found,
        Err(error) => {
            let problem = format!("the update key can not be read: {error}");
            return refuse(problem, "put the public key there, or mend update.keys");
        }
    };
    if state.canonicalize().is_ok_and(|state| real.starts_with(state)) {
        return refuse(
            "the update key lies in the state folder, which the daemon itself can write".to_owned(),
            "move it to /etc/enos-edge",
        );
    }
    if found.mode() & 0o022 != 0 {
        return refuse("others may write the update key".to_owned(), "chmod go-w it");
    }
    if let Some(folder) = [path, &real].into_iter().filter_map(|path| path.parent()).find(|folder| is_open(folder)) {
        let problem = format!("others may write {}, and so put another key in the place of this", folder.display());
        return refuse(problem, "chmod go-w that folder");
    }
    if found.uid() != 0 && owner != Some(found.uid()) {
        let problem = format!("the update key belongs to user {}, and not to root", found.uid());
        return refuse(problem, "chown root: it");
    }
    None
}

/// Whoever can write a folder can rename what lies in it, unless it is sticky, as /tmp is.
fn is_open(folder: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o022 != 0 && found.mode() & STICKY == 0)
}

/// Reads files, and the `*.pub` of folders.
///
/// # Errors
/// Every file that is no key.
pub fn read(paths: &[PathBuf]) -> Result<Vec<PublicKey>, Vec<Diagnostic>> {
    let (mut keys, mut faults): (Vec<PublicKey>, Vec<Diagnostic>) = (Vec::new(), Vec::new());
    let files: Vec<PathBuf> = paths.iter().cloned().flat_map(|path| key_files(path, &mut faults)).collect();
    for path in files {
        match PublicKey::read(&path) {
            Ok(key) if keys.contains(&key) => {}
            Ok(_) if keys.len() >= MOST => {
                let place = Place::new(&path.display().to_string().into(), 0, 0);
                faults.push(Diagnostic::error(place, format!("more than {MOST} keys are trusted")));
                break;
            }
            Ok(key) => keys.push(key),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::trust::generate;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_the_daemon_could_have_written_is_none() {
        let home = tempfile::tempdir().unwrap();
        let (state, outside) = (home.path().join("state"), home.path().join("etc"));
        std::fs::create_dir(&state).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let key = generate(&outside.join("k")).unwrap();
        generate(&state.join("k")).unwrap();
        let owner = Some(std::fs::metadata(&outside).unwrap().uid());
        let load =
            |path: PathBuf, owner| load(&UpdateConfig { keys: vec![path], owner, ..UpdateConfig::default() }, &state);
        assert_eq!(load(outside.clone(), owner).unwrap(), [key]);
        let told = |path: PathBuf, owner| crate::diagnostic::joined(&load(path, owner).unwrap_err());
        assert!(told(state.join("k.pub"), owner).contains("state folder"));
        std::os::unix::fs::symlink(state.join("k.pub"), outside.join("l.pub")).unwrap();
        assert!(told(outside.join("l.pub"), owner).contains("state folder"));
        let none = told(outside.join("none"), owner);
        assert!(none.contains("can not be read: No such file") && none.matches("none").count() == 1, "{none}");
        let path = outside.join("k.pub");
        let mode = |mode| std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o775);
        assert!(told(path.clone(), owner).contains("put another key in the place"));
        mode(0o1777);
        assert!(load(path.clone(), owner).is_ok());
        mode(0o755);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(told(path, owner).contains("others may write"));
    }
}
