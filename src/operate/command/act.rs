//! From an admitted command to its outcome: the device's turn, its state, the note on disk, the writes, reading back.

use super::entrance::Ticket;
use super::field::{By, Failed, Latest, PlannedWrite, Presence};
use super::orders::{self, Order};
use super::{ANSWER, Found, Inner, Job, Place, interlock};
use crate::model::command::{Data, Target, What, code};
use crate::model::update::Offer;
use crate::model::{Outcome, Template, Timestamp, Value};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Between two looks at a value that a slow device has not taken over yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A caller waits 30 s at least.
const OFFERS: Duration = Duration::from_secs(20);

/// What is to be done with one device.
struct Deed<'a> {
    place: &'a Place,
    device: u32,
    template: &'a Template,
    service: Option<&'a str>,
    writes: Vec<(Order, PlannedWrite)>,
    outputs: Vec<(String, u32)>,
    by: By,
}

/// How one write ended. `None`: it was not tried.
type Fate = Option<Result<(), Failed>>;

impl From<Failed> for Outcome {
    fn from(failed: Failed) -> Outcome {
        Outcome::refused(failed.code, failed.message)
    }
}

fn failed(code: i64, message: impl Into<String>) -> Failed {
    Failed { code, message: message.into() }
}

impl Inner {
    /// Carries out what was admitted; it must be begun by `deadline`.
    pub(super) async fn act(&self, job: &Job, ticket: &mut Ticket, deadline: Instant) -> Outcome {
        let by = By { start: deadline, end: deadline + ANSWER };
        if let (What::Service { id, input }, Found::Edge) = (&job.command.what, job.found) {
            return self.own_service(job, id, input, by).await;
        }
        let planned = match (&job.command.what, job.found) {
            (What::Ota(params), _) => return self.offer(job, params).await,
            (What::Unknown { method }, _) => {
                let method: String = method.chars().take(100).collect();
                Err(Outcome::refused(code::NOT_IMPLEMENTED, format!("command \"{method}\" is not known here")))
            }
            (_, Found::Device(device)) => self.plan(&job.place, device, &job.command.what, by),
            (_, Found::Edge | Found::Nobody) => {
                let words = "the gateway itself has no measurement points";
                Err(Outcome::refused(code::NOT_IMPLEMENTED, words))
            }
        };
        let deed = match planned {
            Ok(deed) => deed,
            Err(outcome) => return self.refuse(job, outcome).await,
        };
        let Ok(_turn) = timeout_at(by.start, ticket.turn()).await else {
            let words = "its turn did not come in time; nothing was done";
            return self.refuse(job, Outcome::refused(code::EXPIRED, words)).await;
        };
        match &job.command.what {
            What::Get(_) => self.get(job, &deed).await,
            What::Raw(bytes) => self.raw(job, &deed, bytes).await,
            _ => self.write(job, &deed).await,
        }
    }

    /// Updates come from the cloud alone: a broker or a person that may write points may not change what runs.
    async fn offer(&self, job: &Job, params: &Json) -> Outcome {
        let keys = match &job.command.target {
            Target::Keys { product_key, device_key } => Some((product_key.clone(), device_key.clone())),
            Target::Edge => self.edge.clone(),
            Target::Name(_) => None,
        };
        let (Some((product_key, device_key)), "enos") = (keys, job.command.door.as_str()) else {
            return self.refuse(job, Outcome::refused(code::FORBIDDEN, "updates are offered by the cloud only")).await;
        };
        let offer = match Offer::parse(&product_key, &device_key, params) {
            Ok(offer) => offer,
            Err(why) => return self.refuse(job, Outcome::refused(code::MALFORMED, why)).await,
        };
        // The link may be quicker than the rest of a gateway that has just started.
        let Ok(offers) = timeout(OFFERS, self.offers.wait()).await else {
            return self.refuse(job, Outcome::refused(code::BUSY, "the gateway takes no updates yet")).await;
        };
        let outcome = offers.offered(offer, job.found == Found::Edge).await;
        if outcome.code == code::DONE { self.end(job, outcome).await } else { self.refuse(job, outcome).await }
    }

