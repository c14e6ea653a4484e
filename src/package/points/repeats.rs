//! PURE. Finds point numbers that occur twice, with twelve bytes a row instead of a text.

use driver::{PointKind, PointTable};
use std::hash::{BuildHasher, RandomState};

/// Remembers a hash of each number. Its key is random, so that no file can be made to collide.
pub struct Repeats {
    hasher: RandomState,
    /// Hash, and row of the table.
    seen: Vec<(u64, u32)>,
}

impl Repeats {
    pub fn new() -> Repeats {
        Repeats { hasher: RandomState::new(), seen: Vec::new() }
    }

    pub fn add(&mut self, row: u32, kind: PointKind, number: &str) {
        self.seen.push((self.hasher.hash_one((kind, number)), row));
    }

    /// Rows whose kind and number occurred before, each with the first row that has them, in the order of the file.
    pub fn find(mut self, table: &PointTable) -> Vec<(u32, u32)> {
        self.seen.sort_unstable();
        let mut found = Vec::new();
        for group in self.seen.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
            for (at, (_, row)) in group.iter().enumerate().skip(1) {
                // Equal hashes are not yet equal numbers.
                if let Some((_, first)) = group[..at].iter().find(|(_, first)| same(table, *first, *row)) {
                    found.push((*row, *first));
                }
            }
        }
        found.sort_unstable();
        found
    }
}

fn same(table: &PointTable, a: u32, b: u32) -> bool {
    let (a, b) = (table.row(a as usize), table.row(b as usize));
    a.row().kind == b.row().kind && a.number() == b.number()
}
