//! PURE. Which secret the next connection is tried with.
//!
//! The one that works is kept in use. One that the cloud refuses again and again is not thrown away, only the next one
//! gets its turn: the secret before it, then the product's, which asks for a new one. So a device that was registered
//! anew in the cloud comes back by itself, and a cloud that refuses everybody for a while costs nothing.

/// CONNACK 4 or 5 in a row before another secret gets its turn. With the waits of a refused login: about four minutes.
const REFUSALS: u32 = 3;

/// What signs CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    None,
    Configured,
    Current,
    /// The one that the newest took the place of.
    Previous,
    Product,
}

impl Turn {
    pub(super) fn secure_mode(self) -> Option<u8> {
        match self {
            Turn::None => None,
            Turn::Configured | Turn::Current | Turn::Previous => Some(2),
            Turn::Product => Some(3),
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Turn::None => "no secret",
            Turn::Configured => "the device secret of the configuration",
            Turn::Current => "the activated device secret",
            Turn::Previous => "the device secret before it",
            Turn::Product => "the product secret, to be activated anew",
        }
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    at: usize,
    refused: u32,
}

impl Turns {
    /// The newest device secret first.
    pub(super) fn begin(&mut self) {
        *self = Turns::default();
    }

    pub(super) fn turn(&self, choices: &[Turn]) -> Turn {
        choices.get(self.at).or(choices.first()).copied().unwrap_or(Turn::None)
    }

    /// CONNACK came for the secret whose turn it is.
    pub(super) fn answered(&mut self, choices: &[Turn], taken: bool) {
        if self.turn(choices) == Turn::Product {
            // Once in a round: whatever came of it, a device secret that is there may work again.
            self.begin();
        } else if taken {
            self.refused = 0;
        } else {
            self.refused += 1;
            if self.refused >= REFUSALS {
                *self = Turns { at: (self.at + 1) % choices.len().max(1), refused: 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(choices: &[Turn], answers: &[bool]) -> Vec<Turn> {
        let mut turns = Turns::default();
        let mut seen = vec![turns.turn(choices)];
        for taken in answers {
            turns.answered(choices, *taken);
            seen.push(turns.turn(choices));
        }
        seen
    }

    #[test]
    fn a_secret_that_is_refused_three_times_lets_the_product_s_have_one_turn() {
        let choices = [Turn::Current, Turn::Product];
        use Turn::{Current, Product};
        assert_eq!(story(&choices, &[false; 5]), [Current, Current, Current, Product, Current, Current]);
        assert_eq!(story(&choices, &[false, false, false, true]), [Current, Current, Current, Product, Current]);
    }

    #[test]
    fn a_login_that_is_taken_forgets_earlier_refusals() {
        let choices = [Turn::Current, Turn::Previous, Turn::Product];
        let seen = story(&choices, &[false, false, true, false, false]);
        assert!(seen.iter().all(|turn| *turn == Turn::Current), "{seen:?}");
        let seen = story(&choices, &[false, false, false, true, true]);
        assert_eq!(seen[3..], [Turn::Previous; 3], "the one that works stays");
    }

    #[test]
    fn without_another_the_only_secret_is_tried_for_ever() {
        for only in [Turn::Configured, Turn::Current, Turn::Product] {
            assert!(story(&[only], &[false; 10]).iter().all(|turn| *turn == only));
        }
        assert_eq!(story(&[], &[false; 4]), [Turn::None; 5]);
    }
}
