//! Readings of logic assets: `postMeasurepoint` as it is documented, checked, and kept in a ledger of its own.

use super::State;
use super::request::{Answer, Request};
use crate::ledger::Ledger;
use serde::Serialize;
use serde_json::Value as Json;
use std::time::{SystemTime, UNIX_EPOCH};

/// Requests that broke the contract and are remembered in words.
const REMEMBERED: usize = 100;

/// What arrived. Devices of the ledger are asset ids.
#[derive(Debug, Default)]
pub struct Arrivals {
    pub ledger: Ledger,
    pub stats: RestStats,
}

/// Counted since the start.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct RestStats {
    /// Messages taken, also those whose answer was withheld.
    pub messages: u64,
    pub values: u64,
    /// Of those, values that came as late data.
    pub late_values: u64,
    /// Messages a knob refused.
    pub refused: u64,
    /// Why messages broke the contract.
    pub wrong: Vec<String>,
}

impl Arrivals {
    /// Says that a point counts its readings; it need not have come yet.
    pub fn counts(&mut self, asset: &str, point: &str, span: u32) {
        if !self.ledger.counts(asset, point, span) {
            let device = self.ledger.device(asset);
            self.ledger.add_point(device, point);
            self.ledger.counts(asset, point, span);
        }
    }

    fn take(&mut self, items: &[Item<'_>], late: bool) {
        self.stats.messages += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for item in items {
            let device = self.ledger.device(item.asset);
            let slot = self.ledger.begin(device, item.time, now);
            for (point, value) in item.points {
                let track = self.ledger.point(device, point);
                self.ledger.record(slot, track, number(value), late);
                self.stats.values += 1;
                self.stats.late_values += u64::from(late);
            }
        }
    }
}

/// Texts count as 0: the ledger wants to know whether they came, not what they say.
fn number(value: &Json) -> f64 {
    let value = value.get("value").unwrap_or(value);
    value.as_f64().or_else(|| value.as_bool().map(|set| f64::from(u8::from(set)))).unwrap_or(0.0)
}

struct Item<'a> {
    asset: &'a str,
    time: i64,
    points: &'a serde_json::Map<String, Json>,
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let message = match message(request) {
        Ok(message) => message,
        Err(problem) => return wrong(state, problem),
    };
    let (items, realtime) = match (items(&message), message["isRealtimeIntegration"].as_bool()) {
        (Ok(items), Some(realtime)) => (items, realtime),
        (Err(problem), _) => return wrong(state, problem),
        (_, None) => return wrong(state, "isRealtimeIntegration is missing".to_owned()),
    };
    if let Some(refused) = refusal(state, &items) {
        state.arrivals.stats.refused += 1;
        return refused;
    }
    state.arrivals.take(&items, !realtime);
    if state.knobs.withhold_answers { Answer::nothing() } else { Answer::data(serde_json::json!({})) }
}

fn wrong(state: &mut State, problem: String) -> Answer {
    let answer = Answer::refused(99_400, &problem);
    if state.arrivals.stats.wrong.len() < REMEMBERED {
        state.arrivals.stats.wrong.push(problem);
    }
    answer
}

fn refusal(state: &State, items: &[Item<'_>]) -> Option<Answer> {
    let knobs = &state.knobs;
    if let Some((code, words)) = &knobs.refuse_points {
        return Some(Answer::refused(*code, words));
    }
    let point = knobs.refuse_negative.as_deref()?;
    let negative = |item: &Item<'_>| item.points.get(point).is_some_and(|value| number(value) < 0.0);
    items.iter().any(negative).then(|| Answer::refused(1204, "value out of range"))
}

/// The one part `enos-message` of the body.
fn message(request: &Request) -> Result<Json, String> {
    if request.query("action") != Some("postMeasurepoint") {
        return Err("action is not postMeasurepoint".to_owned());
    }
    if !request.header("apim-signature").is_empty() {
        return Err("this interface wants a token and no signature".to_owned());
    }
    let kind = request.header("content-type");
    let boundary = kind.strip_prefix("multipart/form-data").and_then(|rest| rest.split_once("boundary="));
    let (_, boundary) = boundary.ok_or_else(|| format!("content type {kind}"))?;
    let body = std::str::from_utf8(&request.body).map_err(|error| error.to_string())?;
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let body = body.trim_end().strip_suffix("--").ok_or("the last boundary is missing")?;
    let parts: Vec<&str> = body.split(delimiter.as_str()).filter(|part| !part.is_empty()).collect();
    let [part] = parts[..] else { return Err(format!("{} parts", parts.len())) };
    let (head, content) = part.split_once("\r\n\r\n").ok_or("a part without a head")?;
    if !head.contains("name=\"enos-message\"") {
        return Err(format!("part {}", head.trim()));
    }
    serde_json::from_str(content.trim_end()).map_err(|error| error.to_string())
}

fn items(message: &Json) -> Result<Vec<Item<'_>>, String> {
    let head = [("version", "1.1"), ("method", "integration.measurepoint.post")];
    if let Some((key, expected)) = head.iter().find(|(key, expected)| message[*key] != *expected) {
        return Err(format!("{key} is {}, not {expected}", message[*key]));
    }
    if !message["id"].is_string() {
        return Err("id is no text".to_owned());
    }
    let params = message["params"].as_array().filter(|params| !params.is_empty()).ok_or("params is no list")?;
    let item = |item| item_of(item).ok_or_else(|| format!("item {item}"));
    params.iter().map(item).collect()
}

