//! The cloud's knobs by name, for flags and orders.

use crate::cloud::{Cloud, Delay, Knobs, MEGABYTE_PER_SECOND, OverLimit, RateLimit, Refusal};
use anyhow::{Context as _, bail};
use std::str::FromStr;
use std::time::Duration;

type Turn = fn(&mut Knobs, &str) -> anyhow::Result<()>;

/// Name, what its value looks like, and what it does.
const KNOBS: &[(&str, &str, Turn)] = &[
    ("connect_limit", "true|false", |k, v| set(&mut k.connect_limit, v)),
    ("online_limit", "N", |k, v| set(&mut k.online_limit, v)),
    ("topology_limit", "N", |k, v| set(&mut k.topology_limit, v)),
    ("forget_replies", "N", |k, v| set(&mut k.forget_replies, v)),
    ("lose_requests", "N", |k, v| set(&mut k.lose_requests, v)),
    ("withhold_pubacks", "true|false", |k, v| set(&mut k.withhold_pubacks, v)),
    ("ignore_connects", "N", |k, v| set(&mut k.ignore_connects, v)),
    ("refuse_connects", "CODE|off", refuse_connects),
    ("reply_delay_ms", "MS", |k, v| milliseconds(v).map(|delay| k.reply_delay = Delay::Fixed(delay))),
    ("refuse", "CODE [PK DK [POINT]]|off", refuse),
    ("rate_limit", "BYTES|enos|off [CODE|close]", rate_limit),
    ("activation_delay_ms", "MS", |k, v| milliseconds(v).map(|delay| k.activation.delay = delay)),
    ("activation_copies", "N", |k, v| set(&mut k.activation.copies, v)),
    ("lose_activation_replies", "N", |k, v| set(&mut k.activation.lose_replies, v)),
    ("activation_once", "true|false", |k, v| set(&mut k.activation.once, v)),
    ("visibility_delay_ms", "MS", |k, v| milliseconds(v).map(|delay| k.visibility_delay = delay)),
    ("refuse_generated_keys", "true|false", |k, v| set(&mut k.refuse_generated_keys, v)),
    ("strict_methods", "true|false", |k, v| set(&mut k.strict_methods, v)),
    ("revoke_certificate", "SERIAL|none", revoke),
    ("distrust_certificates", "true|false", |k, v| set(&mut k.distrust_certificates, v)),
];

/// Turns one: `NAME VALUE`.
///
/// # Errors
/// When there is no such knob, or the value is not one of its.
pub fn turn(cloud: &Cloud, words: &str) -> anyhow::Result<()> {
    let (name, value) = words.trim().split_once(' ').unwrap_or((words, ""));
    let Some((_, shape, turn)) = KNOBS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<String> = KNOBS.iter().map(|(name, shape, _)| format!("{name} {shape}")).collect();
        bail!("{name} is no knob; known: {}", known.join(", "));
    };
    cloud.knobs(|knobs| turn(knobs, value)).with_context(|| format!("{name} {value}: expected {shape}"))
}

fn set<T: FromStr>(into: &mut T, value: &str) -> anyhow::Result<()>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    *into = value.trim().parse()?;
    Ok(())
}

fn milliseconds(value: &str) -> anyhow::Result<Duration> {
    Ok(Duration::from_millis(value.trim().parse()?))
}

fn refuse_connects(knobs: &mut Knobs, value: &str) -> anyhow::Result<()> {
    knobs.refuse_connects = if value == "off" { None } else { Some(value.parse()?) };
    Ok(())
}

fn refuse(knobs: &mut Knobs, value: &str) -> anyhow::Result<()> {
    if value == "off" {
        knobs.refusals.clear();
        return Ok(());
    }
    let words: Vec<&str> = value.split(' ').collect();
    let code = words[0].parse()?;
    let mut refusal = match words.get(1..3) {
        Some([pk, dk]) => Refusal::device(code, pk, dk),
        _ => Refusal::everything(code),
    };
    refusal.point = words.get(3).map(|point| (*point).to_owned());
    knobs.refusals.push(refusal);
    Ok(())
}

fn rate_limit(knobs: &mut Knobs, value: &str) -> anyhow::Result<()> {
    let (bytes, answer) = value.split_once(' ').unwrap_or((value, "429"));
    let answer = if answer == "close" { OverLimit::Close } else { OverLimit::Code(answer.parse()?) };
    let limit = |bytes_per_second| Some(RateLimit { bytes_per_second, answer });
    knobs.rate_limit = match bytes {
        "off" => None,
        "enos" => limit(MEGABYTE_PER_SECOND),
        bytes => limit(bytes.parse()?),
    };
    Ok(())
}

fn revoke(knobs: &mut Knobs, value: &str) -> anyhow::Result<()> {
    if value == "none" {
        knobs.revoked_certificates.clear();
    } else {
        knobs.revoked_certificates.push(value.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_takes_a_value_of_its_shape_and_no_other() {
        for (name, shape, turn) in KNOBS {
            let good = match *shape {
                "true|false" => "true",
                "MS" | "N" => "3",
                "CODE|off" => "5",
                "CODE [PK DK [POINT]]|off" => "1204 pk dk point",
                "BYTES|enos|off [CODE|close]" => "enos close",
                _ => "0a",
            };
            turn(&mut Knobs::default(), good).unwrap_or_else(|error| panic!("{name} {good}: {error}"));
            assert!(*name == "revoke_certificate" || turn(&mut Knobs::default(), "?").is_err(), "{name} ?");
        }
    }
}
