//! PURE. YAML as a tree that knows where everything stands.
//!
//! Serde stops at the first fault and forgets places; a check must report all of them. So the tree is built
//! from parser events, scalars stay the text that was written (`0123`, `1.0`, `no`), and [`super::fields`]
//! reads meaning out of it.

use crate::diagnostic::{Diagnostic, Place};
use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Deeper nesting has no use in a package and would only exhaust the stack.
const MAX_DEPTH: usize = 48;

/// 100,000 devices with a dozen keys each are 2.5 million nodes.
const MAX_NODES: usize = 12_000_000;

/// Nodes that aliases may repeat. A "billion laughs" file passes this within its fifth line.
const MAX_REPEATED: usize = 200_000;

/// Syntax faults end the parse, but a file may repeat thousands of keys: enough is enough.
const MAX_FAULTS: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    pub line: u32,
    pub column: u32,
    /// A scalar in quotes: its text starts one column later.
    pub quoted: bool,
    pub kind: Kind<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind<'a> {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar as written, quotes and escapes resolved.
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key<'a> {
    pub line: u32,
    pub column: u32,
    pub text: Cow<'a, str>,
}

/// Values that may still be read. One for all files of a package: a thousand small bombs are one large one.
#[derive(Debug)]
pub struct Budget(AtomicUsize);

impl Budget {
    #[must_use]
    pub fn new(values: usize) -> Budget {
        Budget(AtomicUsize::new(values))
    }

    /// False when there are not so many left.
    fn take(&self, values: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(values)).is_ok()
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new(MAX_NODES)
    }
}

/// Parses one file. `None` when it is empty or its syntax is broken; the faults say which.
#[must_use]
pub fn parse<'a>(file: &Arc<str>, text: &'a str) -> (Option<Node<'a>>, Vec<Diagnostic>) {
    parse_within(file, text, &Budget::default())
}

/// As [`parse`], with what other files have left of the budget.
#[must_use]
pub fn parse_within<'a>(file: &Arc<str>, text: &'a str, budget: &Budget) -> (Option<Node<'a>>, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut tree = Tree {
        file,
        open: Vec::new(),
        anchors: HashMap::new(),
        budget,
        repeated: 0,
        root: None,
        documents: 0,
        faults: Vec::new(),
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => tree.step(event, span.start),
            Err(error) => Err(syntax_fault(file, text, &error)),
        };
        if let Err(fault) = step {
            tree.faults.push(fault);
            return (None, tree.faults);
        }
    }
    (tree.root, tree.faults)
}

fn syntax_fault(file: &Arc<str>, text: &str, error: &ScanError) -> Diagnostic {
    let (line, column) = position(*error.marker());
    let fault = Diagnostic::error(Place::new(file, line, column), format!("this is not YAML: {}", error.info()));
    let mut around = text.lines().skip(line.saturating_sub(2) as usize).take(3);
    let tabbed = around.any(|l| l[..l.len() - l.trim_start().len()].contains('\t'));
    if tabbed { fault.help("YAML is indented with blanks: replace the tab at the start of the line") } else { fault }
}

fn position(mark: Marker) -> (u32, u32) {
    let line = u32::try_from(mark.line()).unwrap_or(u32::MAX);
    let column = u32::try_from(mark.col()).unwrap_or(u32::MAX).saturating_add(1);
    (line, column)
}

/// A list or map that is not closed yet.
struct Open<'a> {
    node: Node<'a>,
    anchor: usize,
    key: Option<Key<'a>>,
}

struct Tree<'a, 'f> {
    file: &'f Arc<str>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    budget: &'f Budget,
    repeated: usize,
    root: Option<Node<'a>>,
    documents: usize,
    faults: Vec<Diagnostic>,
}

