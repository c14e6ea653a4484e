//! Finds when each lost reading was given out: ledger and meters know it between them, the gateway is not asked.

use super::verdict::{Allowance, Kill, Life, Lost, broken_promise};
use crate::meter::{FIRST_COUNTING, Given};
use crate::parts::Parts;
use std::collections::HashMap;

pub struct Found {
    pub lost: Lost,
    pub stored_and_lost: u64,
}

/// Holds what the ledger misses against the kills.
pub fn find(parts: &Parts, kills: &[Kill], lives: &[Life], allowance: Allowance) -> Found {
    let mut times = Times::new(parts);
    let holes: Vec<(String, String, i64, i64)> = parts.cloud.ledger(|ledger| {
        ledger
            .holes()
            .map(|(device, point, hole)| (device.to_owned(), point.to_owned(), hole.first, hole.last))
            .collect()
    });
    let (mut lost, mut lost_at) = (Lost::default(), Vec::new());
    for (device, point, first, last) in holes {
        let given = times.of(&device, &point);
        for count in first..=last {
            // The first reading is count 1.
            let at = usize::try_from(count - 1).ok().and_then(|nth| given.get(nth)).copied();
            lost.take(at, kills, allowance);
            lost_at.extend(at);
        }
    }
    let given_at = times.all();
    let stored_and_lost = lives.iter().map(|life| broken_promise(*life, &given_at, &lost_at)).sum();
    Found { lost, stored_and_lost }
}

/// First register and count of the answers that hold something.
type Blocks = Vec<(u16, u16)>;

/// Times of the readings of each counting register.
struct Times {
    journals: Vec<Vec<Given>>,
    /// Meter and unit of a device.
    devices: HashMap<String, (usize, u8)>,
    /// Registers of the same answers share their times.
    known: HashMap<(usize, u8, Blocks), Vec<i64>>,
    blocks: Vec<HashMap<u8, Blocks>>,
    registers: u16,
}

impl Times {
    fn new(parts: &Parts) -> Times {
        let journals: Vec<Vec<Given>> = parts.meters.iter().map(crate::meter::Meters::journal).collect();
        let blocks = journals.iter().map(|journal| distinct_blocks(journal)).collect();
        let shape = parts.shape();
        let places = (0..parts.meters.len()).flat_map(|meter| (1..=shape.units).map(move |unit| (meter, unit)));
        let devices = parts.site.devices.iter().filter(|device| device.template == "meter");
        let name = |device: &crate::site::Device| format!("{}/{}", device.triple.product_key, device.triple.device_key);
        let devices = devices.map(name).zip(places).collect();
        Times { journals, devices, known: HashMap::new(), blocks, registers: shape.registers }
    }

    fn of(&mut self, device: &str, point: &str) -> &[i64] {
        let place = self.devices.get(device).zip(point.strip_prefix('r').and_then(|n| n.parse::<u16>().ok()));
        let Some((&(meter, unit), number)) = place else { return &[] };
        self.at(meter, unit, FIRST_COUNTING + number)
    }

    fn at(&mut self, meter: usize, unit: u8, address: u16) -> &[i64] {
        let holds =
            |(first, count): &(u16, u16)| Given { unit, first: *first, count: *count, at: 0 }.holds(unit, address);
        let blocks = self.blocks[meter].get(&unit).map(Vec::as_slice).unwrap_or_default();
        let blocks: Blocks = blocks.iter().copied().filter(holds).collect();
        let journal = &self.journals[meter];
        self.known.entry((meter, unit, blocks)).or_insert_with(|| {
            journal.iter().filter(|given| given.holds(unit, address)).map(|given| given.at).collect()
        })
    }

    /// One entry a reading.
    fn all(&self) -> Vec<i64> {
        let counting = FIRST_COUNTING..FIRST_COUNTING + self.registers;
        let readings = |given: &Given| {
            let end = given.first.saturating_add(given.count).min(counting.end);
            end.saturating_sub(given.first.max(counting.start))
        };
        let all = self.journals.iter().flatten();
        all.flat_map(|given| std::iter::repeat_n(given.at, readings(given).into())).collect()
    }
}

fn distinct_blocks(journal: &[Given]) -> HashMap<u8, Blocks> {
    let mut blocks: HashMap<u8, Blocks> = HashMap::new();
    for given in journal {
        let known = blocks.entry(given.unit).or_default();
        if !known.contains(&(given.first, given.count)) {
            known.push((given.first, given.count));
        }
    }
    blocks
}
