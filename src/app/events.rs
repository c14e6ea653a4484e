//! Looks at each batch of readings on its way to the outbox and tells the cloud which events begin and end.

use crate::cloud::NoticeQueue;
use crate::model::event_rule::EventRule;
use crate::model::{Batch, Inlet, Notice, Notices, Site, Value};
use crate::telemetry::Counters;
use crate::trigger::{Engine, Raised};
use serde_json::{Map, Value as Json, json};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Delays are counted in whole seconds.
const TICK: Duration = Duration::from_secs(1);
/// Events that `status` lists.
const LISTED: usize = 100;
/// Lines of the log in a minute; of more it tells the number.
const LOGGED: u64 = 60;
const WINDOW_S: u64 = 60;

/// The rules of the package that runs, before the outbox.
pub(super) struct Events {
    engine: Mutex<Engine>,
    inlet: Arc<dyn Inlet>,
    begun: Instant,
    counters: Arc<Counters>,
    /// Where they are told; set once there is a link.
    notices: OnceLock<Arc<NoticeQueue>>,
    /// Something may wait for its delay.
    news: Notify,
    log: Mutex<Log>,
}

/// A value that chatters must not fill the log.
#[derive(Default)]
struct Log {
    window: u64,
    told: u64,
    untold: u64,
}

impl Log {
    /// Whether an event has a line, and how many had none in the minutes before.
    fn may(&mut self, now: Duration) -> (bool, u64) {
        let mut before = 0;
        let window = now.as_secs() / WINDOW_S;
        if window != self.window {
            before = std::mem::take(&mut self.untold);
            (self.window, self.told) = (window, 0);
        }
        self.told += 1;
        let may = self.told <= LOGGED;
        self.untold += u64::from(!may);
        (may, before)
    }
}

impl Events {
    pub fn new(site: &Site, inlet: Arc<dyn Inlet>, counters: &Arc<Counters>) -> Events {
        Events {
            engine: Mutex::new(Engine::new(Arc::clone(&site.events), Arc::clone(&site.names))),
            inlet,
            begun: Instant::now(),
            counters: Arc::clone(counters),
            notices: OnceLock::new(),
            news: Notify::new(),
            log: Mutex::default(),
        }
    }

    /// From now on they are told there; what was raised before is only in the log.
    pub fn tell_to(&self, notices: Arc<NoticeQueue>) {
        let _ = self.notices.set(notices);
    }

    /// Another package runs.
    pub fn use_site(&self, site: &Site) {
        let mut engine = self.lock();
        *engine = engine.replaced(Arc::clone(&site.events), Arc::clone(&site.names));
        self.news.notify_one();
    }