impl<'a> Tree<'a, '_> {
    /// # Errors
    /// A fault after which the rest makes no sense.
    fn step(&mut self, event: Event<'a>, mark: Marker) -> Result<(), Diagnostic> {
        let (line, column) = position(mark);
        if event.is_node() || event.is_alias() {
            self.count(1, line, column)?;
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let empty =
                    matches!(style, ScalarStyle::Plain) && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let as_key = self.open.last().is_some_and(|o| matches!(o.node.kind, Kind::Map(_)) && o.key.is_none());
                let kind = if empty && !as_key { Kind::Null } else { Kind::Text(text) };
                let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
                self.put(Node { line, column, quoted, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.start(line, column, Kind::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.start(line, column, Kind::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => self.repeat(id, line, column),
            Event::DocumentStart(..) => self.document(line, column),
            _ => Ok(()),
        }
    }

    fn count(&mut self, values: usize, line: u32, column: u32) -> Result<(), Diagnostic> {
        if self.budget.take(values) {
            return Ok(());
        }
        let fault = self.fault(line, column, "here the files have more values than a package may have on this machine");
        Err(fault.help("use fewer devices in a package, or a machine with more memory"))
    }

    fn document(&mut self, line: u32, column: u32) -> Result<(), Diagnostic> {
        self.documents += 1;
        if self.documents > 1 {
            let fault = self.fault(line, column, "a second document starts here");
            return Err(fault.help("write one document a file; remove the --- line"));
        }
        Ok(())
    }

    fn start(&mut self, line: u32, column: u32, kind: Kind<'a>, anchor: usize) -> Result<(), Diagnostic> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.fault(line, column, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.expects_key() {
            return Err(self.fault(line, column, "a list or map can not be a key"));
        }
        self.open.push(Open { node: Node { line, column, quoted: false, kind }, anchor, key: None });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Diagnostic> {
        let mut closed = self.open.pop().expect("the parser closes only what it opened");
        if let Kind::Map(entries) = &mut closed.node.kind {
            refuse_repeated_keys(self.file, entries, &mut self.faults);
            merge(entries);
        }
        self.put(closed.node, closed.anchor)
    }

    fn expects_key(&self) -> bool {
        self.open.last().is_some_and(|o| matches!(o.node.kind, Kind::Map(_)) && o.key.is_none())
    }

    /// Repeats what an anchor named, within a budget.
    fn repeat(&mut self, id: usize, line: u32, column: u32) -> Result<(), Diagnostic> {
        let Some(known) = self.anchors.get(&id) else {
            return Err(self.fault(line, column, "this alias repeats what it stands in"));
        };
        self.repeated = self.repeated.saturating_add(size(known));
        if self.repeated > MAX_REPEATED {
            let fault = self.fault(line, column, format!("aliases repeat more than {MAX_REPEATED} values"));
            return Err(fault.help("write the values out, or use fewer aliases"));
        }
        let node = Node { line, column, quoted: false, kind: known.kind.clone() };
        self.count(size(&node), line, column)?;
        self.put(node, 0)
    }

    fn put(&mut self, node: Node<'a>, anchor: usize) -> Result<(), Diagnostic> {
        if anchor > 0 {
            // It is kept once more; anchors within anchors, once more for each.
            self.count(size(&node), node.line, node.column)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(top) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut top.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(entries) => match (top.key.take(), node.kind) {
                (Some(key), kind) => entries.push((key, Node { kind, ..node })),
                (None, Kind::Text(text)) => top.key = Some(Key { line: node.line, column: node.column, text }),
                (None, _) => return Err(self.fault(node.line, node.column, "a list or map can not be a key")),
            },
            Kind::Null | Kind::Text(_) => unreachable!("only lists and maps are opened"),
        }
        Ok(())
    }

    fn fault(&self, line: u32, column: u32, problem: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Place::new(self.file, line, column), problem)
    }
}

fn size(node: &Node<'_>) -> usize {
    1 + match &node.kind {
        Kind::Null | Kind::Text(_) => 0,
        Kind::List(items) => items.iter().map(size).sum(),
        Kind::Map(entries) => entries.iter().map(|(_, node)| 1 + size(node)).sum(),
    }
}

/// The first of equal keys stays.
fn refuse_repeated_keys(file: &Arc<str>, entries: &mut Vec<(Key<'_>, Node<'_>)>, faults: &mut Vec<Diagnostic>) {
    let mut first: HashMap<&str, u32> = HashMap::with_capacity(if entries.len() > 12 { entries.len() } else { 0 });
    let mut repeated = Vec::new();
    for (index, (key, _)) in entries.iter().enumerate() {
        let before = if entries.len() > 12 {
            first.insert(&key.text, key.line)
        } else {
            entries[..index].iter().find(|(k, _)| k.text == key.text).map(|(k, _)| k.line)
        };
        if let Some(line) = before {
            repeated.push(index);
            if faults.len() < MAX_FAULTS {
                let problem = format!("key \"{}\" stands twice", key.text);
                faults.push(
                    Diagnostic::error(Place::new(file, key.line, key.column), problem)
                        .help(format!("it stands in line {line} already; remove one")),
                );
            }
        }
    }
    if repeated.is_empty() {
        return;
    }
    // One walk: taking them out one by one would move the rest each time.
    let (mut index, mut next) = (0, repeated.into_iter().peekable());
    entries.retain(|_| {
        let repeats = next.next_if_eq(&index).is_some();
        index += 1;
        !repeats
    });
}

/// `<<: *defaults` adds what the map does not say itself.
fn merge<'a>(entries: &mut Vec<(Key<'a>, Node<'a>)>) {
    let Some(at) = entries.iter().position(|(key, node)| key.text == "<<" && matches!(node.kind, Kind::Map(_))) else {
        return;
    };
    let (_, node) = entries.remove(at);
    let Kind::Map(defaults) = node.kind else { return };
    let said: HashSet<String> = entries.iter().map(|(key, _)| key.text.to_string()).collect();
    entries.extend(defaults.into_iter().filter(|(key, _)| !said.contains(&*key.text)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn faults(text: &str) -> Vec<String> {
        parse(&"a.yaml".into(), text).1.iter().map(ToString::to_string).collect()
    }

    fn tree(text: &str) -> Node<'_> {
        let (node, faults) = parse(&"a.yaml".into(), text);
        assert_eq!(faults, []);
        node.expect("has content")
    }

    #[test]
    fn ten_thousand_keys_that_stand_twice_cost_no_time() {
        // Each repeated key was taken out of a list of 600,000, and the rest moved.
        let mut text = "k: 1\n".repeat(200_000);
        (0..200_000).for_each(|n| writeln!(text, "u{n}: 1").unwrap());
        let began = std::time::Instant::now();
        let (node, faults) = parse(&"a.yaml".into(), &text);
        let Some(Kind::Map(entries)) = node.map(|node| node.kind) else { panic!("a map") };
        assert_eq!((entries.len(), faults.len()), (200_001, MAX_FAULTS));
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    }

    #[test]
    fn anchors_within_anchors_and_many_files_share_one_budget() {
        let open: String = (0..40).map(|n| format!("&a{n} [")).collect();
        let text = format!("a: {open}{}x{}\n", "x,".repeat(1000), "]".repeat(40));
        let (_, faults) = parse_within(&"a.yaml".into(), &text, &Budget::new(20_000));
        assert!(faults[0].problem.contains("more values than a package may have"), "{}", faults[0]);
        let budget = Budget::new(25);
        let small = "[1, 2, 3, 4, 5, 6, 7, 8]";
        let faults: Vec<usize> = (0..3).map(|_| parse_within(&"b.yaml".into(), small, &budget).1.len()).collect();
        assert_eq!(faults, [0, 0, 1]);
    }

    #[test]
    fn scalars_stay_as_written_and_know_their_place() {
        let root = tree("a: 0123\nb: [1.0, no, \"x\"]\n");
        let Kind::Map(entries) = &root.kind else { panic!("a map") };
        assert_eq!(entries[0].1, Node { line: 1, column: 4, quoted: false, kind: Kind::Text("0123".into()) });
        let Kind::List(items) = &entries[1].1.kind else { panic!("a list") };
        assert_eq!(items[1], Node { line: 2, column: 10, quoted: false, kind: Kind::Text("no".into()) });
        assert_eq!((entries[1].0.line, entries[1].0.column), (2, 1));
    }

    #[test]
    fn nothing_is_null_unless_quoted() {
        let root = tree("a:\nb: ~\nc: \"null\"\n");
        let Kind::Map(entries) = &root.kind else { panic!("a map") };
        assert_eq!([&entries[0].1.kind, &entries[1].1.kind], [&Kind::Null, &Kind::Null]);
        assert_eq!(entries[2].1.kind, Kind::Text("null".into()));
    }

    #[test]
    fn a_repeated_key_is_named_with_its_first_place() {
        let fault = faults("a: 1\nb: 2\na: 3\n");
        assert_eq!(fault, ["a.yaml:3:1: key \"a\" stands twice\n  help: it stands in line 1 already; remove one"]);
    }

    #[test]
    fn merge_keys_add_what_is_missing() {
        let root = tree("base: &b { x: 1, y: 2 }\nuse: { <<: *b, y: 3 }\n");
        let Kind::Map(entries) = &root.kind else { panic!("a map") };
        let Kind::Map(used) = &entries[1].1.kind else { panic!("a map") };
        let pairs: Vec<_> = used.iter().map(|(k, n)| (&*k.text, &n.kind)).collect();
        assert_eq!(pairs, [("y", &Kind::Text("3".into())), ("x", &Kind::Text("1".into()))]);
    }

    #[test]
    fn a_tab_is_explained() {
        let fault = faults("devices:\n\t- name: a\n").join("");
        assert!(fault.contains("a.yaml:2:") && fault.contains("replace the tab"), "{fault}");
    }

    #[test]
    fn a_billion_laughs_are_refused_at_once() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..30 {
            let refs = vec![format!("*a{}", n - 1); 10].join(",");
            writeln!(text, "a{n}: &a{n} [{refs}]").expect("strings take everything");
        }
        let started = std::time::Instant::now();
        assert!(faults(&text).join("").contains("aliases repeat more than"));
        assert!(started.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(faults(&"[".repeat(100_000)).len(), 1);
        assert_eq!(faults(&format!("a: {}", "- ".repeat(100_000))).len(), 1);
        let blocks = (0..200).fold(String::new(), |mut all, n| {
            let _ = writeln!(all, "{}k:", " ".repeat(n));
            all
        });
        assert_eq!(faults(&blocks).len(), 1);
    }

    #[test]
    fn a_second_document_is_refused() {
        assert!(faults("a: 1\n---\nb: 2\n")[0].contains("second document"));
    }

    #[test]
    fn an_alias_within_its_own_anchor_is_refused() {
        assert_eq!(faults("a: &a [*a]\n").len(), 1);
    }
}
