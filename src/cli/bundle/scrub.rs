//! PURE. Takes known secrets out of any text, however they are written there: plain, in JSON, hex, base64, percent-encoded.

use std::collections::{HashMap, HashSet};

/// What stands in their place.
pub(super) const REMOVED: &[u8] = b"(removed)";
/// Shorter ones are parts of words; their places are known and blanked.
const SHORTEST: usize = 4;

/// Finds many secrets in one pass.
pub(super) struct Scrubber {
    patterns: Vec<Vec<u8>>,
    /// By their first four bytes, the longest first.
    by_start: HashMap<[u8; SHORTEST], Vec<usize>>,
}

impl Scrubber {
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Scrubber {
        let all: HashSet<Vec<u8>> = secrets.into_iter().flat_map(|secret| forms(secret.trim().as_bytes())).collect();
        let mut patterns: Vec<Vec<u8>> = all.into_iter().filter(|form| form.len() >= SHORTEST).collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
        let mut by_start: HashMap<[u8; SHORTEST], Vec<usize>> = HashMap::new();
        for (index, pattern) in patterns.iter().enumerate() {
            by_start.entry(start(pattern)).or_default().push(index);
        }
        Scrubber { patterns, by_start }
    }

    /// The text without any of them.
    pub fn scrub(&self, text: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            match self.found(&text[at..]) {
                Some(length) => {
                    clean.extend_from_slice(REMOVED);
                    at += length;
                }
                None => {
                    clean.push(text[at]);
                    at += 1;
                }
            }
        }
        clean
    }

    fn found(&self, rest: &[u8]) -> Option<usize> {
        let candidates = self.by_start.get(&start(rest.get(..SHORTEST)?))?;
        candidates.iter().map(|index| &self.patterns[*index]).find(|pattern| rest.starts_with(pattern)).map(Vec::len)
    }
}

fn start(bytes: &[u8]) -> [u8; SHORTEST] {
    let mut start = [0; SHORTEST];
    start.copy_from_slice(&bytes[..SHORTEST]);
    start
}

fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let hex = |upper: bool| -> Vec<u8> {
        let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        secret.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
    };
    let text = String::from_utf8_lossy(secret);
    let json = serde_json::Value::from(text.as_ref()).to_string();
    let mut forms = vec![secret.to_vec(), hex(false), hex(true), json.as_bytes()[1..json.len() - 1].to_vec()];
    for shift in 0..3 {
        forms.push(base64(secret, shift, b'+', b'/'));
        forms.push(base64(secret, shift, b'-', b'_'));
    }
    for upper in [false, true] {
        forms.push(percent(secret, upper, false));
        forms.push(percent(secret, upper, true));
    }
    forms
}

/// As it stands in the base64 of something longer that has `shift` bytes (of three) before it: only the letters that are
/// made of the secret alone.
fn base64(secret: &[u8], shift: usize, plus: u8, slash: u8) -> Vec<u8> {
    let bit = |at: usize| {
        let byte = (at / 8).checked_sub(shift).map_or(0, |index| secret[index]);
        byte >> (7 - at % 8) & 1
    };
    let (first, last) = ((shift * 8).div_ceil(6), (shift + secret.len()) * 8 / 6);
    let letter = |index: usize| match (0..6).fold(0u8, |word, at| word << 1 | bit(index * 6 + at)) {
        word @ 0..=25 => b'A' + word,
        word @ 26..=51 => b'a' + word - 26,
        word @ 52..=61 => b'0' + word - 52,
        62 => plus,
        _ => slash,
    };
    (first..last).map(letter).collect()
}

fn percent(secret: &[u8], upper: bool, all: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in secret {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        if plain && !all {
            out.push(*byte);
        } else if upper {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.extend_from_slice(format!("%{byte:02x}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(secret: &str, text: &str) -> String {
        String::from_utf8(Scrubber::new([secret.to_owned()]).scrub(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        for text in [
            "p&ss \"w\u{f6}rd\"",
            "70267373202277c3b6726422",
            "70267373202277C3B6726422",
            r#"{"x":"p&ss \"wörd\""}"#,
            "p%26ss%20%22w%C3%B6rd%22",
            "p%26ss%20%22w%c3%b6rd%22",
        ] {
            let cleaned = clean("p&ss \"wörd\"", text);
            assert!(cleaned.contains("(removed)") && !cleaned.contains("ss"), "{text}: {cleaned}");
        }
    }

    #[test]
    fn base64_is_found_wherever_it_begins() {
        // base64 of "marker-4711", of "u:marker-4711", of "us:marker-4711\n".
        for text in ["bWFya2VyLTQ3MTE=", "dTptYXJrZXItNDcxMQ==", "dXM6bWFya2VyLTQ3MTEK"] {
            assert!(clean("marker-4711", text).contains("(removed)"), "{text}");
        }
    }

    #[test]
    fn the_longest_wins_and_other_text_stays() {
        let scrubber = Scrubber::new(["abcd".to_owned(), "abcdef".to_owned(), "x".to_owned()]);
        assert_eq!(scrubber.scrub(b"x abcdef abcd abc"), b"x (removed) (removed) abc");
    }
}
