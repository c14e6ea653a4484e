//! What was learned of a unit: addresses it refuses and how much one request may ask. PURE: time is an argument.

use crate::area::Area;
use crate::blocks::Item;
use crate::settings::Limits;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Addresses the unit refuses as a whole: area, first, behind the last.
pub type Span = (Area, u32, u32);

#[derive(Clone, Copy, Debug)]
struct Hole {
    code: u8,
    retry_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    most: u16,
    /// Learned from silence, which may as well have been a dead device: tried again at this time.
    retry_at: Option<Instant>,
    /// Something was answered since.
    confirmed: bool,
}

/// Registers or bits: they have limits of their own.
#[derive(Debug, Default)]
struct Size {
    limit: Option<Limit>,
    /// Largest read that was ever answered with data.
    proven: u16,
    /// Time-outs of larger reads in a row.
    strikes: u8,
    /// Wait before a limit learned from silence is doubted.
    doubt: Duration,
}

/// Holes named one by one; the others are counted.
const NAMED_HOLES: usize = 3;

/// Knowledge of one unit; survives the session.
#[derive(Debug, Default)]
pub struct Learned {
    version: u32,
    holes: BTreeMap<Span, Hole>,
    /// Addresses between points that must not be read along.
    gaps: Vec<Span>,
    sizes: [Size; 2],
    pub no_mask_write: bool,
    pub no_single_write: [bool; 2],
}

/// A refused address is asked for again this often: firmware gets updated, options get installed.
const HOLE_RETRY: Duration = Duration::from_secs(600);
/// Exception 4 is a failure of the device, which may be over soon.
const FAILURE_RETRY: Duration = Duration::from_secs(30);
/// Reads of this many registers are answered by every device known to us.
const SMALL: u16 = 16;
const FIRST_DOUBT: Duration = Duration::from_secs(3600);
const LAST_DOUBT: Duration = Duration::from_secs(86_400);

impl Learned {
    /// Changes whenever requests have to be planned anew.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What one request may ask, now.
    pub fn limits(&mut self, stated: &Limits, now: Instant) -> Limits {
        self.doubt(now);
        let most = |bits: bool, stated: u16| self.sizes[usize::from(bits)].limit.map_or(stated, |l| l.most.min(stated));
        Limits { registers: most(false, stated.registers), bits: most(true, stated.bits), gap: stated.gap }
    }

    /// What is known, a line each, for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (size, what) in self.sizes.iter().zip(["registers", "bits"]) {
            if let Some(limit) = size.limit {
                let doubt = if limit.retry_at.is_some() { ", learned from silence" } else { "" };
                lines.push(format!("at most {} {what} a request{doubt}", limit.most));
            }
        }
        for ((area, from, to), hole) in self.holes.iter().take(NAMED_HOLES) {
            lines.push(format!("refuses {} {}: exception {}", area.word(), span(*from, *to), hole.code));
        }
        if self.holes.len() > NAMED_HOLES {
            lines.push(format!("refuses {} more spans", self.holes.len() - NAMED_HOLES));
        }
        for (area, from, to) in self.gaps.iter().take(NAMED_HOLES) {
            lines.push(format!("must not be asked for {} {} along with others", area.word(), span(*from, *to)));
        }
        if self.gaps.len() > NAMED_HOLES {
            lines.push(format!("must not be asked for {} more spans along with others", self.gaps.len() - NAMED_HOLES));
        }
        lines
    }

    /// Drops limits learned from silence when their time has come.
    pub fn doubt(&mut self, now: Instant) {
        for size in &mut self.sizes {
            if size.limit.is_some_and(|l| l.retry_at.is_some_and(|at| at <= now)) {
                size.limit = None;
                self.version += 1;
            }
        }
    }

    /// The refused span this point lies in.
    #[must_use]
    pub fn hole(&self, item: &Item) -> Option<(Span, u8)> {
        let to = item.end();
        let mut spans = self.holes.range((item.area, 0, 0)..(item.area, to, 0));
        spans.find(|((_, _, end), _)| u32::from(item.address) < *end).map(|(span, hole)| (*span, hole.code))
    }

    /// True when an address of `from..to` must not be read along.
    #[must_use]
    pub fn forbids(&self, area: Area, from: u32, to: u32) -> bool {
        let overlaps = |span: &Span| span.0 == area && span.1 < to && from < span.2;
        self.gaps.iter().any(overlaps) || self.holes.range((area, 0, 0)..(area, to, 0)).any(|(span, _)| overlaps(span))
    }

    /// True when nothing refuses; spares the search.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.holes.is_empty()
    }

    /// True when it is time to ask for this span again.
    #[must_use]
    pub fn is_due(&self, span: &Span, now: Instant) -> bool {
        self.holes.get(span).is_some_and(|hole| hole.retry_at <= now)
    }

    /// The unit refused the span with an exception. True when that is news.
    pub fn refuse(&mut self, span: Span, code: u8, now: Instant) -> bool {
        let wait = if code == 4 { FAILURE_RETRY } else { HOLE_RETRY };
        let news = self.holes.insert(span, Hole { code, retry_at: now + wait }).is_none();
        self.version += u32::from(news);
        news
    }

    /// The span answered after all.
    pub fn accept(&mut self, span: &Span) {
        self.version += u32::from(self.holes.remove(span).is_some());
    }

    /// Points on both sides answer, but not when the addresses between are read along.
    pub fn refuse_gap(&mut self, span: Span) {
        if !self.gaps.contains(&span) {
            self.gaps.push(span);
            self.version += 1;
        }
    }

    /// A read of `refused` addresses was refused where its halves, of at most `good` addresses, were answered.
    /// True when that is news.
    pub fn shrink(&mut self, area: Area, good: u16, refused: u16) -> bool {
        let size = &mut self.sizes[usize::from(area.is_bits())];
        let good = if size.proven < refused { good.max(size.proven) } else { good };
        let news = size.limit.is_none_or(|limit| good < limit.most);
        if news {
            size.limit = Some(Limit { most: good, retry_at: None, confirmed: true });
            self.version += 1;
        }
        news
    }

    /// A read of `count` addresses was answered with data.
    pub fn answered(&mut self, area: Area, count: u16) {
        let size = &mut self.sizes[usize::from(area.is_bits())];
        size.proven = size.proven.max(count);
        size.strikes = 0;
        if let Some(limit) = &mut size.limit {
            limit.confirmed = true;
        }
    }

    /// A read of `count` addresses got no answer. Some devices stay silent instead of refusing a
    /// large read; so a size that was never answered is halved after two time-outs in a row.
    /// True when a smaller size was learned.
    pub fn timed_out(&mut self, area: Area, count: u16, now: Instant) -> bool {
        let small = if area.is_bits() { SMALL * 16 } else { SMALL };
        let size = &mut self.sizes[usize::from(area.is_bits())];
        if count <= small {
            // Even a small read gets no answer: the device is dead, its limits are not to blame.
            if size.limit.is_some_and(|limit| !limit.confirmed) {
                size.limit = None;
                self.version += 1;
            }
            return false;
        }
        if count <= size.proven {
            return false;
        }
        size.strikes += 1;
        if size.strikes < 2 {
            return false;
        }
        size.strikes = 0;
        size.doubt = (size.doubt * 2).clamp(FIRST_DOUBT, LAST_DOUBT);
        let most = (count / 2).max(small);
        size.limit = Some(Limit { most, retry_at: Some(now + size.doubt), confirmed: false });
        self.version += 1;
        true
    }
}

