//! PURE. Which names a file of a package may have. An archive never names a path of this machine.

use super::Limits;
use std::collections::HashMap;

/// Characters that turn or hide the text around them: a name must read as it is.
const INVISIBLE: &[std::ops::RangeInclusive<char>] = &[
    '\u{00ad}'..='\u{00ad}',
    '\u{061c}'..='\u{061c}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
];

/// Marks that make one letter of two characters, as macOS writes them: beside the same letter as one character there
/// would be two names that look, and on some file systems are, the same.
const COMBINING: &[std::ops::RangeInclusive<char>] = &[
    '\u{0300}'..='\u{036f}',
    '\u{1ab0}'..='\u{1aff}',
    '\u{1dc0}'..='\u{1dff}',
    '\u{20d0}'..='\u{20ff}',
    '\u{3099}'..='\u{309a}',
    '\u{fe20}'..='\u{fe2f}',
];

/// Names of devices on Windows, whatever ending they bear: there such a file can not be unpacked.
const RESERVED: &[&str] = &["con", "prn", "aux", "nul"];

/// A name as text, if it is harmless. Folders in archives end in `/`; give the name without it.
///
/// # Errors
/// The reason in words.
pub fn check(name: &[u8], depth: usize) -> Result<&str, String> {
    if name.is_empty() {
        return Err("its name is empty".to_owned());
    }
    if name.len() > Limits::NAME_BYTES {
        return Err(format!("its name is longer than {} bytes", Limits::NAME_BYTES));
    }
    let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8".to_owned())?;
    check_characters(name)?;
    if name.starts_with('/') {
        return Err("its name is an absolute path".to_owned());
    }
    if name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic() {
        return Err("its name begins with a drive letter".to_owned());
    }
    let components = name.split('/').count();
    if components > depth {
        return Err(format!("it lies {components} folders deep; at most {depth} are allowed"));
    }
    name.split('/').try_for_each(check_component)?;
    Ok(name)
}

