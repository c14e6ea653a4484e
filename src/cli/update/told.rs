//! PURE. A job of updates in words: one line for people.

use crate::cli::moments::relative;
use crate::cli::status::text;
use serde_json::Value as Json;

/// How long an update that ended is still worth a line of the status page.
const RECENT_MS: i64 = 86_400_000;
/// One that did not end well: long enough for whoever comes after the weekend.
const TROUBLE_MS: i64 = 7 * RECENT_MS;

/// `engine 1.1.0 → 1.2.0: waiting, 52 % (the maintenance window opens sat 2026-11-28 22:00)`
pub(super) fn describe(job: &Json) -> String {
    let target = job["target"].as_str().unwrap_or("update");
    let change = match (job["replaces"].as_str(), text(&job["version"])) {
        (Some(before), version) => format!("{before} → {version}"),
        (None, version) => version,
    };
    let mut said = format!("{target} {change}: {}", text(&job["state"]));
    if job["half_done"] == true {
        said.push_str(", half done");
    }
    if job["end"] != true {
        said.push_str(&format!(", {} %", job["percent"]));
    }
    for key in ["why", "doing"] {
        if let Some(words) = job[key].as_str().filter(|words| !words.is_empty()) {
            said.push_str(&format!(" ({words})"));
        }
    }
    said
}

/// For the status page: an update under way, and one that ended lately.
pub(in crate::cli) fn lines(update: &Json, now: i64) -> Vec<String> {
    let job = &update["job"];
    let mut lines: Vec<String> = update["unread"].as_str().map(str::to_owned).into_iter().collect();
    if job.is_null() {
        return lines;
    }
    let changed = job["changed"].as_i64().unwrap_or(0);
    let recent = if job["state"] == "done" { RECENT_MS } else { TROUBLE_MS };
    if job["end"] != true {
        lines.push(describe(job));
    } else if now.saturating_sub(changed) < recent {
        lines.push(format!("{}; {}", describe(job), relative(changed, now)));
        if job["told"] == false {
            lines.push("the cloud does not know yet how it ended".to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_told_in_one_line() {
        let waiting = json!({"target": "engine", "version": "1.2.0", "replaces": "1.1.0", "state": "waiting", "percent": 52, "end": false, "why": "the window opens later", "doing": ""});
        assert_eq!(describe(&waiting), "engine 1.1.0 → 1.2.0: waiting, 52 % (the window opens later)");
        let done =
            json!({"target": "rauc", "version": "2.0.0", "state": "done", "percent": 100, "end": true, "why": ""});
        assert_eq!(describe(&done), "rauc 2.0.0: done");
    }

    #[test]
    fn the_status_page_tells_what_goes_on_and_for_a_while_what_went_wrong() {
        let (day, now) = (RECENT_MS, 100 * RECENT_MS);
        assert_eq!(lines(&json!({ "job": null, "unread": "no update is taken" }), now), ["no update is taken"]);
        assert!(lines(&json!({ "job": null, "unread": null }), now).is_empty());
        let job = |state: &str, ended: i64, told: bool| {
            let end = ended > 0;
            let job = json!({"target": "engine", "version": "1.2.0", "replaces": "1.1.0", "state": state, "percent": 30,
                "end": end, "why": "no answer", "doing": "", "changed": ended, "told": told, "half_done": state == "failed"});
            lines(&json!({ "job": job }), now)
        };
        assert_eq!(job("downloading", 0, false), ["engine 1.1.0 → 1.2.0: downloading, 30 % (no answer)"]);
        assert_eq!(
            job("failed", now - 3_600_000, false),
            [
                "engine 1.1.0 → 1.2.0: failed, half done (no answer); 60 min ago",
                "the cloud does not know yet how it ended"
            ]
        );
        assert_eq!(job("refused", now - 6 * day, true).len(), 1);
        assert!(job("refused", now - 8 * day, true).is_empty() && job("done", now - 2 * day, true).is_empty());
        assert!(lines(&json!({ "job": null }), now).is_empty() && lines(&Json::Null, now).is_empty());
    }
}