    /// Delays end without a reading, too.
    pub fn start(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                // Nothing wakes the processor while nothing waits.
                if !this.lock().is_waiting() {
                    this.news.notified().await;
                }
                sleep(TICK).await;
                let mut engine = this.lock();
                let raised = engine.tick(this.begun.elapsed());
                this.tell(&engine, &raised);
            }
        })
    }

    /// For `status`.
    pub fn status(&self) -> Json {
        let engine = self.lock();
        let mut all: Vec<_> = engine.going_on().collect();
        all.sort_by_key(|(_, _, since)| since.0);
        let listed = all.iter().rev().take(LISTED).map(|(rule, device, since)| {
            let name = engine.names().devices.get(*device as usize).map_or("", |one| one.name.as_str());
            json!({
                "rule": rule.id, "event": rule.event, "severity": rule.severity, "device": name, "point": rule.point,
                "since": since.0,
            })
        });
        let (waiting, dropped) = self.notices.get().map_or((0, 0), |notices| notices.counts());
        json!({ "going_on": all.len(), "waiting": waiting, "dropped": dropped, "newest": listed.collect::<Vec<_>>() })
    }

    fn tell(&self, engine: &Engine, raised: &[Raised]) {
        for one in raised {
            let rule = engine.rule(one.rule);
            let Some(device) = engine.names().devices.get(one.device as usize) else { continue };
            self.counters.events.add(1);
            let (begins, value) = (one.begins, shown(&one.value));
            let (may, untold) = self.log.lock().unwrap_or_else(PoisonError::into_inner).may(self.begun.elapsed());
            if untold > 0 {
                tracing::warn!(events = untold, "more events than the log tells one by one; does a value chatter?");
            }
            if may {
                tracing::info!(rule = %rule.id, device = %device.name, point = %rule.point, begins, "event");
            }
            let Some(fields) = outputs(rule, one.begins, value) else { continue };
            if let Some(notices) = self.notices.get() {
                let whose = Some((device.product_key.clone(), device.device_key.clone()));
                notices.tell(Notice { event: rule.event.clone(), fields, at: one.time, device: whose });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        // Each change is whole.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet for Events {
    fn append(&self, batch: Batch) {
        {
            let mut engine = self.lock();
            if !engine.is_idle() {
                let raised = engine.readings(&batch, self.begun.elapsed());
                self.tell(&engine, &raised);
                if engine.is_waiting() {
                    self.news.notify_one();
                }
            }
        }
        self.inlet.append(batch);
    }
}

/// As far as the model knows them: the cloud refuses an event with one that it does not know. `None`: the end of an event
/// whose model has no place for saying so.
fn outputs(rule: &EventRule, begins: bool, value: Json) -> Option<Map<String, Json>> {
    let all = [
        ("state", json!(if begins { "raised" } else { "cleared" })),
        ("rule", json!(rule.id)),
        ("point", json!(rule.point)),
        ("value", value),
        ("severity", json!(rule.severity)),
        ("content", json!(rule.content)),
    ];
    let knows = |name: &str| rule.outputs.as_ref().is_none_or(|known| known.iter().any(|one| one == name));
    if !begins && !knows("state") {
        return None;
    }
    let fields = all.into_iter().filter(|(name, value)| knows(name) && !value.is_null());
    Some(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn shown(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => json!(flag),
        Value::Int(int) => json!(int),
        // As it is written, not with the digits of a double.
        Value::Float(float) => float.to_string().parse::<f64>().map_or(Json::Null, |number| json!(number)),
        Value::Double(double) => json!(double),
        Value::Text(text) => json!(&**text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event_rule::{Match, Scope};

    fn rule(outputs: Option<&[&str]>) -> EventRule {
        EventRule {
            id: "over".to_owned(),
            model: "M".to_owned(),
            measurepoint: 0,
            conditions: Vec::new(),
            matching: Match::All,
            delay: Duration::ZERO,
            severity: "warning".to_owned(),
            content: None,
            event: "over_voltage".to_owned(),
            outputs: outputs.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
            point: "u".to_owned(),
            scope: Scope::All,
            masking: false,
            enabled: true,
        }
    }

    #[test]
    fn a_storm_has_sixty_lines_a_minute_and_its_number() {
        let mut log = Log::default();
        let minute = |log: &mut Log, at: u64| {
            (0..100)
                .map(|_| log.may(Duration::from_secs(at * 60)))
                .fold((0, 0), |(lines, untold), (may, more)| (lines + u64::from(may), untold + more))
        };
        assert_eq!((minute(&mut log, 1), minute(&mut log, 2)), ((60, 0), (60, 40)));
        assert_eq!(log.may(Duration::from_secs(900)), (true, 40));
    }

    #[test]
    fn only_outputs_that_the_model_has_are_told() {
        let told =
            |outputs_of: Option<&[&str]>, begins| outputs(&rule(outputs_of), begins, shown(&Value::Float(250.1)));
        let all = told(None, false).unwrap();
        assert_eq!((&all["state"], &all["value"], all.len()), (&json!("cleared"), &json!(250.1), 5));
        assert_eq!(json!(told(Some(&["value", "desc"]), true)), json!({"value": 250.1}));
        assert_eq!(told(Some(&["value"]), false), None, "nobody could tell the end from another begin");
        assert_eq!(json!(told(Some(&["value", "state"]), false)), json!({"value": 250.1, "state": "cleared"}));
    }
}
