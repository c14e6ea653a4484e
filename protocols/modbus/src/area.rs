//! The four tables of a Modbus device and the functions that reach them. PURE.

/// A table of the device (Modbus Application Protocol 1.1b3, clause 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    Holding,
    Input,
    Coil,
    Discrete,
}

/// Words a point table or parameter may use, the preferred one first.
pub const AREA_WORDS: &[(&str, Area)] = &[
    ("holding", Area::Holding),
    ("input", Area::Input),
    ("coil", Area::Coil),
    ("discrete", Area::Discrete),
    ("3", Area::Holding),
    ("4", Area::Input),
    ("1", Area::Coil),
    ("2", Area::Discrete),
    ("03", Area::Holding),
    ("04", Area::Input),
    ("01", Area::Coil),
    ("02", Area::Discrete),
    ("holding_register", Area::Holding),
    ("input_register", Area::Input),
    ("discrete_input", Area::Discrete),
    ("coils", Area::Coil),
];

impl Area {
    #[must_use]
    pub fn parse(word: &str) -> Option<Area> {
        let word = word.trim();
        AREA_WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, a)| *a)
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        AREA_WORDS[self as usize].0
    }

    /// The function that reads it (clauses 6.1 to 6.4).
    #[must_use]
    pub fn read_function(self) -> u8 {
        match self {
            Area::Holding => 3,
            Area::Input => 4,
            Area::Coil => 1,
            Area::Discrete => 2,
        }
    }

    /// One bit an address instead of one register.
    #[must_use]
    pub fn is_bits(self) -> bool {
        matches!(self, Area::Coil | Area::Discrete)
    }

    #[must_use]
    pub fn is_read_only(self) -> bool {
        matches!(self, Area::Input | Area::Discrete)
    }

    /// Bytes of data in the answer to a read of `count` addresses.
    #[must_use]
    pub fn data_len(self, count: u16) -> usize {
        if self.is_bits() { usize::from(count).div_ceil(8) } else { usize::from(count) * 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_named_by_word_or_read_function() {
        for area in [Area::Holding, Area::Input, Area::Coil, Area::Discrete] {
            assert_eq!(Area::parse(area.word()), Some(area));
            assert_eq!(Area::parse(&area.read_function().to_string()), Some(area));
        }
        assert_eq!(Area::parse("5"), None);
    }
}
