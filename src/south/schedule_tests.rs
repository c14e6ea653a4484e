//! Claims about the schedule, in virtual time.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn group(device: u32, period: Duration) -> ScanGroup {
    ScanGroup { device, period, pushed: false, points: vec![], patience: S }
}

/// A line in virtual time: every read takes a while, dead devices take a dead-line.
struct Line {
    schedule: Schedule,
    groups: Vec<ScanGroup>,
    dead: Vec<bool>,
    cost: Vec<Duration>,
    reads: Vec<Vec<Duration>>,
    now: Duration,
}

impl Line {
    fn new(groups: Vec<ScanGroup>, cost: Duration, seed: u64) -> Line {
        let devices = groups.iter().map(|g| g.device as usize + 1).max().unwrap();
        Line {
            schedule: Schedule::new(&groups, devices, seed),
            reads: vec![vec![]; groups.len()],
            cost: vec![cost; devices],
            dead: vec![false; devices],
            groups,
            now: Duration::ZERO,
        }
    }

    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            match self.schedule.next(self.now) {
                Turn::Read(group) => self.read(group),
                Turn::Wait(at) => {
                    assert!(at > self.now, "a wait that is over would spin");
                    self.now = at;
                }
                Turn::Idle => return,
            }
        }
    }

    fn read(&mut self, group: usize) {
        let device = self.groups[group].device as usize;
        self.schedule.started(group, self.now);
        self.reads[group].push(self.now);
        let cost = if self.dead[device] { S } else { self.cost[device] };
        self.now += cost;
        if self.dead[device] {
            self.schedule.silent(device, group, self.now, cost);
        } else {
            self.schedule.answered(device, self.now);
        }
    }

    fn worst_gap(&self, group: usize, from: Duration) -> Duration {
        let reads: Vec<_> = self.reads[group].iter().filter(|at| **at >= from).collect();
        reads.windows(2).map(|pair| *pair[1] - *pair[0]).max().unwrap_or(Duration::MAX)
    }
}

#[test]
fn a_period_does_not_drift() {
    let mut line = Line::new(vec![group(0, S)], 37 * MS, 1);
    line.run_until(S * 1000);
    let reads = &line.reads[0];
    assert_eq!(reads.len(), 1000);
    assert_eq!(reads[999] - reads[0], S * 999);
}

#[test]
fn first_scans_are_spread_and_come_within_a_period() {
    let groups: Vec<_> = (0..100).map(|d| group(d, S)).collect();
    let mut firsts: Vec<Duration> = Vec::new();
    for seed in 0..10 {
        let mut line = Line::new(groups.clone(), Duration::ZERO, seed);
        line.run_until(S);
        firsts.extend(line.reads.iter().map(|reads| reads[0]));
    }
    assert!(firsts.iter().all(|at| *at < S));
    for slice in 0..10 {
        let window = (slice * 100 * MS)..((slice + 1) * 100 * MS);
        let share = firsts.iter().filter(|at| window.contains(*at)).count();
        assert!((80..120).contains(&share), "{share} of 1000 first scans in slice {slice}");
    }
}

#[test]
fn a_slow_group_shows_its_first_value_soon() {
    let mut line = Line::new(vec![group(0, S * 900)], MS, 3);
    line.run_until(SPREAD);
    assert_eq!(line.reads[0].len(), 1);
}

#[test]
fn after_a_pause_nothing_is_made_up() {
    let mut line = Line::new(vec![group(0, S)], MS, 1);
    line.run_until(S * 10);
    line.now = S * 60 + 300 * MS;
    let before = line.reads[0].len();
    line.run_until(S * 63 + 300 * MS);
    assert!((3..=4).contains(&(line.reads[0].len() - before)), "one late scan, then the grid");
    assert_eq!(line.schedule.skipped(0) as usize + line.reads[0].len(), 64 - usize::from(line.reads[0][0] > 300 * MS));
}

#[test]
fn a_dead_device_costs_the_others_at_most_one_dead_line_a_step() {
    let mut line = Line::new((0..10).map(|d| group(d, S)).collect(), 20 * MS, 5);
    line.dead[3] = true;
    line.cost[7] = 900 * MS / 10; // slow, yet the line is not overloaded
    line.run_until(S * 600);
    for device in (0..10).filter(|d| *d != 3) {
        assert!(line.worst_gap(device, Duration::ZERO) <= S + S + 300 * MS, "device {device}");
        assert!(line.reads[device].len() >= 560, "{} scans of device {device}", line.reads[device].len());
    }
    let probes = &line.reads[3];
    assert!((10..30).contains(&probes.len()), "{} probes", probes.len());
}

#[test]
fn many_groups_of_a_dead_device_are_one_probe() {
    let mut groups: Vec<_> = (0..20).map(|_| group(0, S)).collect();
    groups.push(group(1, S));
    let mut line = Line::new(groups, MS, 5);
    line.dead[0] = true;
    line.run_until(S * 30);
    let probes: usize = line.reads[..20].iter().map(Vec::len).sum();
    assert!(probes <= 7, "{probes}");
    assert!(line.worst_gap(20, Duration::ZERO) <= 2 * S + 10 * MS);
}

#[test]
fn many_dead_devices_share_a_fifth_of_the_line() {
    let mut line = Line::new((0..20).map(|d| group(d, S)).collect(), 10 * MS, 5);
    line.dead[1..].fill(true);
    line.run_until(S * 300);
    let living = line.reads[0].iter().filter(|at| **at > S * 60).count();
    assert!(living >= 180, "{living} of 240 scans");
    assert!(line.worst_gap(0, S * 60) <= 2 * S + 100 * MS);
    for device in 1..20 {
        assert!(line.worst_gap(device, S * 60) < S * 200, "device {device} is still probed");
    }
}

#[test]
fn a_device_that_answers_again_is_read_in_full_at_once() {
    let mut line = Line::new(vec![group(0, S), group(0, S * 600)], MS, 9);
    line.run_until(S * 5);
    line.dead[0] = true;
    line.run_until(S * 40);
    line.dead[0] = false;
    let was = line.reads[0].len() + line.reads[1].len();
    line.run_until(S * 110);
    assert!(line.reads[0].len() + line.reads[1].len() > was + 25, "back on its period within the longest wait");
    assert!(!line.schedule.is_silent(0));
}

#[test]
fn pushed_groups_are_never_read() {
    let pushed = ScanGroup { pushed: true, ..group(0, S) };
    assert_eq!(Schedule::new(&[pushed], 1, 0).next(S * 9), Turn::Idle);
}

proptest! {
    #[test]
    fn no_group_starves_and_none_is_read_too_often(
        periods in prop::collection::vec(1u32..50, 1..12), cost in 0u32..300, seed in any::<u64>(),
    ) {
        let groups: Vec<_> = periods.iter().enumerate().map(|(d, p)| group(d as u32, 100 * MS * *p)).collect();
        let n = groups.len() as u32;
        let mut line = Line::new(groups, MS * cost, seed);
        let end = S * 60;
        line.run_until(end);
        for (at, period) in periods.iter().enumerate() {
            let period = 100 * MS * *period;
            let reads = &line.reads[at];
            prop_assert!(reads.len() as u128 <= end.as_nanos() / period.as_nanos() + 1);
            // Earliest due first: whatever the load, a group waits for each other group once, and a late start.
            prop_assert!(line.worst_gap(at, Duration::ZERO) <= period * 2 + MS * cost * (n + 1));
            for read in reads {
                let late = (*read - reads[0]).as_nanos() % period.as_nanos();
                prop_assert!(cost > 0 || late == 0, "an idle line keeps the grid exactly");
            }
        }
    }
}
