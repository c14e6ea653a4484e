//! SHA-256 of a file, and the digests that servers tell.

use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// SHA-256 and length of a file; blocks.
///
/// # Errors
/// Those of reading.
pub(super) fn of_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hex(context.finish().as_ref()), bytes)),
            Ok(got) => {
                context.update(&buffer[..got]);
                bytes += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[must_use]
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(b"0123456789abcdef"[usize::from(n)])).collect()
}

/// 64 hex digits in lower case.
#[must_use]
pub(super) fn parse_hex(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

/// The text of a `.sha256` file: the digest alone, `DIGEST  NAME` of sha256sum, or `SHA256 (NAME) = DIGEST` of BSD. With
/// several lines the one that names the archive counts.
#[must_use]
pub(super) fn of_sidecar(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let line = match lines[..] {
        [only] => only,
        _ => lines.iter().find(|line| line.split([' ', '*', '(', ')']).any(|word| word == name))?,
    };
    line.split_whitespace().find_map(parse_hex)
}

/// `x-sha256: HEX`, `Repr-Digest: sha-256=:BASE64:` (RFC 9530) or `Digest: sha-256=BASE64` (RFC 3230).
#[must_use]
pub(super) fn of_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    if let Some(text) = header("x-sha256") {
        return parse_hex(text);
    }
    let listed = ["repr-digest", "content-digest", "digest"].iter().find_map(|name| header(name))?;
    let entry = listed.split(',').map(str::trim).find(|entry| entry.to_ascii_lowercase().starts_with("sha-256="))?;
    let bytes = base64(entry["sha-256=".len()..].trim_matches(':'))?;
    (bytes.len() == 32).then(|| hex(&bytes))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bits: u32 = 0;
    let mut held = 0;
    let mut bytes = Vec::with_capacity(33);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
        if bytes.len() > 64 {
            return None;
        }
    }
    Some(bytes)
}

/// For `Authorization: Basic`.
#[must_use]
pub(super) fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place > three.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    #[test]
    fn digests_are_read_in_every_form_that_servers_use() {
        let base = "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=";
        assert_eq!(to_base64(&base64(base).unwrap()), base);
        assert_eq!(to_base64(b"a"), "YQ==");
        for (name, value) in [
            ("x-sha256", HEX.to_uppercase()),
            ("repr-digest", format!("sha-512=:AAAA:, sha-256=:{base}:")),
            ("digest", format!("SHA-256={base}")),
        ] {
            assert_eq!(of_headers(|asked| (asked == name).then_some(value.as_str())).as_deref(), Some(HEX), "{name}");
        }
        assert_eq!(of_headers(|_| None), None);
        for text in [
            HEX.to_owned(),
            format!("{HEX}  a.zip\n"),
            format!("SHA256 (a.zip) = {HEX}"),
            format!("{}  b.zip\n{HEX} *a.zip", "0".repeat(64)),
        ] {
            assert_eq!(of_sidecar(&text, "a.zip").as_deref(), Some(HEX), "{text}");
        }
        assert_eq!(of_sidecar("<html>not found</html>", "a.zip"), None);
    }

    #[test]
    fn a_file_s_digest_is_that_of_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello world").unwrap();
        assert_eq!(of_file(file.path()).unwrap(), (HEX.to_owned(), 11));
    }
}
