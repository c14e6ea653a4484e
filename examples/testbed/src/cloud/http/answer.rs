//! PURE. What a request is answered.

use super::desk::Kept;
use serde_json::{Value as Json, json};

/// Of which part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// From and behind the last.
    Part(usize, usize),
    /// Behind its end.
    Beyond,
}

/// What to send.
pub(super) enum Answer {
    Json(u16, Json),
    File(Kept, Wanted),
}

/// A refusal; politely, it comes with status 200.
pub(super) fn refused(status: u16, code: i64, message: &str, politely: bool) -> Answer {
    Answer::Json(if politely { 200 } else { status }, json!({ "code": code, "message": message, "data": null }))
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n` of a file that has `length` bytes; anything else asks for the whole.
pub(super) fn wanted(range: &str, length: usize) -> Wanted {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::Whole;
    };
    let (from, last) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) if to < from => return Wanted::Whole,
        (Ok(from), Ok(to)) => (from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => (from, length),
        (Err(_), Ok(tail)) if from.is_empty() => (length.saturating_sub(tail), length),
        _ => return Wanted::Whole,
    };
    if from >= length { Wanted::Beyond } else { Wanted::Part(from, last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        assert_eq!(wanted("bytes=2-", 10), Wanted::Part(2, 10));
        assert_eq!(wanted("bytes=2-4", 10), Wanted::Part(2, 5));
        assert_eq!(wanted("bytes=2-99", 10), Wanted::Part(2, 10));
        assert_eq!(wanted("bytes=-3", 10), Wanted::Part(7, 10));
        assert_eq!(wanted("bytes=10-", 10), Wanted::Beyond);
        for whole in ["", "bytes=x-", "bytes=4-2", "lines=1-2", "bytes=-"] {
            assert_eq!(wanted(whole, 10), Wanted::Whole, "{whole}");
        }
    }
}
