//! PURE. `connections/*.yaml` and `protocol.sys` files, as written.

use super::check::limits;
use super::fields::{Faults, Fields, pairs, scalar};
use super::yaml::{Kind, Node};
use crate::diagnostic::{Diagnostic, Place};
use driver::{Parameters, Text};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct ConnectionText {
    pub place: Place,
    pub name: Text,
    pub protocol: Option<Text>,
    pub parameters: ParametersText,
}

#[derive(Clone, Debug)]
pub enum ParametersText {
    Inline(Parameters),
    /// A file of `key = value` lines, beside the connection or from the top of the package.
    File(Text),
}

const KNOWN: &[&str] = &["name", "protocol", "protocol.sys", "description"];

/// Reads the one connection of a file.
pub fn read(file: &Arc<str>, root: &Node<'_>, faults: &mut Faults) -> Option<ConnectionText> {
    let fields = Fields::open(file, root, "connection", KNOWN, faults)?;
    let name = fields.required("name", faults);
    if let Some(name) = &name {
        limits::name("connection name", name, faults);
    }
    if let Some(text) = fields.text("description", faults) {
        limits::description(&text, faults);
    }
    let protocol = fields.required("protocol", faults);
    let parameters = match fields.node("protocol.sys") {
        None => ParametersText::Inline(Parameters::default()),
        Some(node) if matches!(node.kind, Kind::Text(_)) => {
            ParametersText::File(scalar(file, node, "protocol.sys", faults)?)
        }
        Some(node) => ParametersText::Inline(Parameters { entries: pairs(file, node, "protocol.sys", faults) }),
    };
    Some(ConnectionText { place: fields.place, name: name?, protocol, parameters })
}

/// Reads `key = value` lines; `#` and `;` start a comment line.
pub fn read_sys(file: &Arc<str>, text: &str, faults: &mut Faults) -> Parameters {
    let mut entries: Vec<(Text, Text)> = Vec::new();
    let mut first: HashMap<String, u32> = HashMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let Some((key, value)) = split(file, line, number) else {
            let place = Place::new(file, number, column(line, content));
            faults.push(
                Diagnostic::error(place, format!("\"{}\" is no parameter", clip(content))).help("write `key = value`"),
            );
            continue;
        };
        if let Some(before) = first.get(&key.text) {
            faults.push(
                Diagnostic::error(key.place.clone(), format!("parameter \"{}\" stands twice", key.text))
                    .help(format!("it stands in line {before} already; remove one")),
            );
            continue;
        }
        first.insert(key.text.clone(), number);
        entries.push((key, value));
    }
    Parameters { entries }
}

fn split(file: &Arc<str>, line: &str, number: u32) -> Option<(Text, Text)> {
    let (key, value) = line.split_once('=')?;
    let text = |part: &str| Text { text: part.to_owned(), place: Place::new(file, number, column(line, part)) };
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    Some((text(key.trim()), text(bare))).filter(|(key, _)| !key.text.is_empty())
}

/// The column at which `part`, a slice of `line`, starts.
fn column(line: &str, part: &str) -> u32 {
    let bytes = (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize).min(line.len());
    let chars = line.get(..bytes).map_or(0, |head| head.chars().count());
    u32::try_from(chars + 1).unwrap_or(u32::MAX)
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_keys_and_values_know_their_places() {
        let mut faults = Faults::new();
        let text = "# meter\nhost = 10.0.0.7\n  port=502\n; more\nnote = \"a = b\"\n";
        let parameters = read_sys(&"protocol.sys".into(), text, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        let shown: Vec<_> =
            parameters.entries.iter().map(|(k, v)| format!("{} {} {}", v.place, k.text, v.text)).collect();
        assert_eq!(
            shown,
            ["protocol.sys:2:8 host 10.0.0.7", "protocol.sys:3:8 port 502", "protocol.sys:5:9 note a = b"]
        );
    }

    #[test]
    fn what_is_no_parameter_or_stands_twice_is_refused() {
        let mut faults = Faults::new();
        read_sys(&"protocol.sys".into(), "host\na=1\na=2\n=3\n", &mut faults);
        let places: Vec<_> = faults.iter().map(|f| f.place.to_string()).collect();
        assert_eq!(places, ["protocol.sys:1:1", "protocol.sys:3:1", "protocol.sys:4:1"]);
    }
}
