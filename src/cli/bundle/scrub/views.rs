//! PURE. A line as those read it who undo its percent-encoding and its escapes, with the place of every byte.

/// Bytes, and where each came from.
pub(super) struct View {
    pub bytes: Vec<u8>,
    /// Of each byte: begin and end in the line.
    places: Vec<(u32, u32)>,
}

impl View {
    fn of(line: &[u8]) -> View {
        // Lines of a bundle are far below 4 GB.
        let places = (0u32..).take(line.len()).map(|at| (at, at + 1)).collect();
        View { bytes: line.to_vec(), places }
    }

    /// Where `begin..end` of the view is in the line.
    pub(super) fn place(&self, begin: usize, end: usize) -> (usize, usize) {
        match (self.places.get(begin), self.places.get(end.wrapping_sub(1))) {
            (Some(first), Some(last)) => (first.0 as usize, last.1 as usize),
            _ => (0, 0),
        }
    }

    /// With every part that `undo` knows undone: it gives bytes for a number of bytes at the beginning of what it gets.
    fn undone(&self, undo: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> Option<View> {
        let mut view =
            View { bytes: Vec::with_capacity(self.bytes.len()), places: Vec::with_capacity(self.bytes.len()) };
        let (mut at, mut changed) = (0, false);
        while at < self.bytes.len() {
            let Some((bytes, length)) = undo(&self.bytes[at..]) else {
                view.bytes.push(self.bytes[at]);
                view.places.push(self.places[at]);
                at += 1;
                continue;
            };
            changed = true;
            let place = (self.places[at].0, self.places[at + length - 1].1);
            view.places.extend(bytes.iter().map(|_| place));
            view.bytes.extend(bytes);
            at += length;
        }
        changed.then_some(view)
    }
}

/// Every other reading of the line: escapes undone, up to twice, and percent-encoding in each of those, up to twice.
pub(super) fn all(line: &[u8]) -> Vec<View> {
    if !line.iter().any(|byte| b"%\\+".contains(byte)) {
        return Vec::new();
    }
    let mut views = vec![View::of(line)];
    for _ in 0..2 {
        let more = views.last().and_then(|view| view.undone(escape));
        views.extend(more);
    }
    let escaped = views.len();
    for at in 0..escaped {
        let once = views[at].undone(|rest| percent(rest, false));
        let form = views[at].undone(|rest| percent(rest, true));
        let twice = once.as_ref().and_then(|once| once.undone(|rest| percent(rest, false)));
        views.extend([once, form, twice].into_iter().flatten());
    }
    // The line itself is looked at by whoever asks.
    views.swap_remove(0);
    views
}

/// `%41`; in a form a blank is `+`.
fn percent(rest: &[u8], form: bool) -> Option<(Vec<u8>, usize)> {
    match rest {
        [b'%', digits @ ..] => Some((vec![hex(digits.get(..2)?)? as u8], 3)),
        [b'+', ..] if form => Some((vec![b' '], 1)),
        _ => None,
    }
}

/// `\"`, `\n`, `\u0041`, `\u{41}`, `\x41`, as JSON, programs in Rust and systemd write them.
fn escape(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let [b'\\', which, more @ ..] = rest else { return None };
    match which {
        b'"' | b'\'' | b'\\' | b'/' => Some((vec![*which], 2)),
        b'n' => Some((vec![b'\n'], 2)),
        b't' => Some((vec![b'\t'], 2)),
        b'r' => Some((vec![b'\r'], 2)),
        b'x' => Some((vec![hex(more.get(..2)?)? as u8], 4)),
        b'u' if more.first() == Some(&b'{') => {
            let end = more.iter().take(8).position(|byte| *byte == b'}')?;
            Some((utf8(hex(&more[1..end])?)?, end + 3))
        }
        b'u' => {
            let high = hex(more.get(..4)?)?;
            if let 0xD800..=0xDBFF = high {
                let low = more.get(4..10).filter(|low| low.starts_with(b"\\u")).and_then(|low| hex(&low[2..]))?;
                let code = 0x10000 + ((high - 0xD800) << 10) + low.checked_sub(0xDC00)?;
                return Some((utf8(code)?, 12));
            }
            Some((utf8(high)?, 6))
        }
        _ => None,
    }
}

fn utf8(code: u32) -> Option<Vec<u8>> {
    Some(char::from_u32(code)?.to_string().into_bytes())
}

fn hex(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}