fn span(from: u32, to: u32) -> String {
    if to == from + 1 { from.to_string() } else { format!("{from}-{}", to.saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_what_was_learned() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        assert!(learned.lines().is_empty());
        learned.shrink(Area::Holding, 62, 125);
        learned.timed_out(Area::Coil, 2000, now);
        learned.timed_out(Area::Coil, 2000, now);
        for from in 0..5 {
            learned.refuse((Area::Holding, from * 10, from * 10 + 2), 2, now);
        }
        learned.refuse_gap((Area::Holding, 7, 8));
        assert_eq!(
            learned.lines(),
            [
                "at most 62 registers a request",
                "at most 1000 bits a request, learned from silence",
                "refuses holding 0-1: exception 2",
                "refuses holding 10-11: exception 2",
                "refuses holding 20-21: exception 2",
                "refuses 2 more spans",
                "must not be asked for holding 7 along with others",
            ]
        );
    }

    const STATED: Limits = Limits { registers: 125, bits: 2000, gap: 16 };

    fn item(address: u16, len: u16) -> Item {
        Item { area: Area::Holding, address, len, row: 0 }
    }

    #[test]
    fn a_hole_is_left_alone_until_its_time() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        let span = (Area::Holding, 10, 12);
        assert!(learned.refuse(span, 2, now));
        assert!(!learned.refuse(span, 2, now));
        assert_eq!(learned.hole(&item(11, 2)), Some((span, 2)));
        assert_eq!(learned.hole(&item(12, 2)), None);
        assert_eq!(learned.hole(&item(8, 2)), None);
        assert!(learned.forbids(Area::Holding, 5, 11) && !learned.forbids(Area::Holding, 12, 20));
        assert!(!learned.forbids(Area::Input, 5, 11));
        assert!(!learned.is_due(&span, now + Duration::from_secs(599)));
        assert!(learned.is_due(&span, now + HOLE_RETRY));
        learned.accept(&span);
        assert!(learned.is_whole());
    }

    #[test]
    fn a_gap_keeps_requests_apart_but_no_point_away() {
        let mut learned = Learned::default();
        learned.refuse_gap((Area::Holding, 4, 8));
        assert!(learned.forbids(Area::Holding, 2, 5));
        assert_eq!(learned.hole(&item(5, 1)), None);
    }

    #[test]
    fn silence_on_large_reads_halves_them_and_a_dead_device_gets_its_size_back() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        assert!(!learned.timed_out(Area::Holding, 125, now));
        assert!(learned.timed_out(Area::Holding, 125, now));
        assert_eq!(learned.limits(&STATED, now).registers, 62);
        learned.timed_out(Area::Holding, 16, now);
        assert_eq!(learned.limits(&STATED, now).registers, 125);
    }

    #[test]
    fn a_size_learned_from_silence_is_doubted_after_an_hour() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.timed_out(Area::Holding, 100, now);
        learned.timed_out(Area::Holding, 100, now);
        learned.answered(Area::Holding, 50);
        learned.timed_out(Area::Holding, 16, now);
        assert_eq!(learned.limits(&STATED, now).registers, 50);
        assert_eq!(learned.limits(&STATED, now + FIRST_DOUBT).registers, 125);
    }

    #[test]
    fn a_size_that_once_worked_is_not_blamed() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.answered(Area::Input, 125);
        for _ in 0..10 {
            assert!(!learned.timed_out(Area::Input, 125, now));
        }
    }
}