    fn plan<'a>(&self, place: &'a Place, device: u32, what: &What, by: By) -> Result<Deed<'a>, Outcome> {
        let Some((_, template)) = place.devices.get(device) else {
            return Err(Outcome::refused(code::UNKNOWN_DEVICE, "the device has no connection"));
        };
        let template: &Arc<Template> = template;
        let mut deed = Deed { place, device, template, service: None, writes: Vec::new(), outputs: Vec::new(), by };
        let orders = match what {
            What::Set(points) => orders::set(template, points)?,
            What::Get(ids) => {
                deed.outputs = orders::get(template, ids)?;
                Vec::new()
            }
            What::Service { id, input } => {
                deed.service = template.commands.services.iter().find(|plan| plan.id == *id).map(|plan| &*plan.id);
                let service = orders::service(template, id, input)?;
                deed.outputs = service.outputs;
                service.orders
            }
            What::Raw(_) | What::Ota(_) | What::Unknown { .. } => Vec::new(),
        };
        for order in orders {
            let planned = place.field.plan(device, order.measurepoint, &order.value);
            let write = planned.map_err(|e| Outcome::refused(e.code, format!("{}: {}", order.id, e.message)))?;
            deed.writes.push((order, write));
        }
        for (name, measurepoint) in &deed.outputs {
            if !place.field.is_collected(device, *measurepoint) {
                let words = format!("measurement point \"{name}\" is not collected from the device");
                return Err(Outcome::refused(code::UNKNOWN_POINT, words));
            }
        }
        Ok(deed)
    }

    /// Nothing is changed, so nothing is remembered; a repetition reads again.
    async fn get(&self, job: &Job, deed: &Deed<'_>) -> Outcome {
        let outcome = match self.read(deed.place, deed.device, &deed.outputs, deed.by).await {
            Ok((values, missing)) if missing.is_empty() => Outcome::done(Data::Json(Json::Object(values))),
            Ok((values, missing)) => {
                let none = values.is_empty();
                let code = if none { code::DEVICE_REFUSED } else { code::PARTLY };
                Outcome { code, message: missing.join("; "), data: Data::Json(Json::Object(values)) }
            }
            Err(failed) => failed.into(),
        };
        self.record.note(self.note(job, "read", Some(&outcome)));
        outcome
    }

    /// Values read now, and what is wrong with those that are missing.
    async fn read(
        &self,
        place: &Place,
        device: u32,
        wanted: &[(String, u32)],
        by: By,
    ) -> Result<(Map<String, Json>, Vec<String>), Failed> {
        let points: Vec<u32> = wanted.iter().map(|(_, measurepoint)| *measurepoint).collect();
        place.field.read(device, &points, by).await?;
        if place.field.presence(device) == Presence::Silent {
            return Err(failed(code::DEVICE_OFFLINE, "the device does not answer"));
        }
        let (mut values, mut missing) = (Map::new(), Vec::new());
        for (name, measurepoint) in wanted {
            match self.latest(place, device, *measurepoint) {
                Some(Latest { value: Some(value), .. }) => {
                    values.insert(name.clone(), json(&value));
                }
                Some(Latest { why, .. }) => missing.push(format!("{name}: {why}")),
                None => missing.push(format!("{name}: no value")),
            }
        }
        Ok((values, missing))
    }

    fn latest(&self, place: &Place, device: u32, measurepoint: u32) -> Option<Latest> {
        let (_, template) = place.devices.get(device)?;
        place.field.latest(device, &template.model.measurepoints.get(measurepoint as usize)?.id)
    }

    /// Everything that may hold it back, at the last moment; then it is noted down as begun.
    async fn begin(&self, job: &Job, deed: &Deed<'_>) -> Result<(), Outcome> {
        if let Err(outcome) = self.allowed(deed).await {
            return Err(self.refuse(job, outcome).await);
        }
        let note = self.note(job, "begun", None);
        if let Err(error) = self.record.begin(job.identified.clone(), note).await {
            return Err(self.refuse_unrecorded(job, &error));
        }
        if Instant::now() >= deed.by.start {
            let words = "noting it down took longer than it was good for; nothing was done";
            return Err(self.end(job, Outcome::refused(code::EXPIRED, words)).await);
        }
        Ok(())
    }

    async fn allowed(&self, deed: &Deed<'_>) -> Result<(), Outcome> {
        // What is written to a silent device may take effect when it is back: it is asked for a sign of life first.
        if deed.place.field.presence(deed.device) == Presence::Silent {
            let answered = deed.place.field.probe(deed.device, deed.by).await;
            let offline = |e: Failed| {
                Outcome::refused(
                    code::DEVICE_OFFLINE,
                    format!("the device does not answer: {}; nothing was done", e.message),
                )
            };
            answered.map_err(offline)?;
            if deed.place.field.presence(deed.device) == Presence::Silent {
                return Err(Outcome::refused(code::DEVICE_OFFLINE, "the device does not answer; nothing was done"));
            }
        }
        let orders: Vec<Order> = deed.writes.iter().map(|(order, _)| order.clone()).collect();
        let latest = |id: &str| deed.place.field.latest(deed.device, id);
        interlock::check(deed.template, &orders, deed.service, Timestamp::now().0, latest)
            .map_err(|why| Outcome::refused(code::INTERLOCKED, format!("{why}; nothing was done")))
    }

    /// Notes down how it ended. The effect is there whatever the disk says, so the answer is the truth in any case.
    pub(super) async fn end(&self, job: &Job, outcome: Outcome) -> Outcome {
        self.counters.commands.add(1);
        let note = self.note(job, "ended", Some(&outcome));
        if let Err(error) = self.record.end(job.identified.clone(), note, outcome.clone(), true).await {
            tracing::error!(%error, code = outcome.code, "the outcome of a command could not be stored");
        }
        outcome
    }

    async fn raw(&self, job: &Job, deed: &Deed<'_>, bytes: &[u8]) -> Outcome {
        if let Err(outcome) = self.begin(job, deed).await {
            return outcome;
        }
        let outcome = match deed.place.field.raw(deed.device, bytes.to_vec(), deed.by).await {
            Ok(answer) => Outcome::done(Data::Raw(answer)),
            Err(failed) => failed.into(),
        };
        self.end(job, outcome).await
    }

    async fn write(&self, job: &Job, deed: &Deed<'_>) -> Outcome {
        if let Err(outcome) = self.begin(job, deed).await {
            return outcome;
        }
        let mut fates: Vec<Fate> = vec![None; deed.writes.len()];
        for ((_, write), fate) in deed.writes.iter().zip(&mut fates) {
            let written = deed.place.field.write(deed.device, write, deed.by).await;
            let stop = written.is_err();
            *fate = Some(written);
            // The next value may only be meant to follow this one.
            if stop {
                break;
            }
        }
        self.read_back(deed, &mut fates).await;
        let mut outcome = sum_up(deed, &fates);
        if outcome.code == code::DONE && !deed.outputs.is_empty() {
            outcome = self.outputs(deed).await;
        }
        self.end(job, outcome).await
    }

    async fn outputs(&self, deed: &Deed<'_>) -> Outcome {
        let partly = |message: String, data| Outcome { code: code::PARTLY, message, data };
        match self.read(deed.place, deed.device, &deed.outputs, deed.by).await {
            Ok((values, missing)) if missing.is_empty() => Outcome::done(Data::Json(Json::Object(values))),
            Ok((values, missing)) => {
                let words = format!("done, but not all outputs could be read: {}", missing.join("; "));
                partly(words, Data::Json(Json::Object(values)))
            }
            Err(e) => partly(format!("done, but its outputs could not be read: {}", e.message), Data::Nothing),
        }
    }

    /// Reads what was written, until it shows or the time a slow device has is over.
    async fn read_back(&self, deed: &Deed<'_>, fates: &mut [Fate]) {
        let began = Instant::now();
        let mut open: Vec<usize> = (0..fates.len()).filter(|at| self.is_read_back(deed, *at, &fates[*at])).collect();
        while !open.is_empty() {
            let points: Vec<u32> = open.iter().map(|at| deed.writes[*at].0.measurepoint).collect();
            let read = deed.place.field.read(deed.device, &points, deed.by).await;
            for at in &open {
                fates[*at] = Some(self.compare(deed, *at, &read));
            }
            let again = Instant::now() + LOOK_AGAIN;
            open.retain(|at| {
                let differs = matches!(&fates[*at], Some(Err(e)) if e.code == code::READ_BACK_DIFFERS);
                let within = deed.template.commands.read_back(deed.writes[*at].0.measurepoint).within;
                differs && again <= (began + within).min(deed.by.end)
            });
            if !open.is_empty() {
                sleep_until(again).await;
            }
        }
    }

    fn is_read_back(&self, deed: &Deed<'_>, at: usize, fate: &Fate) -> bool {
        let measurepoint = deed.writes[at].0.measurepoint;
        // Only the last write to a point can still be seen.
        let last = deed.writes[at + 1..].iter().all(|(later, _)| later.measurepoint != measurepoint);
        let wanted = deed.template.commands.read_back(measurepoint).wanted;
        matches!(fate, Some(Ok(()))) && wanted && last && deed.place.field.is_collected(deed.device, measurepoint)
    }

    fn compare(&self, deed: &Deed<'_>, at: usize, read: &Result<(), Failed>) -> Result<(), Failed> {
        let (order, write) = &deed.writes[at];
        let unread = |why: &str| {
            failed(code::UNCONFIRMED, format!("the device confirmed it, but it could not be read back: {why}"))
        };
        read.as_ref().map_err(|e| unread(&e.message))?;
        let latest = self.latest(deed.place, deed.device, order.measurepoint);
        let Some(Latest { value: Some(value), .. }) = &latest else {
            return Err(unread(latest.as_ref().map_or("no value", |latest| &latest.why)));
        };
        if same(&write.expected, value, write.tolerance) {
            return Ok(());
        }
        Err(failed(code::READ_BACK_DIFFERS, format!("written as {}, and read back as {value}", write.expected)))
    }
}

