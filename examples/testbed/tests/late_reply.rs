//! A device that answers after the time-out never puts a wrong value with good quality anywhere.
//!
//! Real time and real ends: a TCP socket and a pseudo-terminal pair. Every register holds its unit
//! and its own address, so a value at the wrong point is seen. The delays are the device's.

mod meter_line;

use driver::{Datum, Plan, PointTable, Silent, Value};
use meter_line::{UNIT, plan, table};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::meter::{Area, Faults, Meters, Pattern, address_value};

/// Random delays on TCP and on the serial line; the variants below get fewer.
const ROUNDS: usize = 1000;
const FEWER: usize = 300;

#[derive(Debug, Default)]
struct Count {
    reads: usize,
    timeouts: usize,
    other_ends: usize,
    good: usize,
    bad: usize,
    wrong: usize,
}

/// Reads one block after another, in a new session after each failure, without any pause.
async fn run(name: &str, plan: Arc<dyn Plan>, table: Arc<PointTable>, rounds: usize) -> Count {
    let mut count = Count::default();
    let started = Instant::now();
    let mut session = None;
    let mut samples = Vec::new();
    while count.reads < rounds {
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

fn check(count: &Count) {
    let enough = count.reads / 20;
    assert_eq!(count.wrong, 0, "a late answer became a value: {count:?}");
    assert!(count.timeouts >= enough, "the delays were to cause time-outs: {count:?}");
    assert!(count.good >= enough, "some answers were to come in time: {count:?}");
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_never_becomes_a_value_on_tcp() {
    let meters = Meters::tcp().await.unwrap();
    meters.set_faults(UNIT, Faults::late(MS, 9 * MS));
    let (port, table) = (meters.address().port().to_string(), table(4));
    let parameters = [("host", "127.0.0.1"), ("port", port.as_str()), ("timeout_ms", "5")];
    check(&run("tcp", plan("modbus-tcp", &parameters, &table), table, ROUNDS).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_never_becomes_a_value_on_rtu_over_tcp() {
    let meters = Meters::rtu_over_tcp().await.unwrap();
    meters.set_faults(UNIT, Faults::late(MS, 9 * MS));
    let (port, table) = (meters.address().port().to_string(), table(4));
    let parameters = [("host", "127.0.0.1"), ("port", port.as_str()), ("timeout_ms", "5")];
    check(&run("rtu-over-tcp", plan("modbus-rtu-over-tcp", &parameters, &table), table, FEWER).await);
}

async fn on_a_line(name: &str, to: Duration, block: u16, rounds: usize) {
    let meters = Meters::serial(1..=247, Pattern::Address).unwrap();
    meters.set_faults(UNIT, Faults::late(MS, to));
    let (path, table) = (meters.path().to_str().unwrap().to_owned(), table(block));
    let parameters = [("serial_port", path.as_str()), ("baud_rate", "115200"), ("timeout_ms", "5")];
    check(&run(name, plan("modbus-rtu", &parameters, &table), table, rounds).await);
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
