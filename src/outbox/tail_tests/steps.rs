//! What may happen to a tail, by chance, and who wants what.

use super::DESTINATIONS;
use crate::model::{AssetKind, Glob, Selection};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Of the devices in this mask, in turn.
    Append {
        readings: u32,
        devices: u32,
    },
    Live {
        to: usize,
    },
    Backlog {
        to: usize,
    },
    /// Every `nth` of what is on its way.
    Acknowledge {
        from: usize,
        nth: usize,
    },
    Link {
        of: usize,
        up: bool,
    },
    Work {
        wait_ms: u64,
        disk_works: bool,
    },
    /// Refuses the first of what is on its way, a value of it.
    SetAside {
        at: usize,
    },
    /// The first of what is on its way: its devices in this mask are not in order.
    Hold {
        at: usize,
        devices: u32,
    },
    /// One of those is well, it seems.
    Release {
        of: usize,
        device: usize,
    },
    /// The oldest held readings make room.
    DropHeld {
        disk_works: bool,
    },
    DropOldest {
        only: Option<usize>,
        disk_works: bool,
    },
    PowerCut {
        selections: usize,
    },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let to = 0..DESTINATIONS.len();
    let step = prop_oneof![
        6 => (1u32..40, 1u32..8).prop_map(|(readings, devices)| Step::Append { readings, devices }),
        3 => to.clone().prop_map(|to| Step::Live { to }),
        3 => to.clone().prop_map(|to| Step::Backlog { to }),
        3 => (to.clone(), 1usize..4).prop_map(|(from, nth)| Step::Acknowledge { from, nth }),
        1 => to.clone().prop_map(|at| Step::SetAside { at }),
        3 => (to.clone(), 1u32..8).prop_map(|(at, devices)| Step::Hold { at, devices }),
        2 => (to.clone(), 0usize..3).prop_map(|(of, device)| Step::Release { of, device }),
        1 => prop::bool::weighted(0.8).prop_map(|disk_works| Step::DropHeld { disk_works }),
        2 => (to.clone(), any::<bool>()).prop_map(|(of, up)| Step::Link { of, up }),
        6 => (0u64..700, prop::bool::weighted(0.85)).prop_map(|(wait_ms, disk_works)| Step::Work { wait_ms, disk_works }),
        1 => (prop::option::of(to), prop::bool::weighted(0.8))
            .prop_map(|(only, disk_works)| Step::DropOldest { only, disk_works }),
        1 => (0usize..3).prop_map(|selections| Step::PowerCut { selections }),
    ];
    prop::collection::vec(step, 1..160)
}

/// Everything to all; by kind, one with some points only; one that wants nothing that there is.
pub(super) fn selections(which: usize) -> Vec<Selection> {
    let points = |globs: &[&str]| globs.iter().map(|glob| Glob::new(glob)).collect::<Vec<_>>();
    match which {
        0 => vec![Selection::default(); 3],
        1 => vec![
            Selection::of_kind(AssetKind::Device),
            Selection { points: points(&["p1", "p3*"]), ..Selection::default() },
            Selection::of_kind(AssetKind::Logic),
        ],
        _ => vec![
            Selection { devices: points(&["meter"]), ..Selection::default() },
            Selection { points: points(&["nothing"]), ..Selection::default() },
            Selection::default(),
        ],
    }
}
