//! Which points are read with one request. PURE.

use crate::area::Area;
use crate::settings::Limits;

/// One point of a scan group, by the addresses it covers. Sorted by area, then address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    pub area: Area,
    pub address: u16,
    pub len: u16,
    /// Index of the point within its device.
    pub row: u32,
}

impl Item {
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.len)
    }
}

/// One request: `count` addresses from `address`, serving `items[first..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub area: Area,
    pub address: u16,
    pub count: u16,
    pub first: usize,
    pub end: usize,
}

/// The block that serves exactly `items[first..end]`, which are sorted and of one area.
#[must_use]
pub fn around(items: &[Item], first: usize, end: usize) -> Block {
    let start = items[first].address;
    let last = items[first..end].iter().map(Item::end).max().unwrap_or_default();
    let count = u16::try_from(last - u32::from(start)).expect("a block is far shorter than 65536 addresses");
    Block { area: items[first].area, address: start, count, first, end }
}

/// Merges sorted items into as few requests as limits, gaps and `forbidden` addresses allow.
///
/// `forbidden(area, from, to)` says whether an address in `from..to` must not be read along.
pub fn plan(items: &[Item], limits: &Limits, forbidden: impl Fn(Area, u32, u32) -> bool, blocks: &mut Vec<Block>) {
    blocks.clear();
    let mut first = 0;
    let mut end = 0u32;
    for (at, item) in items.iter().enumerate() {
        let from = u32::from(item.address);
        let open = first < at && {
            let start = &items[first];
            let span = item.end().max(end) - u32::from(start.address);
            start.area == item.area
                && span <= u32::from(most(limits, item.area))
                && from <= end + u32::from(gap(limits, item.area))
                && (from <= end || !forbidden(item.area, end, from))
        };
        if !open {
            if first < at {
                blocks.push(around(items, first, at));
            }
            first = at;
            end = 0;
        }
        end = end.max(item.end());
    }
    if first < items.len() {
        blocks.push(around(items, first, items.len()));
    }
}

fn most(limits: &Limits, area: Area) -> u16 {
    if area.is_bits() { limits.bits } else { limits.registers }
}

/// Sixteen bits cost as much as one register.
fn gap(limits: &Limits, area: Area) -> u16 {
    if area.is_bits() { limits.gap.saturating_mul(16) } else { limits.gap }
}

