//! PURE. Reads bytes as UTF-8 text, and says where the first byte stands that is none.

use crate::diagnostic::{Diagnostic, Place};
use std::io::Read;
use std::sync::Arc;

/// Reads a whole text of at most `most` bytes.
///
/// # Errors
/// Too large, unreadable, UTF-16, not UTF-8, or with a NUL in it.
pub fn read(file: &Arc<str>, reader: impl Read, most: u64) -> Result<String, Diagnostic> {
    let whole = |problem: String| Diagnostic::error(Place::new(file, 0, 0), problem);
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(|e| whole(format!("read the file: {e}")))?;
    if bytes.len() as u64 > most {
        return Err(whole(format!("the file is larger than {most} bytes"))
            .help("split it into several files, or take out what nobody needs"));
    }
    // Without a mark: YAML begins with a character of ASCII, whose other half is zero.
    let unmarked = matches!(*bytes, [0, 1..=0x7f, ..] | [1..=0x7f, 0, ..]);
    if unmarked || bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Diagnostic::error(Place::new(file, 1, 1), "the text is UTF-16").help("save it as UTF-8"));
    }
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let (line, column) = place_of(&e.as_bytes()[..at]);
        Diagnostic::error(Place::new(file, line, column), format!("byte 0x{:02x} is not UTF-8", e.as_bytes()[at]))
            .help("save the file as UTF-8; GBK and other code pages are not read")
    })?;
    match text.find('\0') {
        None => Ok(text),
        Some(at) => {
            let (line, column) = place_of(&text.as_bytes()[..at]);
            Err(Diagnostic::error(Place::new(file, line, column), "the text holds a NUL")
                .help("save the file as UTF-8"))
        }
    }
}

/// Line and column, counted from 1, of what follows `before`, which is valid UTF-8.
fn place_of(before: &[u8]) -> (u32, u32) {
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    // Continuation bytes 10xxxxxx do not begin a character.
    let column = before[line_start..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        read(&"a.yaml".into(), bytes, 1000).expect_err("refused").to_string()
    }

    #[test]
    fn the_first_bad_byte_is_named_by_line_and_column() {
        assert!(refusal("a: 1\nb: 电\u{0}".as_bytes()).starts_with("a.yaml:2:5: the text holds a NUL"));
        assert!(refusal(b"a: 1\nb: \xe7\x94\xb5\xb5\xe7\n").starts_with("a.yaml:2:5: byte 0xb5 is not UTF-8"));
        for text in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"a\0:\0", b"\0a\0:"] {
            assert!(refusal(text).contains("UTF-16"), "{text:?}");
        }
        assert!(refusal(&[b'a'; 1001]).contains("larger than 1000 bytes"));
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(read(&"a.yaml".into(), "\u{feff}a: 1".as_bytes(), 100).unwrap(), "a: 1");
    }
}
