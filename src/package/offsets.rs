//! PURE. The ranges of point numbers a device occupies: `0-50#1000-1050`, and `-1` for none.

use super::fields::{Faults, misfit};
use driver::{Offsets, PointKind, Text};

const SHAPE: &str = "write ranges as 0-50 or 0-50#1000-1050, or -1 for none";

/// A device's ranges with the places they were written at.
#[derive(Clone, Debug, Default)]
pub struct OffsetText {
    pub offsets: Offsets,
    pub texts: Vec<(PointKind, Text)>,
}

/// Reads `{ ai: 0-50#1000-1050, di: -1 }`.
pub fn read(pairs: &[(Text, Text)], faults: &mut Faults) -> OffsetText {
    let mut all = OffsetText::default();
    for (key, value) in pairs {
        let word = key.text.strip_suffix("Offset").unwrap_or(&key.text);
        let Some(kind) = PointKind::parse(word) else {
            faults.push(
                crate::diagnostic::Diagnostic::error(
                    key.place.clone(),
                    format!("point kind \"{}\" is not known", key.text),
                )
                .help(crate::diagnostic::did_you_mean(&key.text, PointKind::words())),
            );
            continue;
        };
        match ranges(&value.text) {
            Ok(ranges) => all.offsets.ranges[kind as usize] = ranges,
            Err(help) => faults.push(misfit(&format!("offset of {}", kind.word()), value, help)),
        }
        all.texts.push((kind, value.clone()));
    }
    all
}

fn ranges(text: &str) -> Result<Vec<(u32, u32)>, String> {
    if matches!(text.trim(), "-1" | "") {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for part in text.split('#') {
        let (first, last) = range(part.trim()).ok_or(SHAPE)?;
        if first > last {
            return Err(format!("write the smaller number first: {last}-{first}"));
        }
        if let Some((a, b)) = all.iter().find(|(a, b)| first <= *b && *a <= last) {
            return Err(format!("{first}-{last} overlaps {a}-{b}"));
        }
        all.push((first, last));
    }
    Ok(all)
}

/// `3-7`, or `3` for a single number. The last number stays below `u32::MAX` so that a length always fits.
fn range(part: &str) -> Option<(u32, u32)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let last: u32 = last.trim().parse().ok()?;
    Some((first.trim().parse().ok()?, last)).filter(|_| last < u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_and_joined_with_a_hash() {
        assert_eq!(ranges("0-50#1000-1050"), Ok(vec![(0, 50), (1000, 1050)]));
        assert_eq!(ranges(" 2 - 3 # 6-7 "), Ok(vec![(2, 3), (6, 7)]));
        assert_eq!(ranges("7"), Ok(vec![(7, 7)]));
        assert_eq!(ranges("-1"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["a", "5-", "-5", "1-2-3", "0-50,60-70", "1-4294967295", "0-3#", "-1#2-3"] {
            assert_eq!(ranges(bad), Err(SHAPE.to_owned()), "{bad}");
        }
        assert_eq!(ranges("5-3"), Err("write the smaller number first: 3-5".to_owned()));
        assert_eq!(ranges("1-5#5-6"), Err("5-6 overlaps 1-5".to_owned()));
    }
}
