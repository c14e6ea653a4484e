//! PURE. Whose turn it is: each has one place at most, and finding out costs the same however many wait.

use std::collections::{BTreeSet, VecDeque};

/// First come, first served.
#[derive(Debug)]
pub(super) struct Turns<K, T> {
    order: VecDeque<(K, T)>,
    known: BTreeSet<K>,
}

impl<K: Ord + Clone, T> Turns<K, T> {
    pub(super) fn new() -> Turns<K, T> {
        Turns { order: VecDeque::new(), known: BTreeSet::new() }
    }

    /// Nothing changes for who has a place already.
    pub(super) fn queue(&mut self, key: K, one: T) {
        if self.known.insert(key.clone()) {
            self.order.push_back((key, one));
        }
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.order.front().map(|(_, one)| one)
    }

    pub(super) fn take_first(&mut self) -> Option<T> {
        let (key, one) = self.order.pop_front()?;
        self.known.remove(&key);
        Some(one)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::cmp::Ordering;

    thread_local! {
        static COMPARED: Cell<u64> = const { Cell::new(0) };
    }

    /// Counts how often one is held against another.
    #[derive(Clone, PartialEq, Eq)]
    struct Counted(u32);

    impl Ord for Counted {
        fn cmp(&self, other: &Counted) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Counted) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    /// Comparisons of a round that begins while the one before has not ended.
    fn compared(devices: u32) -> u64 {
        COMPARED.set(0);
        let mut turns = Turns::new();
        for device in (0..devices).chain(0..devices) {
            turns.queue(Counted(device.wrapping_mul(2_654_435_761)), device);
        }
        assert_eq!(turns.order.len() as u32, devices, "one place each");
        for device in 0..devices {
            assert_eq!(turns.first(), Some(&device), "in the order they came");
            assert_eq!(turns.take_first(), Some(device));
        }
        assert!(turns.is_empty() && turns.known.is_empty());
        COMPARED.get()
    }

    #[test]
    fn ten_times_the_devices_cost_about_ten_times_the_work() {
        let (few, many) = (compared(1_000), compared(10_000));
        // A logarithm comes on top; a look at all who wait would make it a hundred times.
        assert!(many < few * 20, "{few} comparisons for 1,000 devices, {many} for 10,000");
    }
}