fn item_of(item: &Json) -> Option<Item<'_>> {
    let points = item["measurepoints"].as_object().filter(|points| !points.is_empty())?;
    let asset = item["assetId"].as_str().filter(|asset| !asset.is_empty())?;
    Some(Item { asset, time: item["time"].as_i64()?, points })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(message: &str) -> Request {
        let body = format!(
            "--b-1\r\nContent-Disposition: form-data; name=\"enos-message\"\r\nContent-Type: application/json\r\n\r\n{message}\r\n--b-1--\r\n"
        );
        Request {
            method: "POST".into(),
            path: "/connect-service/v2.1/integration".into(),
            query: vec![("action".into(), "postMeasurepoint".into())],
            headers: vec![("content-type".into(), "multipart/form-data; boundary=b-1".into())],
            body: body.into_bytes(),
        }
    }

    fn good() -> Json {
        let points = json!({"temp": 1.5, "state": {"value": true, "quality": 0}, "text": "--b-2"});
        json!({"id": "1", "version": "1.1", "method": "integration.measurepoint.post",
            "params": [{"assetId": "A", "time": 5, "measurepoints": points}], "isRealtimeIntegration": true})
    }

    #[test]
    fn a_message_as_documented_is_read() {
        let message = message(&request(&good().to_string())).unwrap();
        let items = items(&message).unwrap();
        assert_eq!((items.len(), items[0].asset, items[0].time), (1, "A", 5));
        let numbers: Vec<f64> = ["temp", "state", "text"].map(|point| number(&items[0].points[point])).into();
        assert_eq!(numbers, [1.5, 1.0, 0.0]);
    }

    #[test]
    fn what_breaks_the_contract_is_told_apart() {
        for (key, value) in [
            ("version", json!("1.0")),
            ("method", json!("thing.measurepoint.post")),
            ("id", json!(1)),
            ("params", json!([])),
            ("params", json!([{"assetId": "A", "time": "5", "measurepoints": {"a": 1}}])),
            ("params", json!([{"assetId": "", "time": 5, "measurepoints": {"a": 1}}])),
            ("params", json!([{"assetId": "A", "time": 5, "measurepoints": {}}])),
        ] {
            let mut broken = good();
            broken[key] = value;
            assert!(items(&broken).is_err(), "{broken}");
        }
        let mut signed = request(&good().to_string());
        signed.headers.push(("apim-signature".into(), "00".into()));
        assert!(message(&signed).is_err());
        let mut cut = request(&good().to_string());
        cut.body.truncate(cut.body.len() - 6);
        assert!(message(&cut).is_err());
    }

    #[test]
    fn arrivals_tell_once_from_twice_and_find_the_missing_count() {
        let mut arrivals = Arrivals::default();
        arrivals.counts("A", "reads", 1 << 16);
        let points: Vec<Json> = [1, 2, 4].map(|count| json!({"reads": count})).into();
        for (time, points) in points.iter().enumerate() {
            let item = Item { asset: "A", time: i64::try_from(time).unwrap(), points: points.as_object().unwrap() };
            arrivals.take(&[item], time == 2);
        }
        arrivals.take(&[Item { asset: "A", time: 0, points: points[0].as_object().unwrap() }], false);
        let report = arrivals.ledger.report();
        assert_eq!((report.delivered, report.lost, report.duplicated, report.late), (3, 1, 1, 1));
    }
}
