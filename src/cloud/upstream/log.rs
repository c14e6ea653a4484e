//! PURE. `thing/log/post`: a line of a device's log.

use super::{Message, Whose};
use crate::model::Timestamp;
use serde_json::json;

/// One line. The vendor's Java client alone has this message; its form is taken from there.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub trace_id: &'a str,
    pub level: &'a str,
    pub module: &'a str,
    pub content: &'a str,
}

#[must_use]
pub fn post(whose: Whose<'_>, line: Line<'_>, time: Timestamp) -> Message {
    let logs = json!({
        "traceId": line.trace_id, "level": line.level, "module": line.module, "content": line.content,
    });
    Message::sys(whose, "thing/log/post", json!({ "logs": logs, "time": time.0 }))
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::super::vectors::{GATEWAY, TIME};
    use super::*;

    #[test]
    fn a_line_has_its_four_parts() {
        let line = Line { trace_id: "t", level: "WARN", module: "south", content: "silent" };
        let message = post(GATEWAY, line, Timestamp(TIME));
        assert_eq!(message.topic, "/sys/gwPK01/gwDK01/thing/log/post");
        let logs = json!({ "traceId": "t", "level": "WARN", "module": "south", "content": "silent" });
        let params = json!({ "logs": logs, "time": TIME });
        assert_eq!(message.body, Body::Json { method: "thing.log.post".to_owned(), params });
    }
}
