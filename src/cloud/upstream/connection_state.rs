//! PURE. `connection/state/post`: which devices behind the gateway answer. In full after each connect, changes later.

use super::{Message, Whose};
use crate::model::Timestamp;
use serde_json::{Value, json};

/// Nodes in one report: about 200 KB of text.
pub const NODES: usize = 1000;

/// One device behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    pub whose: Whose<'a>,
    pub name: &'a str,
    pub asset_id: Option<&'a str>,
    /// `None`: nobody has looked yet.
    pub connected: Option<bool>,
}

/// With `full` the report also says that these nodes stand below the gateway; the cloud sets the gateway's own state.
#[must_use]
pub fn post(gateway: Whose<'_>, full: bool, nodes: &[Node<'_>], now: Timestamp) -> Message {
    let each: Vec<Value> = nodes.iter().map(node).collect();
    let mut params = json!({ "isFull": full, "nodes": each, "reportTime": now.0 });
    if full {
        let children: Vec<String> = nodes.iter().map(|node| node_id(node.whose)).collect();
        params["relations"] = json!({ node_id(gateway): children });
    }
    Message::sys(gateway, "connection/state/post", params)
}

fn node(node: &Node<'_>) -> Value {
    let state = match node.connected {
        Some(true) => 1,
        Some(false) => 2,
        None => 3,
    };
    let mut json = json!({ "nodeId": node_id(node.whose), "state": state, "name": node.name });
    if let Some(id) = node.asset_id {
        json["assetId"] = json!(id);
    }
    json
}

/// What a node is called is the device's choice; the pair of keys is unique.
fn node_id(whose: Whose<'_>) -> String {
    format!("{}.{}", whose.product_key, whose.device_key)
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::super::vectors::{GATEWAY, TIME};
    use super::*;

    #[test]
    fn a_full_report_has_relations_and_a_change_has_none() {
        let whose = Whose { product_key: "p", device_key: "d" };
        let nodes = [Node { whose, name: "Meter", asset_id: Some("a1"), connected: Some(false) }];
        let Body::Json { method, params } = post(GATEWAY, true, &nodes, Timestamp(TIME)).body else {
            panic!("no json")
        };
        assert_eq!(method, "connection.state.post");
        assert_eq!(params["relations"], json!({ "gwPK01.gwDK01": ["p.d"] }));
        assert_eq!(params["nodes"], json!([{ "nodeId": "p.d", "state": 2, "name": "Meter", "assetId": "a1" }]));
        let Body::Json { params, .. } = post(GATEWAY, false, &nodes, Timestamp(TIME)).body else { panic!("no json") };
        assert_eq!((params.get("relations"), &params["isFull"]), (None, &json!(false)));
    }
}
