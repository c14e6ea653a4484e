//! The gateway's device key: written down, or read from a file such as the serial number of the board.

use crate::diagnostic::Diagnostic;
use crate::model::names::{KEY_CHARS, fits_in_key};
use crate::yaml::fields::{Faults, Fields};
use driver::Text;
use std::io::Read;
use std::path::Path;

/// A serial number or an IMEI, with room for what stands around it.
const LARGEST: u64 = 4096;

/// `device_key`, or the content of `device_key_file`.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<String> {
    let Some(file) = fields.text("device_key_file", faults) else {
        return fields.required("device_key", faults).map(|text| text.text);
    };
    if let Some(inline) = fields.text("device_key", faults) {
        let fault = Diagnostic::error(inline.place, "device_key and device_key_file exclude each other");
        faults.push(fault.help("keep one of them"));
        return None;
    }
    let path = folder.join(&file.text);
    let read = text(&path).and_then(|text| key(&text));
    if let Err(problem) = &read {
        let fault = Diagnostic::error(file.place, format!("device_key_file {} {problem}", path.display()));
        faults.push(fault.help("name a file that holds the device key alone, such as a serial number or an IMEI"));
    }
    read.ok()
}

/// A key of EnOS is a part of its topics: it holds nothing that means something there.
pub(super) fn check(what: &str, text: &Text, faults: &mut Faults) {
    if let Err(problem) = key(&text.text) {
        let fault = Diagnostic::error(text.place.clone(), format!("{what} \"{}\" {problem}", text.text));
        faults.push(fault.help("copy the key from the cloud's device page once more"));
    }
}

fn text(path: &Path) -> Result<String, String> {
    let told = |e: std::io::Error| format!("can not be read: {e}");
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(told)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > LARGEST {
        return Err("holds more than a key".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "holds no text".to_owned())
}

/// The key without what firmware puts around it: NUL (device tree), blanks and line breaks.
fn key(text: &str) -> Result<String, String> {
    let key = text.trim_matches(|c: char| c == '\0' || c == '\u{feff}' || c.is_whitespace());
    match (key.chars().count(), key.chars().find(|c| !fits_in_key(*c))) {
        (0, _) => Err("is empty".to_owned()),
        (_, Some(bad)) => Err(format!("holds {bad:?}; a key has Chinese characters, letters, digits, - _ and . only")),
        (count, None) if count > KEY_CHARS => Err(format!("holds {count} characters; a key has 1 to {KEY_CHARS}")),
        _ => Ok(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_s_nul_and_blanks_are_no_part_of_the_key() {
        assert_eq!(key("10000000a3b2c1d0\0").unwrap(), "10000000a3b2c1d0");
        assert_eq!(key(" 867223030000017\r\n").unwrap(), "867223030000017");
        assert_eq!(key("网关-1_a.b").unwrap(), "网关-1_a.b");
        assert_eq!(key(&"号".repeat(64)).unwrap().chars().count(), 64);
    }

    #[test]
    fn what_is_no_key_is_refused_in_words() {
        let refused = |text: &str| key(text).unwrap_err();
        assert_eq!(refused(" \0\n"), "is empty");
        assert!(refused("a/b").starts_with("holds '/'"));
        assert!(refused("one two").starts_with("holds ' '"));
        assert!(refused("a\0b").starts_with("holds '\\0'"));
        assert!(refused(&"x".repeat(65)).contains("1 to 64"));
    }
}
