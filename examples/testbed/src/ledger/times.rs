//! PURE. Which times of a device were received: one bit a value.

use std::collections::HashMap;

/// The distinct times of a device, in the order they came. Points of a scan group share them, so a value costs a bit.
#[derive(Debug, Default)]
pub struct Times {
    slots: HashMap<i64, u32>,
}

impl Times {
    /// The slot of this time, a new one if it never came.
    pub fn slot(&mut self, time: i64) -> u32 {
        let next = u32::try_from(self.slots.len()).expect("a ledger does not live through 4 billion times");
        *self.slots.entry(time).or_insert(next)
    }

    /// The slot of a time that came.
    #[must_use]
    pub fn find(&self, time: i64) -> Option<u32> {
        self.slots.get(&time).copied()
    }
}

/// Bits that grow on demand.
#[derive(Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Sets the bit; false when it was set.
    pub fn set(&mut self, at: u32) -> bool {
        let (word, bit) = (at as usize / 64, 1u64 << (at % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    #[must_use]
    pub fn get(&self, at: u32) -> bool {
        self.words.get(at as usize / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}
