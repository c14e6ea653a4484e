//! PURE. Which parcels are done: those whose last message was acknowledged.
//!
//! Invariant, held by the test below: a parcel is finished once, and only when every message that carries a part of it
//! is done and the parcel was taken apart to its end.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Ledger {
    /// Parcel -> messages that carry parts of it; one more while it is being taken apart.
    open: HashMap<u64, u32>,
    finished: Vec<u64>,
}

impl Ledger {
    /// The parcel is being taken apart.
    pub fn begin(&mut self, seq: u64) {
        *self.open.entry(seq).or_default() += 1;
    }

    /// One more message carries a part of it.
    pub fn carried(&mut self, seq: u64) {
        *self.open.entry(seq).or_default() += 1;
    }

    /// All parts of it are in messages, or set aside.
    pub fn end(&mut self, seq: u64) {
        self.less(seq);
    }

    /// A message with parts of these parcels was acknowledged.
    pub fn done(&mut self, seqs: &[u64]) {
        for seq in seqs {
            self.less(*seq);
        }
    }

    fn less(&mut self, seq: u64) {
        let left = self.open.get_mut(&seq).expect("a parcel is open until its last message is done");
        *left -= 1;
        if *left == 0 {
            self.open.remove(&seq);
            self.finished.push(seq);
        }
    }

    /// Parcels that are done since the last call.
    pub fn finished(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.finished)
    }

    #[cfg(test)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The link is gone: the outbox hands out again what is not finished.
    pub fn clear(&mut self) {
        *self = Ledger::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_parcel_without_messages_is_done_at_its_end() {
        let mut ledger = Ledger::default();
        ledger.begin(7);
        assert!(ledger.finished().is_empty());
        ledger.end(7);
        assert_eq!(ledger.finished(), [7]);
        assert!(ledger.is_empty());
    }

    proptest! {
        #[test]
        fn a_parcel_is_finished_with_its_last_message_and_not_before(
            messages in prop::collection::vec(prop::collection::btree_set(1u64..8, 1..4), 1..20),
            order in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let mut ledger = Ledger::default();
            let parcels: BTreeSet<u64> = messages.iter().flatten().copied().collect();
            for seq in &parcels { ledger.begin(*seq); }
            for seq in messages.iter().flatten() { ledger.carried(*seq); }
            for seq in &parcels { ledger.end(*seq); }
            prop_assert!(ledger.finished().is_empty());
            let mut left = messages;
            let mut finished = BTreeSet::new();
            for index in order {
                if left.is_empty() { break; }
                let message = left.swap_remove(index.index(left.len()));
                ledger.done(&message.into_iter().collect::<Vec<_>>());
                for seq in ledger.finished() {
                    prop_assert!(finished.insert(seq), "{} finished twice", seq);
                    prop_assert!(!left.iter().any(|m| m.contains(&seq)), "{} finished too early", seq);
                }
            }
            if left.is_empty() { prop_assert_eq!(finished, parcels); }
        }
    }
}
