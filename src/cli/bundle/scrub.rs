//! PURE. Takes known secrets out of any text, however they are written there: plain, in JSON, hex, base64, percent-encoded, and
//! one in the other.

mod views;

use std::collections::{HashMap, HashSet};

/// What stands in their place.
pub(super) const REMOVED: &[u8] = b"(removed)";
/// Shorter ones are parts of words; their places are known and blanked.
const SHORTEST: usize = 4;

/// Other readings of a line are made of so many bytes at once: they take many times the room.
const WINDOW: usize = 64 << 10;
/// The longest secret, with every byte as six letters.
const OVERLAP: usize = 8 << 10;

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

    /// The text without any of them. No secret has more than one line.
    pub fn scrub(&self, text: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.line(line, &mut clean);
        }
        clean
    }

    fn line(&self, line: &[u8], clean: &mut Vec<u8>) {
        let mut gone: Vec<(usize, usize)> = Vec::new();
        self.spans(line, |begin, end| gone.push((begin, end)));
        for from in (0..line.len()).step_by(WINDOW) {
            for view in views::all(&line[from..line.len().min(from + WINDOW + OVERLAP)]) {
                self.spans(&view.bytes, |begin, end| {
                    let (begin, end) = view.place(begin, end);
                    gone.push((from + begin, from + end));
                });
            }
        }
        gone.sort_unstable();
        let mut at = 0;
        for (begin, end) in gone.into_iter().filter(|(begin, end)| begin < end) {
            // Of two that overlap the second takes its rest along.
            if begin >= at {
                clean.extend_from_slice(&line[at..begin]);
                clean.extend_from_slice(REMOVED);
            }
            at = at.max(end);
        }
        clean.extend_from_slice(&line[at..]);
    }

    fn spans(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let mut at = 0;
        while at < text.len() {
            let length = self.found(&text[at..]);
            if let Some(length) = length {
                found(at, at + length);
            }
            at += length.unwrap_or(1);
        }
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
    let hex = |upper: bool, between: &str| -> Vec<u8> {
        let one = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        secret.iter().map(one).collect::<Vec<_>>().join(between).into_bytes()
    };
    let mut forms = vec![secret.to_vec()];
    // As dumps of frames have it, too.
    for between in ["", " ", ":"] {
        forms.extend([hex(false, between), hex(true, between)]);
    }
    for shift in 0..3 {
        forms.push(base64(secret, shift, b'+', b'/'));
        forms.push(base64(secret, shift, b'-', b'_'));
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
            "70 26 73 73 20 22 77 C3 B6 72 64 22",
            "70:26:73:73:20:22:77:c3:b6:72:64:22",
            r#"{"x":"p&ss \"wörd\""}"#,
            "p%26ss%20%22w%C3%B6rd%22",
            "p%26ss%20%22w%c3%b6rd%22",
            // As forms and scripts of browsers write it, and twice.
            "p%26ss+%22w%C3%B6rd%22",
            "p&ss%20\"w\u{f6}rd\"",
            "p%2526ss%2520%2522w%25C3%25B6rd%2522",
            r#"{\"x\":\"p&ss \\\"w\u{f6}rd\\\"\"}"#,
            r#""p\u0026ss \u0022w\u00f6rd\u0022""#,
            r"p&ss\x20\x22w\xc3\xb6rd\x22",
            // Base64 whose letters an address can not hold.
            "cCZzcyAid8O2cmQi",
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
    fn base64_within_an_address_and_text_around_it() {
        // base64 of "??>~~~?>key" is "Pz8+fn5+Pz5rZXk=".
        assert_eq!(clean("??>~~~?>key", "GET /a?x=Pz8%2Bfn5%2BPz5rZXk%3D&n=1"), "GET /a?x=(removed)k%3D&n=1");
        assert_eq!(clean("secret-1", "50% of \\d, secret%2D1 at 5%"), "50% of \\d, (removed) at 5%");
        assert_eq!(clean("secret-1", "100 %\n\\u00\nsecret-1"), "100 %\n\\u00\n(removed)");
    }

    #[test]
    fn the_longest_wins_and_other_text_stays() {
        let scrubber = Scrubber::new(["abcd".to_owned(), "abcdef".to_owned(), "x".to_owned()]);
        assert_eq!(scrubber.scrub(b"x abcdef abcd abc"), b"x (removed) (removed) abc");
    }
}
