//! What is told again and again at an outward door: values, raw frames, log lines and the flow of data. Each watch is a
//! task; what the visitor is too slow for is dropped and counted, so that collection never waits for him.

use super::pace::{Line, Pace};
use crate::logs;
use crate::operate::{Gateway, Refusal};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Watches of one visitor.
const MOST: usize = 8;
/// Values of one watch: more is the work of a destination.
const MOST_VALUES: usize = 10_000;
/// Lines that wait to be sent; a further one is dropped and counted.
pub(super) const QUEUE: usize = 256;

/// The watches of one conversation; they end with it.
pub(super) struct Watches {
    running: HashMap<u64, AbortHandle>,
    out: mpsc::Sender<Line>,
    waiting: Arc<AtomicUsize>,
    pace: Arc<Pace>,
}

impl Watches {
    /// What they tell goes there.
    pub fn new(out: mpsc::Sender<Line>, pace: Arc<Pace>) -> Watches {
        Watches { running: HashMap::new(), out, waiting: Arc::default(), pace }
    }

    /// Begins one, which tells under the number of its request.
    pub fn start(&mut self, n: Option<u64>, arguments: &Json, gateway: &Arc<dyn Gateway>) -> Result<Json, Refusal> {
        let n = n.ok_or_else(|| Refusal::new("missing_argument", "a watch wants a number: `n`"))?;
        self.running.retain(|_, task| !task.is_finished());
        if self.running.contains_key(&n) {
            return Err(Refusal::new("bad_argument", format!("watch {n} is running already")));
        }
        if self.running.len() >= MOST {
            return Err(Refusal::new("busy", format!("{MOST} watches are running; stop one")));
        }
        let what = arguments["what"].as_str().unwrap_or_default();
        let teller = Teller { n, out: self.out.clone(), waiting: Arc::clone(&self.waiting), lost: 0 };
        let gateway = Arc::clone(gateway);
        let task = match what {
            "values" => {
                let filter = arguments["filter"].as_str().unwrap_or_default().to_owned();
                tokio::spawn(values(teller, gateway, Arc::clone(&self.pace), filter, period(arguments, 200)?))
            }
            "flow" => tokio::spawn(flow(teller, gateway, Arc::clone(&self.pace), period(arguments, 1000)?)),
            "logs" => tokio::spawn(lines(teller, level(arguments)?)),
            "frames" => {
                let connection = arguments["connection"]
                    .as_str()
                    .ok_or_else(|| Refusal::new("missing_argument", "frames want the name of a connection"))?;
                let mut frames = gateway.frames(connection)?;
                let mut teller = teller;
                tokio::spawn(async move {
                    loop {
                        let frame = frames.next().await;
                        if !teller.tell("frame", frame) {
                            return;
                        }
                    }
                })
            }
            other => {
                let problem = format!("\"{other}\" can not be watched; known: values frames logs flow");
                return Err(Refusal::new("bad_argument", problem));
            }
        };
        self.running.insert(n, task.abort_handle());
        Ok(json!({ "watching": what }))
    }