/// Where `items[first..end]` can be cut in two without a register on both sides, nearest to the
/// middle; `None` when all of them hang together.
#[must_use]
pub fn cut(items: &[Item], first: usize, end: usize) -> Option<usize> {
    let middle = usize::midpoint(first, end);
    let mut reach = 0u32;
    let mut best = None;
    for (at, item) in items.iter().enumerate().take(end).skip(first) {
        let clean = at > first && u32::from(item.address) >= reach;
        if clean && best.is_none_or(|b: usize| at.abs_diff(middle) < b.abs_diff(middle)) {
            best = Some(at);
        }
        reach = reach.max(item.end());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { registers: 125, bits: 2000, gap: 16 };

    fn items(spans: &[(u16, u16)]) -> Vec<Item> {
        let item = |(row, (address, len)): (usize, &(u16, u16))| Item {
            area: Area::Holding,
            address: *address,
            len: *len,
            row: u32::try_from(row).unwrap(),
        };
        spans.iter().enumerate().map(item).collect()
    }

    fn spans(items: &[Item], limits: Limits, holes: &[(u32, u32)]) -> Vec<(u16, u16)> {
        let mut blocks = Vec::new();
        plan(items, &limits, |_, from, to| holes.iter().any(|(a, b)| *a < to && from < *b), &mut blocks);
        blocks.iter().map(|b| (b.address, b.count)).collect()
    }

    #[test]
    fn neighbours_share_a_request_and_far_points_do_not() {
        let items = items(&[(0, 2), (2, 2), (10, 1), (60, 4)]);
        assert_eq!(spans(&items, LIMITS, &[]), [(0, 11), (60, 4)]);
        assert_eq!(spans(&items, Limits { gap: 0, ..LIMITS }, &[]), [(0, 4), (10, 1), (60, 4)]);
        assert_eq!(spans(&items, LIMITS, &[(5, 6)]), [(0, 4), (10, 1), (60, 4)]);
    }

    #[test]
    fn a_value_is_never_torn_by_the_limit() {
        let items = items(&[(0, 2), (2, 2), (4, 2)]);
        assert_eq!(spans(&items, Limits { registers: 5, ..LIMITS }, &[]), [(0, 4), (4, 2)]);
        assert_eq!(spans(&items, Limits { registers: 1, ..LIMITS }, &[]), [(0, 2), (2, 2), (4, 2)]);
    }

    #[test]
    fn a_cut_falls_between_registers_nearest_to_the_middle() {
        assert_eq!(cut(&items(&[(0, 1), (1, 1), (2, 1), (3, 1)]), 0, 4), Some(2));
        assert_eq!(cut(&items(&[(0, 1), (0, 1), (0, 1), (1, 1)]), 0, 4), Some(3));
        assert_eq!(cut(&items(&[(0, 2), (1, 2), (2, 1)]), 0, 3), None);
        assert_eq!(cut(&items(&[(0, 2)]), 0, 1), None);
    }

    fn any_items() -> impl Strategy<Value = Vec<Item>> {
        let areas = [Area::Holding, Area::Input, Area::Coil, Area::Discrete];
        proptest::collection::vec((0..4usize, prop_oneof![0..400u16, 65_000..=65_535u16], 1..=4u16), 1..200).prop_map(
            move |raw| {
                let mut items: Vec<Item> = raw
                    .into_iter()
                    .enumerate()
                    .map(|(row, (area, address, len))| Item {
                        area: areas[area],
                        address,
                        len: if area > 1 {
                            1
                        } else {
                            len.min(u16::try_from(65_536 - u32::from(address)).unwrap_or(4))
                        },
                        row: u32::try_from(row).unwrap(),
                    })
                    .collect();
                items.sort_unstable();
                items
            },
        )
    }

    proptest! {
        // The oracle reads each address alone from a device where address and area make the value.
        #[test]
        fn every_point_is_read_once_from_its_own_addresses(
            items in any_items(), registers in 4..=125u16, bits in 1..=2000u16, gap in 0..=124u16, hole in 0..400u32,
        ) {
            let limits = Limits { registers, bits, gap };
            let mut blocks = Vec::new();
            plan(&items, &limits, |_, from, to| from <= hole && hole < to, &mut blocks);
            let mut served = vec![0u8; items.len()];
            for block in &blocks {
                prop_assert!(block.count >= 1 && block.count <= most(&limits, block.area));
                prop_assert!(u32::from(block.address) + u32::from(block.count) <= 65_536);
                let device: Vec<u32> = (0..u32::from(block.count)).map(|i| u32::from(block.address) + i).collect();
                for (at, item) in items[block.first..block.end].iter().enumerate() {
                    served[block.first + at] += 1;
                    prop_assert_eq!(item.area, block.area);
                    let offset = usize::from(item.address - block.address);
                    let read = &device[offset..offset + usize::from(item.len)];
                    let oracle: Vec<u32> = (u32::from(item.address)..item.end()).collect();
                    prop_assert_eq!(read, &oracle[..]);
                }
            }
            prop_assert!(served.iter().all(|n| *n == 1));
            for block in blocks {
                let touched = items[block.first..block.end].iter().any(|i| u32::from(i.address) <= hole && hole < i.end());
                let read = u32::from(block.address) <= hole && hole < u32::from(block.address) + u32::from(block.count);
                prop_assert!(touched || !read, "a hole nobody asked for is read along");
            }
        }

        #[test]
        fn fewer_requests_than_greedy_are_impossible_without_gaps(count in 1..1000u16) {
            let items = items(&(0..count).map(|a| (a, 1)).collect::<Vec<_>>());
            prop_assert_eq!(spans(&items, LIMITS, &[]).len(), usize::from(count).div_ceil(125));
        }
    }
}
