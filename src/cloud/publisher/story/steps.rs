//! What may happen, by chance, and how a gateway may be set up.

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Readings of these (device, point) come into the outbox, so many seconds old.
    Append {
        readings: Vec<(u32, u32)>,
        age: u8,
    },
    /// The session takes what it wants and sends what it may.
    Work,
    /// The cloud answers a message it has, with this code; `None`: it swallowed it.
    Answer {
        which: usize,
        code: Option<i64>,
    },
    /// The broker has a message; what the cloud makes of it is still open.
    Puback {
        which: usize,
    },
    /// An answer comes a second time, or to something never sent.
    Again {
        which: usize,
        code: i64,
    },
    Unknown {
        id: u16,
        code: i64,
    },
    Wait {
        seconds: u8,
    },
    /// The cloud disables a device, or enables it.
    Shut {
        device: u32,
        shut: bool,
    },
    /// A device is still on its way into the topology, or has arrived.
    Absent {
        device: u32,
        absent: bool,
    },
    /// The link is lost and comes back.
    Lose,
    /// The daemon dies: the publisher is gone, the outbox hands out what was not acknowledged.
    Crash,
}

fn code() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![200, 200, 200, 200, 1204, 1008, 1212, 1009, 429, 503, 500, 99_999])
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let reading = (0u32..3, 0..POINTS);
    prop_oneof![
        4 => (prop::collection::vec(reading, 1..10), prop::sample::select(vec![0u8, 0, 20, 60]))
            .prop_map(|(readings, age)| Step::Append { readings, age }),
        6 => Just(Step::Work),
        6 => (any::<usize>(), code()).prop_map(|(which, code)| Step::Answer { which, code: Some(code) }),
        1 => any::<usize>().prop_map(|which| Step::Answer { which, code: None }),
        1 => any::<usize>().prop_map(|which| Step::Puback { which }),
        1 => (any::<usize>(), code()).prop_map(|(which, code)| Step::Again { which, code }),
        1 => (any::<u16>(), code()).prop_map(|(id, code)| Step::Unknown { id, code }),
        2 => prop::sample::select(vec![0u8, 1, 5, 31, 200]).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0u32..3, any::<bool>()).prop_map(|(device, shut)| Step::Shut { device, shut }),
        1 => (0u32..3, any::<bool>()).prop_map(|(device, absent)| Step::Absent { device, absent }),
        1 => Just(Step::Lose),
        1 => Just(Step::Crash),
    ]
}

/// How the gateway is set up.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) order: Order,
    pub(super) policy: LatePolicy,
    pub(super) acknowledge: Acknowledge,
    pub(super) slots: usize,
    pub(super) upstream: Option<u64>,
    pub(super) linger: bool,
    /// This point of device 1 never fits the cloud's model.
    pub(super) guilty: Option<u32>,
    pub(super) seed: u64,
}

pub(super) fn setup() -> impl Strategy<Value = Setup> {
    let policy = prop::sample::select(vec![
        LatePolicy::HisChannel,
        LatePolicy::HisChannel,
        LatePolicy::RealChannel,
        LatePolicy::Remove,
    ]);
    let order = prop::sample::select(vec![Order::RealTimeFirst, Order::Fifo]);
    let upstream = prop::sample::select(vec![None, Some(1_000_000), Some(2_000)]);
    (order, policy, any::<bool>(), 1usize..5, upstream, any::<bool>(), prop::option::of(0..POINTS), any::<u64>())
        .prop_map(|(order, policy, puback, slots, upstream, linger, guilty, seed)| Setup {
            order,
            policy,
            acknowledge: if puback { Acknowledge::Puback } else { Acknowledge::Reply },
            slots,
            upstream,
            linger,
            guilty,
            seed,
        })
}
