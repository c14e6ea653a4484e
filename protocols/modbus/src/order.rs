//! The order in which a value's bytes lie in its registers, written in letters. PURE.
//!
//! `A` is the most significant byte. Every order that devices use is a choice of three swaps, so
//! reading and writing share one table and can not drift apart.

/// Which neighbours are swapped, compared with ABCDEFGH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ByteOrder {
    /// The two bytes of each register.
    pub bytes: bool,
    /// The two registers of each 32-bit half.
    pub words: bool,
    /// The two 32-bit halves of a 64-bit value.
    pub halves: bool,
}

const fn order(bytes: bool, words: bool, halves: bool) -> ByteOrder {
    ByteOrder { bytes, words, halves }
}

/// Words with four letters or a name; they extend to 16 and 64 bits in the same sense.
pub const ORDER_WORDS: &[(&str, ByteOrder)] = &[
    ("ABCD", order(false, false, false)),
    ("CDAB", order(false, true, true)),
    ("BADC", order(true, false, false)),
    ("DCBA", order(true, true, true)),
    ("big", order(false, false, false)),
    ("little", order(true, true, true)),
    ("big_swap", order(true, false, false)),
    ("little_swap", order(false, true, true)),
    ("big-endian", order(false, false, false)),
    ("little-endian", order(true, true, true)),
];

/// Words for 64 bits only.
const LONG_WORDS: &[(&str, ByteOrder)] = &[
    ("ABCDEFGH", order(false, false, false)),
    ("GHEFCDAB", order(false, true, true)),
    ("BADCFEHG", order(true, false, false)),
    ("HGFEDCBA", order(true, true, true)),
    ("CDABGHEF", order(false, true, false)),
    ("EFGHABCD", order(false, false, true)),
    ("DCBAHGFE", order(true, true, false)),
    ("FEHGBADC", order(true, false, true)),
];

/// Words for 16 bits and strings only.
const SHORT_WORDS: &[(&str, ByteOrder)] = &[("AB", order(false, false, false)), ("BA", order(true, false, false))];

impl ByteOrder {
    /// The order `word` names for a value of `registers` registers.
    #[must_use]
    pub fn parse(word: &str, registers: u16) -> Option<ByteOrder> {
        let word = word.trim();
        let special = match registers {
            1 => SHORT_WORDS,
            4 => LONG_WORDS,
            _ => &[],
        };
        special.iter().chain(ORDER_WORDS).find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, o)| *o)
    }

    /// Every word that fits a value of `registers` registers.
    pub fn words(registers: u16) -> impl Iterator<Item = &'static str> {
        let special = match registers {
            1 => SHORT_WORDS,
            4 => LONG_WORDS,
            _ => &[],
        };
        special.iter().chain(ORDER_WORDS).map(|(w, _)| *w)
    }

    /// What is XORed with the index of a byte of ABCD… to get its index on the wire.
    #[must_use]
    pub fn mask(self, bytes: usize) -> usize {
        let mask = usize::from(self.bytes) | usize::from(self.words) << 1 | usize::from(self.halves) << 2;
        mask & (bytes - 1)
    }

    /// Puts `N` bytes (2, 4 or 8) into the other order. Its own inverse.
    #[must_use]
    pub fn apply<const N: usize>(self, wire: [u8; N]) -> [u8; N] {
        let mask = self.mask(N);
        std::array::from_fn(|i| wire[i ^ mask])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters<const N: usize>(word: &str) -> String {
        let order = ByteOrder::parse(word, u16::try_from(N / 2).unwrap()).unwrap();
        let value: [u8; N] = std::array::from_fn(|i| b'A' + u8::try_from(i).unwrap());
        String::from_utf8(order.apply(value).to_vec()).unwrap()
    }

    #[test]
    fn every_order_of_letters_lays_the_bytes_as_its_letters_say() {
        for word in ["AB", "BA"] {
            assert_eq!(letters::<2>(word), word);
        }
        for word in ["ABCD", "CDAB", "BADC", "DCBA"] {
            assert_eq!(letters::<4>(word), word);
        }
        for (word, _) in LONG_WORDS {
            assert_eq!(letters::<8>(word), *word);
        }
    }

    #[test]
    fn four_letters_keep_their_sense_for_other_widths() {
        assert_eq!(letters::<8>("CDAB"), "GHEFCDAB");
        assert_eq!(letters::<8>("little"), "HGFEDCBA");
        assert_eq!(letters::<2>("CDAB"), "AB");
        assert_eq!(letters::<2>("DCBA"), "BA");
        assert_eq!(ByteOrder::parse("ABCDEFGH", 2), None);
        assert_eq!(ByteOrder::parse("AB", 2), None);
    }

    #[test]
    fn an_order_is_its_own_inverse() {
        for (_, order) in LONG_WORDS {
            let value = [1, 2, 3, 4, 5, 6, 7, 8];
            assert_eq!(order.apply(order.apply(value)), value);
        }
    }
}
