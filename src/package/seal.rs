//! Sealing: writes the SHA-256 of every file into the `files` section of package.yaml, and leaves the rest of it alone.

use super::manifest;
use super::source::{Limits, Source};
use crate::diagnostic::{Diagnostic, Place};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Seals a folder. Answers how many files are in the list.
///
/// # Errors
/// What keeps the folder from being a package, or the manifest from being written.
pub fn seal(folder: &Path, limits: &Limits) -> Result<usize, Vec<Diagnostic>> {
    let source = Source::open(folder, limits)?;
    let whole = |problem: String| vec![Diagnostic::error(Place::new(&manifest::FILE.into(), 0, 0), problem)];
    if source.is_archive() {
        return Err(whole("an archive can not be sealed; seal its folder and build it again".to_owned()));
    }
    let (text, files) = sealed_manifest(&source)?;
    replace(&folder.join(manifest::FILE), text.as_bytes()).map_err(|e| whole(format!("write package.yaml: {e}")))?;
    Ok(files)
}

/// The manifest's text with a true `files` section, and the number of files in it.
///
/// # Errors
/// When the manifest is no YAML, or a file can not be read.
pub fn sealed_manifest(source: &Source) -> Result<(String, usize), Vec<Diagnostic>> {
    let file: Arc<str> = manifest::FILE.into();
    let one = |fault: Diagnostic| vec![fault];
    let text = manifest_text(source).map_err(one)?;
    manifest::parse(&file, &text).map_err(one)?;
    let mut files = BTreeMap::new();
    source.begin("sealing");
    for name in source.files().filter(|name| ![manifest::FILE, manifest::SIGNATURE].contains(name)) {
        files.insert(name, source.sha256(name).map_err(one)?);
    }
    let sealed = with_files(&text, &files);
    check_sealed(&file, &text, &sealed, &files).map_err(one)?;
    Ok((sealed, files.len()))
}

/// The text with its byte order mark, if it has one: every byte outside the section stays.
fn manifest_text(source: &Source) -> Result<String, Diagnostic> {
    let text = source.text(manifest::FILE)?;
    let mut start = [0; 3];
    let marked = source.reader(manifest::FILE).is_ok_and(|mut r| io::Read::read_exact(&mut r, &mut start).is_ok());
    Ok(if marked && start == *"\u{feff}".as_bytes() { format!("\u{feff}{text}") } else { text })
}

/// Puts the list in the place of the old `files` section, or at the end.
fn with_files(text: &str, files: &BTreeMap<&str, String>) -> String {
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut section = format!("files:{}{line_end}", if files.is_empty() { " {}" } else { "" });
    for (name, digest) in files {
        let _ = write!(section, "  {}: {digest}{line_end}", quoted(name));
    }
    let (start, end) = section_of(text);
    let mut sealed = text[..start].to_owned();
    if !matches!(sealed.as_str(), "" | "\u{feff}") && !sealed.ends_with('\n') {
        sealed.push_str(line_end);
    }
    sealed + &section + &text[end..]
}

/// Byte range of the `files` section: its line and every line below that is indented. Blank lines and comments
/// after the last of those belong to what follows.
fn section_of(text: &str) -> (usize, usize) {
    let mut start = None;
    let mut end = text.len();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_start_matches('\u{feff}');
        match start {
            None if is_files_key(bare) => {
                start = Some(at + (line.len() - bare.len()));
                end = at + line.len();
            }
            None => {}
            Some(_) if line.starts_with([' ', '\t', '}']) && !line.trim().is_empty() => end = at + line.len(),
            Some(_) if line.trim().is_empty() || line.starts_with('#') => {}
            Some(_) => break,
        }
        at += line.len();
    }
    (start.unwrap_or(end), end)
}

