//! The digest that a command is remembered by: 128 bit of SHA-256, as fifty thousand of them are kept in memory. PURE.

use super::lines::{hex, unhex};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 16]);

impl Digest {
    pub(super) fn of(parts: &[&[u8]]) -> Digest {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&context.finish().as_ref()[..16]);
        Digest(short)
    }

    /// From its 32 digits.
    pub(super) fn parse(text: &str) -> Option<Digest> {
        unhex(text)?.try_into().ok().map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_the_first_of_sha_256_and_give_the_digest_back() {
        let digest = Digest::of(&[b"ab", b"c"]);
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for damaged in ["", "ba78", "ga7816bf8f01cfea414140de5dae2223", "ba7816bf8f01cfea414140de5dae222300"] {
            assert_eq!(Digest::parse(damaged), None, "{damaged}");
        }
    }
}
