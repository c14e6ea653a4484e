//! Secrets of `edge.yaml`: `KEY_file: …` that only the daemon can read, `KEY_credential: …` of systemd, or `KEY: …` in a
//! configuration that only the daemon can read.

use super::Secret;
use crate::diagnostic::{Diagnostic, Place};
use crate::yaml::fields::{Faults, Fields};
use driver::Text;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where systemd puts what `LoadCredential=` names (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// From one of the three places; two at once are a fault.
pub(super) fn read(fields: &Fields<'_, '_>, key: &str, folder: &Path, faults: &mut Faults) -> Option<Secret> {
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    read_with(fields, key, folder, credentials.as_deref(), faults)
}

fn read_with(
    fields: &Fields<'_, '_>,
    key: &str,
    folder: &Path,
    credentials: Option<&Path>,
    faults: &mut Faults,
) -> Option<Secret> {
    let (file_key, credential_key) = (format!("{key}_file"), format!("{key}_credential"));
    let inline = fields.text(key, faults);
    let file = fields.text(&file_key, faults);
    let credential = fields.text(&credential_key, faults);
    let named: Vec<(&Text, &str)> = [(&inline, key), (&file, &file_key), (&credential, &credential_key)]
        .into_iter()
        .filter_map(|(text, key)| text.as_ref().map(|text| (text, key)))
        .collect();
    if let [(_, first), (second, other), ..] = named[..] {
        let problem = format!("{first} and {other} exclude each other");
        faults.push(Diagnostic::error(second.place.clone(), problem).help("keep one of them"));
    }
    if let Some(inline) = inline {
        let configuration = folder.join(Path::new(&*inline.place.file).file_name().unwrap_or_default());
        complain_if_open(&configuration, &inline.place, key, faults);
        return Some(Secret::new(inline.text));
    }
    if let Some(file) = file {
        return from_file(&folder.join(&file.text), &file.place, &file_key, faults);
    }
    let credential = credential?;
    let is_name = !credential.text.contains('/') && ![".", ".."].contains(&&*credential.text);
    let Some(path) = credentials.filter(|_| is_name).map(|folder| folder.join(&credential.text)) else {
        let problem = if is_name {
            format!("{credential_key}: ${CREDENTIALS} is not set, so systemd hands nothing over")
        } else {
            format!("{credential_key}: \"{}\" is no name of a credential", credential.text)
        };
        let help = format!(
            "in the unit: LoadCredential=NAME:/path or LoadCredentialEncrypted=…, and `{credential_key}: NAME` here"
        );
        faults.push(Diagnostic::error(credential.place, problem).help(help));
        return None;
    };
    from_file(&path, &credential.place, &credential_key, faults)
}

fn from_file(path: &Path, place: &Place, key: &str, faults: &mut Faults) -> Option<Secret> {
    let problem = match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => {
            complain_if_open(path, place, key, faults);
            return Some(Secret::new(text.trim().to_owned()));
        }
        Ok(_) => format!("{key} {} is empty", path.display()),
        Err(error) => format!("{key} {} can not be read: {error}", path.display()),
    };
    faults.push(
        Diagnostic::error(place.clone(), problem).help("the daemon's user must be able to read it, and no other"),
    );
    None
}

/// Only others lose it: the daemon may read it by its group. A warning: a gateway that does not start because of it would lose data.
pub(super) fn complain_if_open(path: &Path, place: &Place, key: &str, faults: &mut Faults) {
    let Ok(found) = std::fs::metadata(path) else { return };
    if found.permissions().mode() & 0o007 != 0 {
        let problem = format!("{key}: {} can be read by everybody on this machine", path.display());
        faults.push(Diagnostic::warning(place.clone(), problem).help(format!("chmod o= {}", path.display())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const KEYS: &[&str] = &["s", "s_file", "s_credential"];

    fn read_text(text: &str, folder: &Path, credentials: Option<&Path>) -> (Option<Secret>, String) {
        let file = folder.join("edge.yaml").display().to_string().into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let node = node.unwrap();
        let fields = Fields::open(&file, &node, "test", KEYS, &mut faults).unwrap();
        let secret = read_with(&fields, "s", folder, credentials, &mut faults);
        (secret, crate::diagnostic::joined(&faults.finish()))
    }

    fn folder_with(name: &str, text: &str, mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn a_secret_comes_from_a_file_or_a_credential_without_its_line_break() {
        let folder = folder_with("key", "abc\n", 0o400);
        let (secret, faults) = read_text("s_file: key", folder.path(), None);
        assert_eq!((secret.unwrap().reveal(), faults.as_str()), ("abc", ""));
        let (secret, faults) = read_text("s_credential: key", Path::new("/nowhere"), Some(folder.path()));
        assert_eq!((secret.unwrap().reveal(), faults.as_str()), ("abc", ""));
    }

    #[test]
    fn a_file_that_everybody_can_read_is_told_with_place_and_remedy_and_is_used() {
        let folder = folder_with("key", "abc", 0o644);
        let (secret, faults) = read_text("s_file: key", folder.path(), None);
        assert_eq!(secret.unwrap().reveal(), "abc");
        assert!(
            faults.contains("edge.yaml:1:9") && faults.contains("read by everybody") && faults.contains("chmod o= "),
            "{faults}"
        );
        assert!(!faults.contains("abc"));
        let folder = folder_with("edge.yaml", "s: abc", 0o644);
        assert!(read_text("s: abc", folder.path(), None).1.contains("read by everybody"));
        let folder = folder_with("edge.yaml", "s: abc", 0o640);
        assert_eq!(read_text("s: abc", folder.path(), None).1, "");
    }

    #[test]
    fn what_is_missing_or_twice_is_a_fault() {
        let folder = folder_with("key", "", 0o600);
        for (text, expected) in [
            ("s_file: key", "is empty"),
            ("s_file: nothing", "can not be read"),
            ("s_credential: key", "LoadCredential"),
            ("{ s: a, s_file: key }", "s and s_file exclude each other"),
            ("{ s_file: key, s_credential: key }", "exclude each other"),
        ] {
            assert!(read_text(text, folder.path(), None).1.contains(expected), "{text}");
        }
        let (_, faults) = read_text("s_credential: ../key", folder.path(), Some(folder.path()));
        assert!(faults.contains("no name of a credential"));
    }
}