fn is_files_key(line: &str) -> bool {
    ["files", "\"files\"", "'files'"].iter().any(|key| {
        let rest = line.strip_prefix(key).map(str::trim_start).and_then(|rest| rest.strip_prefix(':'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    })
}

/// A path as a YAML key. A JSON string is a YAML string, whatever is in it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.contains('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if plain { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// Reads what would be written: everything but the list must say what it said before.
fn check_sealed(file: &Arc<str>, before: &str, after: &str, files: &BTreeMap<&str, String>) -> Result<(), Diagnostic> {
    let bare = |text: &str| text.trim_start_matches('\u{feff}').to_owned();
    let (was, is) = (manifest::parse(file, &bare(before))?, manifest::parse(file, &bare(after)));
    let same = is.is_ok_and(|is| {
        let listed = is
            .files
            .iter()
            .flat_map(|listed| &listed.entries)
            .map(|(name, digest)| (name.value.as_str(), &digest.value));
        was.same_fields(&is) && listed.eq(files.iter().map(|(name, digest)| (*name, digest)))
    });
    if same {
        return Ok(());
    }
    let fault = Diagnostic::error(Place::new(file, 0, 0), "the files section can not be told from the rest");
    Err(fault.help("begin it with `files:` at the start of a line, or remove it"))
}

/// Writes a file so that after a power cut it is the old or the new one: temporary file, fsync, rename, fsync folder.
///
/// # Errors
/// When the folder does not take the file. The old one is still there then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A hidden name: no package takes it for one of its files.
    let temporary = folder.join(format!(".{name}.{}.{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let written = write_new(&temporary, path, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the error that is returned says more than one about the leftover would.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    File::open(folder)?.sync_all()
}

fn write_new(temporary: &Path, like: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(temporary)?;
    if let Ok(old) = std::fs::metadata(like) {
        // What root seals, the gateway still has to read. Best effort: others can give nothing away.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(text: &str) -> String {
        let files = BTreeMap::from([("assets.yaml", "aa".to_owned()), ("templates/电表/point.csv", "bb".to_owned())]);
        let sealed = with_files(text, &files);
        check_sealed(&"package.yaml".into(), text, &sealed, &files).expect("sealed text reads back");
        sealed
    }

    const LIST: &str = "files:\n  assets.yaml: aa\n  \"templates/电表/point.csv\": bb\n";

    #[test]
    fn only_the_files_section_changes() {
        let cases = [
            ("name: p\n", "name: p\n", ""),
            ("name: p", "name: p\n", ""),
            (
                "# top\nfiles:\n  old.yaml: 00\n\n# about the version\nversion: 1.0.0 # here\n",
                "# top\n",
                "\n# about the version\nversion: 1.0.0 # here\n",
            ),
            ("files: {}\nname: p\n", "", "name: p\n"),
            ("files: {\n  a.yaml: 00\n}\nname: p\n", "", "name: p\n"),
            ("files:\n  a.yaml: 00\n# between\n  b.yaml: 00\nname: p", "", "name: p"),
            ("\u{feff}files: # list\nname: p\n", "\u{feff}", "name: p\n"),
        ];
        for (text, before, after) in cases {
            assert_eq!(sealed(text), format!("{before}{LIST}{after}"), "{text}");
        }
    }

    #[test]
    fn sealing_twice_changes_nothing() {
        let once = sealed("format: 1\nname: p\n\n# end\n");
        assert_eq!(sealed(&once), once);
    }

    #[test]
    fn windows_line_ends_stay() {
        assert_eq!(sealed("name: p\r\n"), format!("name: p\r\n{}", LIST.replace('\n', "\r\n")));
    }

    #[test]
    fn a_section_that_can_not_be_found_is_refused_not_guessed() {
        let text = "{name: p, files: {a.yaml: 00}}\n";
        let files = BTreeMap::from([("a.yaml", "aa".to_owned())]);
        let fault = check_sealed(&"package.yaml".into(), text, &with_files(text, &files), &files).expect_err("refused");
        assert!(fault.problem.contains("can not be told"));
    }

    #[test]
    fn the_old_file_keeps_its_mode_and_its_group() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("package.yaml");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        // Only root gives files away; anybody else keeps his own group.
        let group = if rustix::process::geteuid().is_root() { 4321 } else { path.metadata().unwrap().gid() };
        std::os::unix::fs::chown(&path, None, Some(group)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let kept = path.metadata().unwrap();
        assert_eq!((kept.permissions().mode() & 0o777, kept.gid()), (0o640, group));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
