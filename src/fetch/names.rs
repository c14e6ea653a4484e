//! PURE. Names in a folder of somebody else's: which of them is an archive, and which archive is the newest.

use std::cmp::Ordering;

const ENDINGS: &[&str] = &[".tar.gz", ".tgz", ".tar.zst", ".zip"];

/// A plain name of an archive: no folder, no hidden file, nothing that a protocol or a shell could take for a command.
#[must_use]
pub(super) fn is_archive(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    is_plain(name) && ENDINGS.iter().any(|ending| lower.len() > ending.len() && lower.ends_with(ending))
}

#[must_use]
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['.', '-'])
        && !name.chars().any(|c| c.is_control() || "/\\\"*?[]{}".contains(c))
}

/// The last archive in the order of [`natural`]. Entries with a folder before the name count only when it is the one
/// that was listed: `../` leads out of it.
pub(super) fn newest<'n>(names: impl Iterator<Item = &'n str>, folder: &str) -> Option<&'n str> {
    let inside = |name: &'n str| match name.rsplit_once('/') {
        Some((before, name)) if before.trim_end_matches('/') == folder.trim_end_matches('/') => Some(name),
        Some(_) => None,
        None => Some(name),
    };
    names.filter_map(inside).filter(|name| is_archive(name)).max_by(|one, other| natural(one, other))
}

/// Numbers count as numbers: `site-1.10.zip` comes after `site-1.9.zip`.
#[must_use]
pub(super) fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let (left, right) = (token(&mut one), token(&mut other));
        if left.is_empty() || right.is_empty() {
            return left.len().cmp(&right.len());
        }
        let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = if number(left) && number(right) {
            let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        } else {
            left.cmp(right)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Digits, or one other letter.
fn token<'t>(text: &mut &'t str) -> &'t str {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let length = if digits > 0 { digits } else { text.chars().next().map_or(0, char::len_utf8) };
    let (token, rest) = text.split_at(length);
    *text = rest;
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_the_last_by_number() {
        let names = ["site-1.9.zip", "site-1.10.zip", "site-1.2.tar.gz", "readme.txt", ".hidden.zip"];
        assert_eq!(newest(names.into_iter(), "/in/"), Some("site-1.10.zip"));
        let listed = ["/in/a-1.zip", "/in/a-2.zip", "/etc/z-9.zip"];
        assert_eq!(newest(listed.into_iter(), "/in/"), Some("a-2.zip"));
        assert_eq!(natural("a001b", "a1b"), Ordering::Equal);
        assert_eq!(natural("a", "a1"), Ordering::Less);
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_no_archives() {
        for name in [
            "../x.zip",
            "..\\x.zip",
            "a/../../x.zip",
            "-rf.zip",
            "a\r\nDELE b.zip",
            ".zip",
            "a\".zip",
            "*.zip",
            "x.zip.part",
        ] {
            assert_eq!(newest([name].into_iter(), "/in/"), None, "{name}");
        }
    }
}
