//! PURE. A set of sequence numbers, kept as ranges: what one destination is done with.

use std::collections::BTreeMap;

/// First -> last, both inclusive, never touching each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Everything up to `cursor`.
    #[must_use]
    pub fn up_to(cursor: u64) -> Ranges {
        Ranges(BTreeMap::from([(0, cursor)]))
    }

    /// The number below which, itself included, nothing is missing.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or(0)
    }

    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        self.covers(seq, seq)
    }

    /// All of `first..=last` is in the set.
    #[must_use]
    pub fn covers(&self, first: u64, last: u64) -> bool {
        self.0.range(..=first).next_back().is_some_and(|(_, end)| *end >= last)
    }

    /// Nothing of `first..=last` is in the set.
    #[must_use]
    pub fn misses(&self, first: u64, last: u64) -> bool {
        self.0.range(..=last).next_back().is_none_or(|(_, end)| *end < first)
    }

    /// Adds `first..=last`, whatever of it is there already.
    pub fn insert(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        if let Some((start, end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            (first, last) = (*start, last.max(*end));
        }
        while let Some((start, end)) = self.0.range(first..=last.saturating_add(1)).next_back() {
            let (start, end) = (*start, *end);
            last = last.max(end);
            self.0.remove(&start);
        }
        self.0.insert(first, last);
    }

    /// First and last of each run, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// `0-41 50-52`, as the store keeps it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let ranges: Vec<String> = self.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        ranges.join(" ")
    }

    /// Back from [`Ranges::to_text`]; `None` when it is no such text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Ranges> {
        let mut ranges = Ranges::default();
        for word in text.split_ascii_whitespace() {
            let (first, last) = word.split_once('-')?;
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            if first > last {
                return None;
            }
            ranges.insert(first, last);
        }
        Some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn expand(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| first..=last).collect()
    }

    fn built(pairs: &[(u64, u64)]) -> (Ranges, BTreeSet<u64>) {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        for (first, length) in pairs {
            ranges.insert(*first, first + length);
            set.extend(*first..=first + length);
        }
        (ranges, set)
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(
            a in prop::collection::vec((0u64..60, 0u64..8), 0..12),
            probe in (0u64..70, 0u64..6),
        ) {
            let (ranges, set) = built(&a);
            prop_assert_eq!(expand(&ranges), set.clone());
            let wanted: Vec<u64> = (probe.0..=probe.0 + probe.1).collect();
            prop_assert_eq!(ranges.covers(probe.0, probe.0 + probe.1), wanted.iter().all(|s| set.contains(s)));
            prop_assert_eq!(ranges.misses(probe.0, probe.0 + probe.1), wanted.iter().all(|s| !set.contains(s)));
            prop_assert_eq!(Ranges::from_text(&ranges.to_text()), Some(ranges.clone()));
            let mut last_end = None;
            for (first, last) in ranges.iter() {
                prop_assert!(last_end.is_none_or(|end| end + 1 < first));
                last_end = Some(last);
            }
        }

        #[test]
        fn damaged_text_never_panics(text in "[0-9 -]{0,40}") {
            let _ = Ranges::from_text(&text);
        }
    }
}
