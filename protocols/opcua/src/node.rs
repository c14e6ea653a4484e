//! NodeIds as a point table writes them: `ns=2;s=Motor.Speed`, `i=2258`, `nsu=urn:maker;s=Motor`. PURE.

use opcua::types::{NodeId, UAString};
use std::str::FromStr;

/// A NodeId whose namespace may still be a URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// The namespace URI, when the table gives one instead of an index.
    uri: Option<Box<str>>,
    id: NodeId,
}

impl Node {
    /// Reads the text form of OPC 10000-6, clause 5.3.1.10, and the one with a namespace URI of 5.3.1.11.
    pub(crate) fn parse(text: &str) -> Option<Node> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("nsu=") else {
            return Some(Node { uri: None, id: sound(text)? });
        };
        let (uri, id) = rest.split_once(';')?;
        if uri.is_empty() || id.starts_with("ns=") {
            return None;
        }
        // Semicolons and percent signs inside a URI are escaped (5.3.1.11).
        let uri = uri.replace("%3B", ";").replace("%3b", ";").replace("%25", "%");
        Some(Node { uri: Some(uri.into()), id: sound(id)? })
    }

    /// The NodeId for a server with these namespaces; `None` when it has no such namespace.
    pub(crate) fn resolve(&self, namespaces: &[UAString]) -> Option<NodeId> {
        let Some(uri) = &self.uri else {
            return Some(self.id.clone());
        };
        let index = namespaces.iter().position(|n| n.as_ref() == &**uri)?;
        Some(NodeId { namespace: u16::try_from(index).ok()?, identifier: self.id.identifier.clone() })
    }

    pub(crate) fn needs_namespaces(&self) -> bool {
        self.uri.is_some()
    }
}

fn sound(text: &str) -> Option<NodeId> {
    // The longest identifier a server has to take (OPC 10000-3, clause 8.2.4).
    const LONGEST: usize = 4096;
    NodeId::from_str(text).ok().filter(|id| text.len() <= LONGEST && !id.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_identifier_is_read() {
        for text in [
            "ns=2;s=Motor.Speed",
            "i=2258",
            "ns=3;i=17",
            "ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63",
            "ns=1;b=M/RbKBsRVkePCePcx24oRA==",
            "ns=2;s=a;b=c",
        ] {
            assert!(Node::parse(text).is_some(), "{text}");
        }
    }

    #[test]
    fn malformed_identifiers_are_refused() {
        for text in
            ["", "3010", "ns=2", "ns=70000;i=1", "ns=2;x=1", "s=", "é=1", "i=0", "nsu=;s=a", "nsu=u;ns=2;s=a", "i=-1"]
        {
            assert_eq!(Node::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_namespace_uri_is_looked_up_in_the_servers_table() {
        let node = Node::parse("nsu=urn:maker%3Bx;s=Motor").expect("well formed");
        let table: Vec<UAString> = ["http://opcfoundation.org/UA/", "urn:maker;x"].map(UAString::from).into();
        assert_eq!(node.resolve(&table), Some(NodeId::new(1, "Motor")));
        assert_eq!(node.resolve(&table[..1]), None);
    }
}
