//! Orders to the REST side of a stand-in cloud that runs alone: faults, and what was asked of it.

use crate::rest::{RestCloud, RestKnobs, Standing, Wrong};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::time::Duration;

/// For people.
pub const ORDERS: &str = "rest down|unauthorised|refuse_renewals true|false, rest status CODE|off, \
     rest wrong other_key|other_authority|not_yet|expired|garbage|off, rest delay_ms MS, rest life S|off, \
     rest expire_tokens, rest asked, rest certificates, rest code N WORDS|off, rest negative POINT|off, \
     rest withhold true|false, rest well, rest counts ASSET POINT SPAN, rest settle ASSET POINT LAST, rest report, rest stats";

const WRONGS: &[(&str, Option<Wrong>)] = &[
    ("other_key", Some(Wrong::OtherKey)),
    ("other_authority", Some(Wrong::OtherAuthority)),
    ("not_yet", Some(Wrong::NotYet)),
    ("expired", Some(Wrong::Expired)),
    ("garbage", Some(Wrong::Garbage)),
    ("off", None),
];

/// Carries out one, without the word `rest` before it.
///
/// # Errors
/// When it is not understood.
pub fn carry_out(rest: &RestCloud, words: &str) -> anyhow::Result<Option<Value>> {
    let (name, value) = words.trim().split_once(' ').unwrap_or((words.trim(), ""));
    match name {
        "asked" => return Ok(Some(json!(rest.asked()))),
        "certificates" => return Ok(Some(certificates(rest))),
        "report" => return Ok(Some(serde_json::to_value(rest.arrivals(|arrivals| arrivals.ledger.report()))?)),
        "stats" => return Ok(Some(serde_json::to_value(rest.arrivals(|arrivals| arrivals.stats.clone()))?)),
        "counts" | "settle" => return count(rest, name, value).map(Some),
        "expire_tokens" => rest.expire_tokens(),
        "life" => rest.set_life(number(value)?.map(Duration::from_secs)),
        _ => {
            rest.knobs(|knobs| turn(knobs, name, value)).with_context(|| format!("rest {words}; known: {ORDERS}"))?;
        }
    }
    Ok(None)
}

/// What a point of a logic asset counts, or its last count.
fn count(rest: &RestCloud, name: &str, words: &str) -> anyhow::Result<Value> {
    let words: Vec<&str> = words.split(' ').collect();
    let [asset, point, number] = words[..] else { bail!("{name}: expected ASSET POINT NUMBER") };
    let number: u32 = number.parse().with_context(|| format!("{name}: number"))?;
    let known = rest.arrivals(|arrivals| {
        if name == "counts" {
            arrivals.counts(asset, point, number);
            return true;
        }
        arrivals.ledger.settle(asset, point, number.into())
    });
    Ok(json!({ "known": known }))
}

fn turn(knobs: &mut RestKnobs, name: &str, value: &str) -> anyhow::Result<()> {
    match name {
        "down" => knobs.down = value.parse()?,
        "unauthorised" => knobs.unauthorised = value.parse()?,
        "refuse_renewals" => knobs.refuse_renewals = value.parse()?,
        "status" => knobs.status = number(value)?.map(u16::try_from).transpose()?,
        "delay_ms" => knobs.delay = number(value)?.map(Duration::from_millis),
        "well" => *knobs = RestKnobs::default(),
        "withhold" => knobs.withhold_answers = value.parse()?,
        "negative" => knobs.refuse_negative = (value != "off").then(|| value.to_owned()),
        "code" if value == "off" => knobs.refuse_points = None,
        "code" => {
            let (code, words) = value.split_once(' ').unwrap_or((value, "refused"));
            knobs.refuse_points = Some((code.parse()?, words.to_owned()));
        }
        "wrong" => {
            let found = WRONGS.iter().find(|(word, _)| *word == value);
            knobs.wrong = found.map(|(_, wrong)| *wrong).context("what is wrong is not known")?;
        }
        _ => bail!("no such order"),
    }
    Ok(())
}

fn number(value: &str) -> anyhow::Result<Option<u64>> {
    Ok(if value == "off" { None } else { Some(value.parse()?) })
}

fn certificates(rest: &RestCloud) -> Value {
    let shown = |c: &crate::rest::Certificate| {
        let active = c.standing == Standing::Active;
        json!({"serial": c.serial, "device": c.device, "not_after": c.not_after, "active": active})
    };
    rest.certificates().iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_turned_on_and_off_and_others_are_refused() {
        let mut knobs = RestKnobs::default();
        for (name, value) in [("down", "true"), ("unauthorised", "true"), ("status", "500"), ("delay_ms", "5")] {
            turn(&mut knobs, name, value).unwrap();
        }
        assert!(knobs.down && knobs.unauthorised);
        assert_eq!((knobs.status, knobs.delay), (Some(500), Some(Duration::from_millis(5))));
        for (word, wrong) in WRONGS {
            turn(&mut knobs, "wrong", word).unwrap();
            assert_eq!(knobs.wrong, *wrong);
        }
        for (name, value) in [("withhold", "true"), ("negative", "p0"), ("code", "24001 orgId is not known")] {
            turn(&mut knobs, name, value).unwrap();
        }
        assert_eq!(knobs.refuse_points, Some((24001, "orgId is not known".to_owned())));
        assert!(knobs.withhold_answers && knobs.refuse_negative.is_some());
        turn(&mut knobs, "code", "off").unwrap();
        turn(&mut knobs, "negative", "off").unwrap();
        assert!(knobs.refuse_points.is_none() && knobs.refuse_negative.is_none());
        turn(&mut knobs, "status", "off").unwrap();
        assert_eq!(knobs.status, None);
        for (name, value) in [("wrong", "?"), ("status", "70000"), ("down", ""), ("x", "true"), ("code", "x")] {
            assert!(turn(&mut knobs, name, value).is_err(), "{name} {value}");
        }
    }
}
