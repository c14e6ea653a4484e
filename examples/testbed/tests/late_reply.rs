//! A device that answers after the time-out never puts a wrong value with good quality anywhere.
//!
//! Real time and real ends: a TCP socket and a pseudo-terminal pair. Every register holds its unit
//! and its own address, so a value at the wrong point is seen. The delays are the device's; on a busy
//! machine they are turned until some answers are late and some are not, or nothing would be proven.

mod meter_line;

use driver::{Datum, Plan, PointTable, Silent, Value};
use meter_line::{UNIT, plan, table};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::meter::{Area, Faults, Meters, Pattern, address_value};

/// Random delays on TCP and on the serial line; the variants below get fewer.
const ROUNDS: usize = 1000;
const FEWER: usize = 300;
/// Of all reads at least this share must time out, and as many must be answered in time.
const SHARE: usize = 20;
/// Reads after which the delays are looked at again.
const LOOK: usize = 50;
/// A machine that has not shown enough of both by then shows nothing.
const LONGEST: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Count {
    reads: usize,
    timeouts: usize,
    other_ends: usize,
    /// Reads that were answered in time.
    answers: usize,
    good: usize,
    bad: usize,
    wrong: usize,
}

impl Count {
    fn is_enough(&self, rounds: usize) -> bool {
        self.reads >= rounds && self.timeouts.min(self.answers) >= self.reads / SHARE
    }
}

/// The longest delay of the device: longer when next to nothing is late, shorter when next to all is.
struct Delays<'a> {
    meters: &'a Meters,
    longest: Duration,
    looked: (usize, usize, usize),
}

impl<'a> Delays<'a> {
    fn new(meters: &'a Meters, longest: Duration) -> Delays<'a> {
        meters.set_faults(UNIT, Faults::late(MS, longest));
        Delays { meters, longest, looked: (0, 0, 0) }
    }

    fn look(&mut self, count: &Count) {
        let (reads, timeouts, answers) = self.looked;
        if count.reads < reads + LOOK {
            return;
        }
        let wanted = LOOK / SHARE * 2;
        if count.timeouts - timeouts < wanted {
            self.longest = (self.longest * 3 / 2).min(100 * MS);
        } else if count.answers - answers < wanted {
            self.longest = (self.longest * 2 / 3).max(2 * MS);
        }
        self.meters.set_faults(UNIT, Faults::late(MS, self.longest));
        self.looked = (count.reads, count.timeouts, count.answers);
    }
}

/// Reads one block after another, in a new session after each failure, without any pause.
async fn run(name: &str, plan: Arc<dyn Plan>, table: Arc<PointTable>, rounds: usize, mut delays: Delays<'_>) -> Count {
    let mut count = Count::default();
    let started = Instant::now();
    let mut session = None;
    let mut samples = Vec::new();
    while !count.is_enough(rounds) && started.elapsed() < LONGEST {
        delays.look(&count);
        let mut open = match session.take() {
            Some(open) => open,
            None => match plan.connect(Arc::new(Silent)).await {
                Ok(open) => open,
                Err(_) => {
                    count.other_ends += 1;
                    continue;
                }
            },
        };
        samples.clear();
        let result = open.read(count.reads % plan.scan_groups().len(), &mut samples).await;
        // A session that refuses to ask is no round: the device had no chance to be late.
        count.reads += usize::from(matches!(result, Ok(()) | Err(driver::SessionError::Timeout(_))));
        count.answers += usize::from(result.is_ok());
        for sample in &samples {
            let address: u16 = table.row(sample.point as usize).number().parse().expect("a number");
            let expected = Value::Int(i64::from(address_value(UNIT, Area::Holding, address)));
            match &sample.datum {
                Datum::Good(value) if *value == expected => count.good += 1,
                Datum::Good(_) | Datum::Uncertain(..) => count.wrong += 1,
                Datum::Bad(_) => count.bad += 1,
            }
        }
        match result {
            Ok(()) => session = Some(open),
            Err(error) => {
                assert!(error.ends_session(), "{error}");
                match error {
                    driver::SessionError::Timeout(_) => count.timeouts += 1,
                    _ => count.other_ends += 1,
                }
                // Every other time the session is dropped as by a cancelled task.
                if count.timeouts.is_multiple_of(2) {
                    open.close().await;
                }
            }
        }
    }
    eprintln!("{name}: {count:?} in {:?}", started.elapsed());
    count
}

fn check(count: &Count, rounds: usize) {
    assert_eq!(count.wrong, 0, "a late answer became a value: {count:?}");
    assert!(count.is_enough(rounds), "some answers were to be late and some were not, within {LONGEST:?}: {count:?}");
    assert!(count.good >= count.reads / SHARE, "answers in time were to be values: {count:?}");
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_never_becomes_a_value_on_tcp() {
    let meters = Meters::tcp().await.unwrap();
    let (port, table) = (meters.address().port().to_string(), table(4));
    let parameters = [("host", "127.0.0.1"), ("port", port.as_str()), ("timeout_ms", "5")];
    let delays = Delays::new(&meters, 9 * MS);
    check(&run("tcp", plan("modbus-tcp", &parameters, &table), table, ROUNDS, delays).await, ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_never_becomes_a_value_on_rtu_over_tcp() {
    let meters = Meters::rtu_over_tcp().await.unwrap();
    let (port, table) = (meters.address().port().to_string(), table(4));
    let parameters = [("host", "127.0.0.1"), ("port", port.as_str()), ("timeout_ms", "5")];
    let delays = Delays::new(&meters, 9 * MS);
    check(&run("rtu-over-tcp", plan("modbus-rtu-over-tcp", &parameters, &table), table, FEWER, delays).await, FEWER);
}

async fn on_a_line(name: &str, to: Duration, block: u16, rounds: usize) {
    let meters = Meters::serial(1..=247, Pattern::Address).expect("a pseudo-terminal pair");
    let (path, table) = (meters.path().to_str().expect("paths of pseudo-terminals are plain").to_owned(), table(block));
    let parameters = [("serial_port", path.as_str()), ("baud_rate", "115200"), ("timeout_ms", "5")];
    let delays = Delays::new(&meters, to);
    check(&run(name, plan("modbus-rtu", &parameters, &table), table, rounds, delays).await, rounds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_never_becomes_a_value_on_a_serial_line() {
    on_a_line("rtu, 1-10 ms late", 10 * MS, 4, ROUNDS).await;
}

/// Later than any quarantine that follows from the time-out: only the barrier helps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_later_than_the_quarantine_never_becomes_a_value() {
    on_a_line("rtu, 1-35 ms late", 35 * MS, 4, FEWER).await;
}

/// Single registers, whose barrier can not ask for fewer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_one_register_never_becomes_another_ones_value() {
    on_a_line("rtu, one register, 1-20 ms late", 20 * MS, 1, FEWER).await;
}