    pub fn stop(&mut self, arguments: &Json) -> Result<Json, Refusal> {
        let task = arguments["watch"].as_u64().and_then(|n| self.running.remove(&n));
        let task = task.ok_or_else(|| Refusal::new("bad_argument", "no watch of that number is running"))?;
        task.abort();
        Ok(json!({}))
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

fn period(arguments: &Json, least: u64) -> Result<Duration, Refusal> {
    match &arguments["period_ms"] {
        Json::Null => Ok(Duration::from_secs(1)),
        period => {
            let problem = || Refusal::new("bad_argument", format!("period_ms: a number from {least} to 3600000"));
            let fits = period.as_u64().filter(|period| (least..=3_600_000).contains(period));
            fits.map(Duration::from_millis).ok_or_else(problem)
        }
    }
}

fn level(arguments: &Json) -> Result<tracing::Level, Refusal> {
    let text = arguments["level"].as_str().unwrap_or("info");
    text.parse().map_err(|_| Refusal::new("bad_argument", "level: error, warn, info, debug or trace"))
}

struct Teller {
    n: u64,
    out: mpsc::Sender<Line>,
    waiting: Arc<AtomicUsize>,
    lost: u64,
}

impl Teller {
    /// False when nobody listens any more. The number of lines lost before goes with the next that has room.
    fn tell(&mut self, key: &str, what: Json) -> bool {
        let mut line = Map::from_iter([("n".to_owned(), json!(self.n)), (key.to_owned(), what)]);
        if self.lost > 0 {
            line.insert("lost".to_owned(), json!(self.lost));
        }
        // No work for what has no place.
        let sent = match self.out.try_reserve() {
            Ok(place) => {
                Line::new(Json::Object(line).to_string(), &self.waiting).map(|line| place.send(line)).is_some()
            }
            Err(mpsc::error::TrySendError::Full(())) => false,
            Err(mpsc::error::TrySendError::Closed(())) => return false,
        };
        self.lost = if sent { 0 } else { self.lost + 1 };
        true
    }
}

/// The first time all of them, then those that were read anew.
async fn values(mut teller: Teller, gateway: Arc<dyn Gateway>, pace: Arc<Pace>, filter: String, period: Duration) {
    let mut ticks = ticks(period);
    let mut told: HashMap<String, i64> = HashMap::new();
    loop {
        ticks.tick().await;
        pace.turn().await;
        let begun = Instant::now();
        let Json::Array(mut all) = gateway.values(&filter) else { return };
        if all.len() > MOST_VALUES {
            let problem = format!("{} values; a filter that leaves {MOST_VALUES} or fewer is wanted", all.len());
            teller.tell("ended", json!(problem));
            return;
        }
        let key =
            |one: &Json| format!("{}\n{}", one["device"].as_str().unwrap_or(""), one["point"].as_str().unwrap_or(""));
        let now: HashMap<String, i64> = all.iter().map(|one| (key(one), one["time"].as_i64().unwrap_or(0))).collect();
        all.retain(|one| told.get(&key(one)).copied() != one["time"].as_i64());
        let lost = teller.lost;
        if !all.is_empty() && !teller.tell("values", Json::Array(all)) {
            return;
        }
        // What was dropped is told with the next.
        if teller.lost <= lost {
            told = now;
        }
        pace.took(begun.elapsed());
    }
}

async fn lines(mut teller: Teller, level: tracing::Level) {
    let mut lines = logs::listen();
    loop {
        match lines.recv().await {
            // A level is less than one that says less.
            Ok(line) if line.level > level => {}
            Ok(line) => {
                if !teller.tell("log", json!(*line)) {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Lagged(lost)) => teller.lost += lost,
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// What goes from the devices through the gateway to the cloud, as rates over each period.
async fn flow(mut teller: Teller, gateway: Arc<dyn Gateway>, pace: Arc<Pace>, period: Duration) {
    let mut ticks = ticks(period);
    let mut before: Option<(Instant, Json)> = None;
    loop {
        ticks.tick().await;
        pace.turn().await;
        let begun = Instant::now();
        let status = gateway.status(false).await;
        pace.took(begun.elapsed());
        let (now, counters) = (Instant::now(), status["counters"].clone());
        if let Some((then, old)) = &before {
            let shown = shown(&status, old, now.duration_since(*then));
            if !teller.tell("flow", shown) {
                return;
            }
        }
        before = Some((now, counters));
    }
}

fn shown(status: &Json, old: &Json, over: Duration) -> Json {
    let new = &status["counters"];
    let rate = |name: &str| {
        let number = |of: &Json| of[name].as_u64().unwrap_or(0);
        let difference = number(new).saturating_sub(number(old));
        (difference as f64 / over.as_secs_f64().max(0.001) * 10.0).round() / 10.0
    };
    let connections = status["south"]["connections"].as_array().into_iter().flatten();
    let states = |one: &Json| {
        let devices = one["devices"].as_array().map_or(&[][..], Vec::as_slice);
        let online = devices.iter().filter(|device| device["state"] == "online").count();
        json!({
            "name": one["name"], "state": one["state"], "last_error": one["last_error"],
            "devices": devices.len(), "online": online,
        })
    };
    json!({
        "over_ms": u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
        "devices": {
            "good_per_s": rate("samples_good"), "bad_per_s": rate("samples_bad"), "timeouts_per_s": rate("timeouts"),
            "connections": connections.map(states).collect::<Vec<_>>(),
        },
        "gateway": {
            "readings_per_s": rate("readings"), "held_per_s": rate("readings_held"),
            "waiting": new["outbox_readings"], "dropped": new["dropped"], "set_aside": new["set_aside"],
        },
        "cloud": {
            "state": status["cloud"]["state"], "messages_per_s": rate("messages"),
            "bytes_per_s": rate("message_bytes"), "acknowledged_per_s": rate("acknowledged"),
            "in_flight": status["cloud"]["in_flight"],
        },
    })
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_is_told_as_rates_from_the_devices_to_the_cloud() {
        let status = json!({
            "counters": {"samples_good": 150, "readings": 120, "acknowledged": 90, "outbox_readings": 30},
            "south": {"connections": [{"name": "l", "state": "connected",
                "devices": [{"state": "online"}, {"state": "silent"}]}]},
            "cloud": {"state": "online"},
        });
        let old = json!({"samples_good": 50, "readings": 20, "acknowledged": 90});
        let shown = shown(&status, &old, Duration::from_secs(2));
        assert_eq!(
            (&shown["devices"]["good_per_s"], &shown["gateway"]["readings_per_s"]),
            (&json!(50.0), &json!(50.0))
        );
        assert_eq!((&shown["cloud"]["acknowledged_per_s"], &shown["gateway"]["waiting"]), (&json!(0.0), &json!(30)));
        assert_eq!(shown["devices"]["connections"][0]["online"], 1);
    }

    #[test]
    fn a_slow_visitor_loses_lines_and_is_told_how_many() {
        let (out, mut lines) = mpsc::channel(1);
        let mut teller = Teller { n: 3, out, waiting: Arc::default(), lost: 0 };
        let mut heard = || serde_json::from_str::<Json>(&lines.try_recv().unwrap().take()).unwrap();
        assert!(teller.tell("log", json!(1)) && teller.tell("log", json!(2)) && teller.tell("log", json!(3)));
        assert_eq!(heard(), json!({"n": 3, "log": 1}));
        assert!(teller.tell("log", json!(4)));
        assert_eq!(heard(), json!({"n": 3, "log": 4, "lost": 2}));
        drop(lines);
        assert!(!teller.tell("log", json!(5)));
    }
}
