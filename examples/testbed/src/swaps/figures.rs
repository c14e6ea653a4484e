//! What the swap story found, and which promises it breaks.

use super::name;
use super::orders::Answers;
use crate::bench::process;
use crate::cloud::Cloud;
use crate::site::Device;
use serde::Serialize;
use serde_json::Value;

/// Growth of memory that is no leak: the cloud link's buffers find their size, and each thread has its stack.
const GROWTH_KB: u64 = 4 << 10;
/// Blocking work takes another thread when one is busy; an idle one ends by itself after a second.
const THREADS: usize = 1;
/// A visitor at the door, a file of the store.
const FILES: usize = 2;
/// Tasks that may happen to be under way at the second look and not at the first.
const TASKS: u64 = 4;

/// What the operating system and the gateway say of its process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Process {
    pub rss_kb: u64,
    pub files: usize,
    pub threads: usize,
    pub tasks: u64,
}

impl Process {
    pub fn look(pid: u32, status: &Value) -> anyhow::Result<Process> {
        let (threads, files) = process::handles(pid)?;
        let rss_kb = process::memory(pid)?.0 / 1024;
        Ok(Process { rss_kb, files, threads, tasks: status["tasks"].as_u64().unwrap_or_default() })
    }
}

impl Process {
    /// The least of both: work that is under way holds memory and threads for a moment.
    #[must_use]
    pub fn least(self, other: Process) -> Process {
        Process {
            rss_kb: self.rss_kb.min(other.rss_kb),
            files: self.files.min(other.files),
            threads: self.threads.min(other.threads),
            tasks: self.tasks.min(other.tasks),
        }
    }

    /// Whether so many threads later are no leak.
    #[must_use]
    pub fn may_have(&self, threads: usize) -> bool {
        threads <= self.threads + THREADS
    }
}

/// Milliseconds, collected.
#[derive(Default)]
pub struct Times(Vec<f64>);

#[derive(Debug, Default, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Times {
    pub fn add(&mut self, ms: f64) {
        self.0.push(ms);
    }

    pub fn figures(mut self) -> Spread {
        self.0.sort_by(f64::total_cmp);
        let at = |share: usize| self.0.get((self.0.len() * share / 100).min(self.0.len().saturating_sub(1)));
        let ms = |share: usize| at(share).map_or(0.0, |ms| (ms * 100.0).round() / 100.0);
        Spread { p50: ms(50), p99: ms(99), max: ms(100) }
    }
}

#[derive(Debug, Default, Serialize)]
pub struct Figures {
    pub swaps: usize,
    pub seconds: u64,
    pub values_per_second: u64,
    pub period_ms: u64,
    pub delivered: u64,
    pub lost_of_unchanged: u64,
    pub lost_of_changing: u64,
    pub duplicated: u64,
    pub repeated: u64,
    pub dropped: u64,
    pub set_aside: u64,
    pub modbus_connections_accepted_each: u64,
    pub opcua_connections_since_first_swap: u64,
    pub sessions_of_unchanged_lines: u64,
    pub learned: usize,
    pub learned_forgotten: usize,
    pub timeouts: u64,
    pub skipped_without_swaps: u64,
    pub skipped: u64,
    pub most_skipped_at_a_swap: u64,
    pub may_skip: u64,
    pub longest_gap_without_swaps_ms: i64,
    pub longest_gap_ms: i64,
    pub not_kept: u64,
    pub cut_off: u64,
    pub commands: Answers,
    /// From the request to the answer that the new package runs.
    pub request_ms: Spread,
    /// Of that: taken over, checked, made a generation.
    pub prepared_ms: Spread,
    /// Of that: applied to all parts.
    pub switched_ms: Spread,
    /// Resident on the way.
    pub rss_kb: Vec<u64>,
    pub first: Process,
    pub last: Process,
}

impl Figures {
    pub fn ledger(&mut self, cloud: &Cloud, changing: &[Device]) {
        let changing: Vec<String> = changing.iter().map(name).collect();
        cloud.ledger(|ledger| {
            let totals = ledger.totals();
            (self.delivered, self.duplicated, self.repeated) = (totals.delivered, totals.duplicated, totals.repeated);
            for (device, _, hole) in ledger.holes() {
                if changing.iter().any(|name| name == device) {
                    self.lost_of_changing += hole.count();
                } else {
                    self.lost_of_unchanged += hole.count();
                }
            }
        });
    }

    /// Every promise that does not hold.
    pub fn faults(&self) -> Vec<String> {
        let commands = &self.commands;
        let zeros = [
            ("readings of unchanged devices lost", self.lost_of_unchanged),
            ("readings of the changing line lost", self.lost_of_changing),
            ("readings twice", self.duplicated),
            ("values under a wrong time", self.repeated),
            ("readings dropped", self.dropped),
            ("readings set aside", self.set_aside),
            ("OPC UA connections made anew", self.opcua_connections_since_first_swap),
            ("Modbus connections made anew", self.modbus_connections_accepted_each.saturating_sub(1)),
            ("sessions made anew", self.sessions_of_unchanged_lines.saturating_sub(1)),
            ("learned limits forgotten", self.learned_forgotten as u64),
            ("unchanged lines started anew", self.not_kept),
            ("lines cut off", self.cut_off),
            ("periods missed at a swap over what may be", self.most_skipped_at_a_swap.saturating_sub(self.may_skip)),
            ("commands without an answer", commands.missing),
            ("commands answered twice", commands.twice),
            ("commands carried out twice", commands.written_twice),
            ("commands answered and not carried out", commands.not_written),
            ("commands refused by unchanged devices", commands.kept_refused),
            ("open files left over", self.last.files.saturating_sub(self.first.files + FILES) as u64),
            ("threads left over", self.last.threads.saturating_sub(self.first.threads + THREADS) as u64),
            ("tasks left over", self.last.tasks.saturating_sub(self.first.tasks + TASKS)),
            ("kB of memory left over", self.last.rss_kb.saturating_sub(self.first.rss_kb + GROWTH_KB)),
        ];
        let broken = zeros.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
        let none =
            [("delivered", self.delivered), ("commands answered", commands.answered), ("learned", self.learned as u64)];
        broken.chain(none.iter().filter(|(_, count)| *count == 0).map(|(what, _)| format!("nothing {what}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_named_and_a_sound_run_names_none() {
        let sound = || Figures {
            delivered: 5,
            learned: 1,
            modbus_connections_accepted_each: 1,
            sessions_of_unchanged_lines: 1,
            commands: Answers { answered: 1, ..Answers::default() },
            ..Figures::default()
        };
        assert_eq!(sound().faults(), Vec::<String>::new());
        let lost = Figures { lost_of_unchanged: 3, modbus_connections_accepted_each: 2, ..sound() };
        assert_eq!(lost.faults(), ["3 readings of unchanged devices lost", "1 Modbus connections made anew"]);
        assert_eq!(Figures { delivered: 0, ..sound() }.faults(), ["nothing delivered"]);
        let leak = Process { rss_kb: 2 * GROWTH_KB, ..Process::default() };
        assert_eq!(Figures { last: leak, ..sound() }.faults(), [format!("{GROWTH_KB} kB of memory left over")]);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut times = Times::default();
        (0..200).rev().for_each(|ms| times.add(f64::from(ms)));
        let Spread { p50, p99, max } = times.figures();
        assert_eq!((p50, p99, max), (100.0, 198.0, 199.0));
    }
}