fn check_characters(name: &str) -> Result<(), String> {
    for c in name.chars() {
        match c {
            '\0' => return Err("its name holds a NUL".to_owned()),
            '\\' => return Err("its name holds a backslash; write folders with /".to_owned()),
            c if c.is_control() => return Err(format!("its name holds the control character U+{:04X}", u32::from(c))),
            c if INVISIBLE.iter().any(|range| range.contains(&c)) => {
                return Err(format!("its name holds the invisible character U+{:04X}", u32::from(c)));
            }
            c if COMBINING.iter().any(|range| range.contains(&c)) => {
                return Err(format!(
                    "its name holds the combining mark U+{:04X}; write the letter and its mark as one character",
                    u32::from(c)
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_component(component: &str) -> Result<(), String> {
    match component {
        ".." => return Err("its name climbs out of the package with ..".to_owned()),
        "" | "." => return Err("its name holds an empty or . folder".to_owned()),
        _ => {}
    }
    let blank = |c: Option<char>| c.is_some_and(char::is_whitespace);
    if blank(component.chars().next()) || blank(component.chars().next_back()) || component.ends_with('.') {
        return Err("its name begins or ends with a blank, or ends with a dot".to_owned());
    }
    let stem = component.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let port = |kind: &str| stem.strip_prefix(kind).is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']));
    if RESERVED.contains(&stem.as_str()) || port("com") || port("lpt") {
        return Err(format!("its name is that of a device on Windows; call \"{component}\" something else"));
    }
    Ok(())
}

/// A name as it may be shown in a complaint: cut short, nothing invisible in it.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(120)]);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || c == '"' || INVISIBLE.iter().any(|range| range.contains(&c)) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if name.len() > 120 {
        out.push('…');
    }
    out
}

/// Traces of editors and desktops that are no part of a package, wherever they lie.
#[must_use]
pub fn is_ignored(name: &str) -> bool {
    name.split('/').any(|component| {
        component.starts_with('.')
            || component.starts_with("~$")
            || component.ends_with('~')
            || component.ends_with(".swp")
            || ["__MACOSX", "Thumbs.db", "desktop.ini"].contains(&component)
    })
}

/// Finds names that a file system without letter case could not keep apart.
#[derive(Default)]
pub struct Taken {
    /// Lower-case path of every file and folder: the exact path, and whether it is a file.
    paths: HashMap<String, (String, bool)>,
}

impl Taken {
    /// Takes the name of a file.
    ///
    /// # Errors
    /// The reason in words when the name, or a folder on its way, is taken by another one.
    pub fn take_file(&mut self, name: &str) -> Result<(), String> {
        for (at, _) in name.match_indices('/') {
            self.take(&name[..at], false)?;
        }
        self.take(name, true)
    }

    fn take(&mut self, path: &str, is_file: bool) -> Result<(), String> {
        // Through capitals, where long s is S.
        let folded = path.to_uppercase().to_lowercase();
        match self.paths.get(&folded) {
            None => {
                self.paths.insert(folded, (path.to_owned(), is_file));
                Ok(())
            }
            Some((other, _)) if other != path => Err(format!("\"{path}\" and \"{other}\" differ in letter case only")),
            Some((_, other_is_file)) if is_file && *other_is_file => Err("its name is there twice".to_owned()),
            Some((_, other_is_file)) if is_file != *other_is_file => {
                Err(format!("\"{path}\" is both a file and a folder"))
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_with_their_reason() {
        for (name, reason) in [
            (&b""[..], "empty"),
            (b"/etc/passwd", "absolute"),
            (b"../x", "climbs"),
            (b"a/../../x", "climbs"),
            (b"a//b", "empty or ."),
            (b"a/./b", "empty or ."),
            (b"..\\x", "backslash"),
            (b"C:x", "drive letter"),
            (b"c:/x", "drive letter"),
            (b"a\0b", "NUL"),
            (b"a\nb", "U+000A"),
            ("a\u{202e}vsc.exe".as_bytes(), "U+202E"),
            ("a\u{200b}".as_bytes(), "U+200B"),
            (b"a\xff", "not UTF-8"),
            (b"1/2/3/4/5/6/7/8/9", "9 folders deep"),
            (&[b'a'; 256], "longer than 255"),
            ("Za\u{308}hler.yaml".as_bytes(), "combining mark U+0308"),
            (b"models/ a.yaml", "blank"),
            ("a.yaml\u{a0}".as_bytes(), "blank"),
            (b"models./a.yaml", "dot"),
            (b"models/NUL.yaml", "device on Windows"),
            (b"com1", "device on Windows"),
        ] {
            let refusal = check(name, 8).expect_err("refused");
            assert!(refusal.contains(reason), "{}: {refusal}", shown(name));
        }
        assert_eq!(check("templates/电表/point.csv".as_bytes(), 8), Ok("templates/电表/point.csv"));
    }

    #[test]
    fn names_equal_but_for_case_are_refused_in_folders_too() {
        let mut taken = Taken::default();
        assert_eq!(taken.take_file("models/a.yaml"), Ok(()));
        assert_eq!(taken.take_file("models/b.yaml"), Ok(()));
        assert!(taken.take_file("models/A.yaml").expect_err("refused").contains("letter case"));
        assert!(taken.take_file("Models/c.yaml").expect_err("refused").contains("letter case"));
        assert!(taken.take_file("models/a.yaml").expect_err("refused").contains("twice"));
        assert!(taken.take_file("models/a.yaml/x").expect_err("refused").contains("both a file and a folder"));
        assert!(taken.take_file("models").expect_err("refused").contains("both a file and a folder"));
    }

    #[test]
    fn traces_of_editors_are_no_part_of_a_package() {
        for name in [".git/config", "models/.m.yaml.swp", "a.csv~", "t/~$point.xlsx", "__MACOSX/x", "t/Thumbs.db"] {
            assert!(is_ignored(name), "{name}");
        }
        assert!(!is_ignored("templates/meter/point.csv"));
    }
}
