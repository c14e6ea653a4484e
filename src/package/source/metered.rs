//! Counts bytes on both sides of a decompressor, and stops one that unfolds too far.

use super::Limits;
use crate::model::progress::Progress;
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// Counts the packed bytes a decompressor takes.
pub struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R> Counted<R> {
    pub fn new(inner: R) -> Counted<R> {
        Counted { inner, count: Rc::new(Cell::new(0)) }
    }

    pub fn count(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.set(self.count.get() + got as u64);
        Ok(got)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.count.set(self.count.get() + amount as u64);
        self.inner.consume(amount);
    }
}

/// Tells how much was read.
pub struct Watched<R> {
    inner: R,
    progress: Progress,
}

impl<R> Watched<R> {
    pub fn new(inner: R, progress: &Progress) -> Watched<R> {
        Watched { inner, progress: progress.clone() }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.progress.add(got as u64);
        Ok(got)
    }
}

/// Gives out unpacked bytes while they stay within reason: of the packed ones, and in all.
pub struct Metered<R> {
    pub inner: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    ratio: u64,
    most: u64,
}

impl<R: Read> Metered<R> {
    pub fn new(inner: R, packed: Rc<Cell<u64>>, limits: &Limits) -> Metered<R> {
        // Headers and padding of a tar come on top of the files: half as much again, generously.
        let most = limits.total_bytes + limits.total_bytes / 2 + (limits.files as u64) * 2048;
        Metered { inner, packed, unpacked: 0, ratio: limits.ratio, most }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.unpacked += got as u64;
        if self.unpacked > Limits::RATIO_FLOOR && self.unpacked / self.ratio > self.packed.get() {
            return Err(io::Error::other(format!("unpacks to more than {} times its size", self.ratio)));
        }
        if self.unpacked > self.most {
            return Err(io::Error::other(format!("unpacks to more than {} bytes", self.most)));
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_stops_near_the_floor() {
        let mut bomb = Metered::new(io::repeat(0), Rc::new(Cell::new(1000)), &Limits::default());
        let refusal = io::copy(&mut bomb, &mut io::sink()).expect_err("refused");
        assert!(refusal.to_string().contains("more than 250 times"), "{refusal}");
        assert!(bomb.unpacked < Limits::RATIO_FLOOR + 100_000);
    }
}
