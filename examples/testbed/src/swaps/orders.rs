//! Commands of the cloud while packages change: each with a value of its own, so that a meter tells what it was given twice.

use super::sites::SETPOINT;
use crate::cloud::{Cloud, Order};
use crate::meter::{Meters, Written};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{interval, sleep};

/// Between two commands.
const PAUSE: Duration = Duration::from_millis(100);
/// Of these one goes to the line that changes.
const CHANGING: u16 = 4;

/// Product key and device key.
pub type Keys = (String, String);

/// What became of the commands.
#[derive(Debug, Default, Serialize)]
pub struct Answers {
    pub sent: u64,
    pub answered: u64,
    pub missing: u64,
    pub twice: u64,
    /// To devices that never change, and not answered 200.
    pub kept_refused: u64,
    /// To devices that come and go, and not answered 200.
    pub changing_refused: u64,
    pub written_twice: u64,
    /// Answered 200 by a device that never changes, and not written there.
    pub not_written: u64,
}

/// Gives commands until it is aborted.
pub async fn give(cloud: Arc<Cloud>, kept: Vec<Keys>, changing: Vec<Keys>) {
    let mut pace = interval(PAUSE);
    for value in (0..u16::MAX).cycle() {
        pace.tick().await;
        let among = if value % CHANGING == 0 { &changing } else { &kept };
        let (product_key, device_key) = &among[usize::from(value) % among.len()];
        let order = Order {
            id: Some(format!("{product_key}-{value}")),
            timeout: Duration::from_secs(20),
            ..Order::new((product_key, device_key), "thing/service/measurepoint/set", json!({ "setpoint": value }))
        };
        // A device that is not in the package of the moment is offline: nothing goes out then.
        let _ = cloud.order(order);
    }
}

/// Waits until every command is answered or too late, then holds the cloud's account against the meters'.
pub async fn settle(cloud: &Cloud, kept_product: &str, meters: &[Meters], changing: &Meters) -> Answers {
    while cloud.command_report().outstanding > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    let report = cloud.command_report();
    let mut answers = Answers {
        sent: report.sent,
        answered: report.answers,
        missing: report.missing_answers,
        twice: report.duplicate_answers,
        ..Answers::default()
    };
    let written = written(meters);
    for record in cloud.command_records().iter().filter(|record| record.sent > 0) {
        let id = record.id.as_deref().unwrap_or_default();
        match (id.strip_prefix(kept_product).and_then(|rest| rest.strip_prefix('-')), record.code) {
            (Some(value), Some(200)) => {
                let value: Option<u16> = value.parse().ok();
                answers.not_written += u64::from(value.is_none_or(|value| !written.contains_key(&value)));
            }
            (Some(_), _) => answers.kept_refused += 1,
            (None, Some(200)) => {}
            (None, _) => answers.changing_refused += 1,
        }
    }
    let twice = |written: &HashMap<u16, u64>| written.values().filter(|times| **times > 1).count() as u64;
    answers.written_twice = twice(&written) + twice(&self::written(std::slice::from_ref(changing)));
    answers
}

/// Each value and how often it was written.
fn written(meters: &[Meters]) -> HashMap<u16, u64> {
    let mut times = HashMap::new();
    for Written { address, value, .. } in meters.iter().flat_map(Meters::writes) {
        if address == SETPOINT {
            *times.entry(value).or_default() += 1;
        }
    }
    times
}