/// One outcome for all points. A single fault speaks for itself.
fn sum_up(deed: &Deed<'_>, fates: &[Fate]) -> Outcome {
    let Some(Some(Err(first))) = fates.iter().find(|fate| matches!(fate, Some(Err(_)))) else {
        return Outcome::done(Data::Json(json!({})));
    };
    let done = fates.iter().filter(|fate| matches!(fate, Some(Ok(())))).count();
    let mut each = Map::new();
    let mut words = Vec::new();
    for ((order, _), fate) in deed.writes.iter().zip(fates) {
        let (code, message) = match fate {
            Some(Ok(())) => (code::DONE, String::new()),
            Some(Err(e)) => (e.code, e.message.clone()),
            None => (0, "not tried, because a write before it failed".to_owned()),
        };
        if !message.is_empty() {
            words.push(format!("{}: {message}", order.id));
        }
        each.insert(order.id.clone(), json!({"code": code, "message": message}));
    }
    let code = if done > 0 { code::PARTLY } else { first.code };
    Outcome { code, message: words.join("; "), data: Data::Json(Json::Object(each)) }
}

fn same(expected: &Value, value: &Value, tolerance: f64) -> bool {
    match (expected.as_f64(), value.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance,
        _ => expected == value,
    }
}

/// As it goes into an answer; a 32-bit float with the digits it has.
fn json(value: &Value) -> Json {
    match value {
        Value::Bool(state) => json!(state),
        Value::Int(i) => json!(i),
        Value::Float(x) => json!(x.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(*x))),
        Value::Double(x) => json!(x),
        Value::Text(text) => json!(&**text),
    }
}
