//! When each destination last acknowledged something.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::moments::span;
use crate::cli::terminal::grouped;
use serde_json::Value as Json;

/// A link that is up acknowledges what waits within minutes.
const LONG_S: i64 = 300;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let Some(status) = ground.status() else {
        return vec![Finding::unseen("acknowledgements", "no gateway tells them")];
    };
    let uptime = status["uptime_s"].as_i64().unwrap_or(0);
    let destinations = status["outbox"]["destinations"].as_array().into_iter().flatten();
    destinations.map(|one| told(one, uptime, ground.now)).collect()
}

fn told(one: &Json, uptime: i64, now: i64) -> Finding {
    let readings = &one["readings"];
    let count = |key: &str| readings[key].as_u64().unwrap_or(0);
    let (waiting, held) = (count("waiting"), count("held"));
    let last = one["last_acknowledged"].as_i64().map(|at| (now - at) / 1000);
    let silent = last.unwrap_or(uptime);
    let told = match last {
        Some(ago) => {
            format!("last acknowledged {} ago; {} wait", span(u64::try_from(ago).unwrap_or(0)), grouped(waiting))
        }
        None => format!(
            "has acknowledged nothing since the start {} ago; {} wait",
            span(u64::try_from(uptime).unwrap_or(0)),
            grouped(waiting)
        ),
    };
    let finding = if waiting > 0 && silent > LONG_S {
        Finding::fault(told).help(
            "it takes the connection and not the readings, or there is none: see the findings of login and network",
        )
    } else if held > 0 {
        Finding::warning(format!("{told}; {} are held until their devices are in order in the cloud", grouped(held)))
            .help("see the sub-devices that are not logged in")
    } else if last.is_none() && uptime > LONG_S {
        Finding::warning(format!("{told}: nothing is read, or nothing is selected for it"))
            .help("see the findings of devices, and `filter:` of the destination")
    } else {
        Finding::ok(told)
    };
    finding.at(one["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;
    use serde_json::json;

    #[test]
    fn a_link_that_acknowledges_nothing_of_what_waits_is_a_fault() {
        let one = |last: Option<i64>, waiting: u64, held: u64| {
            let one =
                json!({ "name": "enos", "last_acknowledged": last, "readings": { "waiting": waiting, "held": held } });
            told(&one, 4000, 10_000_000).level
        };
        assert_eq!(one(Some(9_999_000), 10, 0), Level::Ok);
        assert_eq!(one(Some(9_000_000), 10, 0), Level::Fault);
        assert_eq!(one(Some(9_000_000), 0, 0), Level::Ok);
        assert_eq!(one(None, 10, 0), Level::Fault);
        assert_eq!(one(None, 0, 0), Level::Warning);
        assert_eq!(one(Some(9_999_000), 0, 5), Level::Warning);
    }
}
