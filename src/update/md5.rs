//! PURE. MD5 (RFC 1321), only because the cloud sends it beside a file: it tells damage apart from a whole file, and
//! proves nothing of who made it.

/// Shifts of the four rounds.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// Takes bytes in any portions.
pub struct Md5 {
    state: [u32; 4],
    sines: [u32; 64],
    block: Vec<u8>,
    length: u64,
}

impl Default for Md5 {
    fn default() -> Md5 {
        let mut sines = [0; 64];
        for (at, sine) in (1u32..).zip(&mut sines) {
            // RFC 1321, 3.4: the integer part of 2^32 times the sine, in radians.
            *sine = (f64::from(at).sin().abs() * 4_294_967_296.0) as u32;
        }
        Md5 { state: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476], sines, block: Vec::new(), length: 0 }
    }
}

impl Md5 {
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if !self.block.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(64 - self.block.len()));
            self.block.extend(head);
            bytes = rest;
            if self.block.len() == 64 {
                let block = std::mem::take(&mut self.block);
                self.mix(&block);
            }
        }
        if !bytes.is_empty() {
            let blocks = bytes.chunks_exact(64);
            let rest = blocks.remainder();
            blocks.for_each(|block| self.mix(block));
            self.block.extend(rest);
        }
    }

    /// In lower-case hex.
    #[must_use]
    pub fn finish(mut self) -> String {
        let bits = self.length.wrapping_mul(8).to_le_bytes();
        let zeros = (119 - self.block.len() % 64) % 64;
        let padding: Vec<u8> = std::iter::once(0x80).chain(std::iter::repeat_n(0, zeros)).chain(bits).collect();
        self.update(&padding);
        self.state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
    }

    fn mix(&mut self, block: &[u8]) {
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let [mut a, mut b, mut c, mut d] = self.state;
        for at in 0..64 {
            let (mixed, from) = match at / 16 {
                0 => ((b & c) | (!b & d), at),
                1 => ((d & b) | (!d & c), (5 * at + 1) % 16),
                2 => (b ^ c ^ d, (3 * at + 5) % 16),
                _ => (c ^ (b | !d), (7 * at) % 16),
            };
            let sum = a.wrapping_add(mixed).wrapping_add(self.sines[at]).wrapping_add(word(4 * from));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[at / 16][at % 4]));
        }
        for (word, more) in self.state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8], portion: usize) -> String {
        let mut md5 = Md5::default();
        text.chunks(portion).for_each(|part| md5.update(part));
        md5.finish()
    }

    /// RFC 1321, A.5.
    #[test]
    fn digests_are_those_of_the_standard_in_any_portions() {
        let long = b"12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        for (text, digest) in [
            (&b""[..], "d41d8cd98f00b204e9800998ecf8427e"),
            (b"a", "0cc175b9c0f1b6a831c399e269772661"),
            (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (long, "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            for portion in [1, 7, 63, 64, 65, 1000] {
                assert_eq!(of(text, portion), digest);
            }
        }
        assert_eq!(of(&[0; 56], 56), of(&[0; 56], 5));
    }
}
