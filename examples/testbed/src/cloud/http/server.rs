//! The port of the HTTP broker.

use super::State;
use super::answer::{Answer, Wanted, refused, wanted};
use super::body::Part;
use super::desk::{Desk, sign};
use crate::rest::parse_query;
use crate::web::Answers;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A login has a few hundred bytes.
const LARGEST: usize = 64 << 10;

impl Answers for Arc<State> {
    type Body = Part;

    async fn answer(self, request: Request<Incoming>) -> anyhow::Result<Response<Part>> {
        respond(request, self).await
    }
}

async fn respond(request: Request<Incoming>, state: Arc<State>) -> anyhow::Result<Response<Part>> {
    let knobs = state.desk().knobs.clone();
    if let Some(delay) = knobs.delay {
        tokio::time::sleep(delay).await;
    }
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path: Vec<String> = head.uri.path().split('/').skip(1).map(decode).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = parse_query(head.uri.query().unwrap_or_default());
    let query = |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
    let answer = match (knobs.status, &head.method, path.as_slice()) {
        (Some(status), ..) => Answer::Json(status, json!({ "code": status, "message": "as ordered" })),
        (_, &Method::POST, ["auth", pk, dk]) => log_in(&state, pk, dk, &body),
        (_, &Method::GET, ["multipart", "sys", pk, dk, "file", "download", rest @ ..]) if rest.len() < 2 => {
            let asked =
                Asked { owner: (pk, dk), session: query("sessionId"), uri: query("fileUri"), link: rest == ["url"] };
            let known = query("category") == "ota" || query("category") == "feature";
            if known { file(&state, &asked, header("range"), header("if-range")) } else { bad(&state, "category") }
        }
        (_, &Method::GET, ["kept", ticket]) => {
            let found = state.desk().ticketed(ticket);
            match found {
                Some(kept) => part(&state.desk(), kept, header("range"), header("if-range")),
                None => refused(403, 403, "the link is over", false),
            }
        }
        _ => refused(404, 404, "no such path", false),
    };
    send(&state, answer, header("range"))
}

fn decode(text: &str) -> String {
    // A path has no plus for a blank.
    parse_query(&format!("x={}", text.replace('+', "%2B"))).pop().map_or_else(String::new, |(_, value)| value)
}

fn bad(state: &State, what: &str) -> Answer {
    refused(400, 1220, &format!("{what} is missing or wrong"), state.desk().knobs.refuse_politely)
}

fn log_in(state: &State, pk: &str, dk: &str, body: &[u8]) -> Answer {
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    let lifetime = body["lifetime"].as_u64().unwrap_or(300_000);
    let secret = {
        let world = state.world.lock().expect("the cloud's lock is not poisoned");
        let device = world.registry.find(pk, dk).map(|device| world.registry.get(device));
        device.filter(|device| device.enabled).map(|device| device.triple.secret.clone())
    };
    let given = body["sign"].as_str().unwrap_or_default();
    let good = secret.is_some_and(|secret| {
        body["signMethod"] == "sha256" && sign(pk, dk, &lifetime.to_string(), &secret).eq_ignore_ascii_case(given)
    });
    let mut desk = state.desk();
    if !good {
        desk.stats.refused_logins += 1;
        return refused(401, 742, "sign check failed", desk.knobs.refuse_politely);
    }
    let session = desk.log_in((pk.to_owned(), dk.to_owned()), Duration::from_millis(lifetime), Instant::now());
    Answer::Json(200, json!({ "code": 200, "message": "", "data": { "sessionId": session } }))
}

struct Asked<'a> {
    owner: (&'a str, &'a str),
    session: &'a str,
    uri: &'a str,
    link: bool,
}

fn file(state: &State, asked: &Asked<'_>, range: &str, if_range: &str) -> Answer {
    let mut desk = state.desk();
    let politely = desk.knobs.refuse_politely;
    if !desk.is_in(asked.session, asked.owner, Instant::now()) {
        desk.stats.refused_downloads += 1;
        return refused(401, 1401, "the session is over", politely);
    }
    let Some(kept) = desk.file(asked.uri) else {
        desk.stats.refused_downloads += 1;
        return refused(404, 1404, "no such file", politely);
    };
    if asked.link {
        let ticket = desk.ticket(asked.uri);
        return Answer::Json(
            200,
            json!({ "code": 200, "message": "", "data": format!("{}/kept/{ticket}", state.base) }),
        );
    }
    part(&desk, kept, range, if_range)
}

fn part(desk: &Desk, kept: super::desk::Kept, range: &str, if_range: &str) -> Answer {
    let proven = if_range.is_empty() || if_range == kept.etag;
    let ranges = !desk.knobs.without_ranges && proven;
    let wanted = if ranges { wanted(range, kept.bytes.len()) } else { Wanted::Whole };
    Answer::File(kept, wanted)
}

fn send(state: &State, answer: Answer, range: &str) -> anyhow::Result<Response<Part>> {
    let (kept, wanted) = match answer {
        Answer::Json(status, body) => {
            let response = Response::builder().status(status).header("content-type", "application/json");
            return Ok(response.body(Part::new(Bytes::from(body.to_string()), None))?);
        }
        Answer::File(kept, wanted) => (kept, wanted),
    };
    let mut desk = state.desk();
    let total = kept.bytes.len();
    let response = Response::builder().header("content-type", "application/octet-stream");
    let response = if desk.knobs.without_ranges { response } else { response.header("accept-ranges", "bytes") };
    let response = if desk.knobs.without_proof { response } else { response.header("etag", &kept.etag) };
    let (response, bytes) = match wanted {
        Wanted::Whole => (response.status(200), kept.bytes),
        Wanted::Beyond => (response.status(416).header("content-range", format!("bytes */{total}")), Bytes::new()),
        Wanted::Part(from, to) => {
            let told = format!("bytes {from}-{}/{total}", to - 1);
            (response.status(206).header("content-range", told), kept.bytes.slice(from..to))
        }
    };
    let response = response.header("content-length", bytes.len());
    let body = Part::new(bytes, desk.knobs.cut);
    desk.sent(range, body.length());
    Ok(response.body(body)?)
}
