//! Clears what stands where a slot or a file of the engines belongs and is none of them: a link, a file, a folder. It
//! would refuse every update and every choice for ever, or lead the next engine into the slot that runs.

use std::fs;
use std::io;
use std::path::Path;

/// Where it is put when it can not be removed.
const ASIDE: &str = "broken";

/// All that stands in a slot's place, before another engine is put there: a left-over, a link that leads into the slot
/// that runs, a file, a folder that others may write.
///
/// # Errors
/// When it can neither be removed nor be put aside.
pub(super) fn slot(path: &Path) -> io::Result<()> {
    match away(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io::Error::new(
            error.kind(),
            format!("{} is in the way and can not be removed: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}

/// A folder where a file belongs. Best effort: whoever writes the file tells what stands in its way.
pub(super) fn file(path: &Path) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if is_folder {
        tracing::warn!(path = %path.display(), "a folder stands where a file belongs; it is removed");
        let _ = away(path);
    }
}

/// A file where the folder of all belongs; a link to a folder elsewhere is somebody's will. Best effort, as above.
pub(super) fn folder(path: &Path) {
    if fs::symlink_metadata(path).is_ok() && !path.is_dir() {
        tracing::warn!(path = %path.display(), "a file stands where a folder belongs; it is removed");
        let _ = away(path);
    }
}

/// Removed, or put aside: what belongs to another user can be renamed only.
fn away(path: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    let Err(error) = removed else { return Ok(()) };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".");
    aside.push(ASIDE);
    let aside = Path::new(&aside);
    if aside.exists() {
        // What was put aside before has been there long enough.
        let _ = fs::remove_dir_all(aside).or_else(|_| fs::remove_file(aside));
    }
    fs::rename(path, aside).map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_stands_in_a_slots_place_goes_and_a_link_never_takes_its_goal_along() {
        let home = tempfile::tempdir().unwrap();
        let (good, place) = (home.path().join("a"), home.path().join("b"));
        fs::create_dir(&good).unwrap();
        fs::write(good.join("enos-edge"), "engine").unwrap();
        for goal in [good.as_path(), Path::new("/nowhere")] {
            symlink(goal, &place).unwrap();
            slot(&place).unwrap();
            assert!(fs::symlink_metadata(&place).is_err() && good.join("enos-edge").exists());
        }
        fs::write(&place, "rubbish").unwrap();
        slot(&place).unwrap();
        fs::create_dir_all(place.join("enos-edge.tmp/x")).unwrap();
        slot(&place).unwrap();
        assert!(fs::symlink_metadata(&place).is_err());
        slot(&place).unwrap();
    }

    #[test]
    fn a_folder_makes_way_for_a_file_and_a_file_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pointer");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "x").unwrap();
        file(&path);
        assert!(!path.exists());
        fs::write(&path, "pointer").unwrap();
        file(&path);
        assert!(path.is_file());
        folder(home.path());
        assert!(path.is_file(), "a folder stays with what is in it");
        folder(&path);
        assert!(!path.exists());
    }
}
