//! Orders to the HTTP broker of a stand-in cloud that runs alone: files it keeps, faults, and what it was asked.

use crate::cloud::{HttpBroker, HttpKnobs};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::time::Duration;

/// For people.
pub const ORDERS: &str = "http file URI PATH, http cut BYTES|off, http status CODE|off, http delay_ms MS, \
     http without_proof|without_ranges|refuse_politely|session_for_one true|false, http expire, http well, http stats";

/// Carries out one, without the word `http` before it.
///
/// # Errors
/// When it is not understood.
pub fn carry_out(http: &HttpBroker, words: &str) -> anyhow::Result<Option<Value>> {
    let (name, value) = words.trim().split_once(' ').unwrap_or((words.trim(), ""));
    match name {
        "stats" => return Ok(Some(serde_json::to_value(http.stats())?)),
        "expire" => http.expire(),
        "file" => {
            let (uri, path) = value.split_once(' ').context("http file: expected URI PATH")?;
            http.keep(uri, std::fs::read(path).with_context(|| format!("read {path}"))?);
        }
        _ => http.knobs(|knobs| turn(knobs, name, value)).with_context(|| format!("http {words}; known: {ORDERS}"))?,
    }
    Ok(None)
}

fn turn(knobs: &mut HttpKnobs, name: &str, value: &str) -> anyhow::Result<()> {
    let flag = || value.parse::<bool>().context("expected true or false");
    match name {
        "cut" => knobs.cut = number(value)?,
        "status" => knobs.status = number(value)?,
        "delay_ms" => knobs.delay = number(value)?.map(Duration::from_millis),
        "without_proof" => knobs.without_proof = flag()?,
        "without_ranges" => knobs.without_ranges = flag()?,
        "refuse_politely" => knobs.refuse_politely = flag()?,
        "session_for_one" => knobs.session_for_one = flag()?,
        "well" => *knobs = HttpKnobs::default(),
        other => bail!("{other} is not known"),
    }
    Ok(())
}

fn number<T: std::str::FromStr>(value: &str) -> anyhow::Result<Option<T>> {
    if value == "off" {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| anyhow::anyhow!("expected a number or off"))
}
