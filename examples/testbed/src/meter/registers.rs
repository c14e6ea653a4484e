//! What the registers of the stand-in devices hold.

use super::journal::Journal;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    Coil,
    Discrete,
    Holding,
    Input,
}

/// What nobody wrote yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Unit, area and address make the value: see [`address_value`].
    #[default]
    Address,
    /// Seconds since the start plus the address.
    Counter,
    /// Registers 2n and 2n+1 are a float (ABCD) that swings around 230.
    Wave,
    /// Below [`FIRST_COUNTING`] as `Wave`; from there on each holding register counts how often it was read, so
    /// that a ledger can tell a reading that got lost.
    Reads,
}

/// The first register that counts under [`Pattern::Reads`].
pub const FIRST_COUNTING: u16 = 1000;

/// The value of a register under [`Pattern::Address`]: no two addresses of an area share it, and
/// the same address differs from unit to unit. A coil or discrete input is on when it has an odd
/// number of ones.
#[must_use]
pub fn address_value(unit: u8, area: Area, address: u16) -> u16 {
    let tag = match area {
        Area::Holding => 0,
        Area::Input => 0x5AA5,
        Area::Coil => 0x1357,
        Area::Discrete => 0x2468,
    };
    address ^ u16::from(unit) << 8 ^ tag
}

/// The registers of all units.
#[derive(Debug)]
pub(super) struct Registers {
    pattern: Pattern,
    started: Instant,
    written: Mutex<HashMap<(u8, Area, u16), u16>>,
    /// Spares the lock while nothing was written.
    any_written: AtomicBool,
    reads: Reads,
    pub(super) journal: Journal,
}

/// How often each holding register was read, unit by unit.
#[derive(Debug)]
struct Reads(Box<[OnceLock<Box<[AtomicU16]>>]>);

impl Reads {
    fn new() -> Reads {
        Reads((0..256).map(|_| OnceLock::new()).collect())
    }

    fn of(&self, unit: u8, address: u16) -> &AtomicU16 {
        let registers = self.0[usize::from(unit)].get_or_init(|| (0..=u16::MAX).map(|_| AtomicU16::new(0)).collect());
        &registers[usize::from(address)]
    }
}

impl Registers {
    pub(super) fn new(pattern: Pattern) -> Registers {
        let written = Mutex::new(HashMap::new());
        Registers {
            pattern,
            started: Instant::now(),
            written,
            any_written: AtomicBool::new(false),
            reads: Reads::new(),
            journal: Journal::default(),
        }
    }

    pub(super) fn write(&self, unit: u8, area: Area, address: u16, value: u16) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert((unit, area, address), value);
        self.any_written.store(true, Ordering::Release);
    }

    pub(super) fn read(&self, unit: u8, area: Area, address: u16) -> u16 {
        if self.any_written.load(Ordering::Acquire) {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(value) = written.get(&(unit, area, address)) {
                return *value;
            }
        }
        match self.pattern {
            Pattern::Address => address_value(unit, area, address),
            #[expect(clippy::cast_possible_truncation, reason = "a counter that wraps")]
            Pattern::Counter => (self.started.elapsed().as_secs() as u16).wrapping_add(address),
            Pattern::Reads if area == Area::Holding && address >= FIRST_COUNTING => {
                self.reads.of(unit, address).fetch_add(1, Ordering::Relaxed).wrapping_add(1)
            }
            Pattern::Wave | Pattern::Reads => self.wave(unit, address),
        }
    }

    /// How often a holding register was read under [`Pattern::Reads`], modulo 65536.
    pub(super) fn reads(&self, unit: u8, address: u16) -> u16 {
        self.reads.of(unit, address).load(Ordering::Relaxed)
    }

    pub(super) fn is_on(&self, unit: u8, area: Area, address: u16) -> bool {
        self.read(unit, area, address).count_ones() % 2 == 1
    }

    fn wave(&self, unit: u8, address: u16) -> u16 {
        let phase = f32::from(address / 2) + f32::from(unit) * 0.1;
        let value = 230.0 + 10.0 * (self.started.elapsed().as_secs_f32() / 10.0 + phase).sin();
        let bits = value.to_bits();
        let half = if address.is_multiple_of(2) { bits >> 16 } else { bits & 0xFFFF };
        u16::try_from(half).expect("invariant: half of 32 bits")
    }
}
