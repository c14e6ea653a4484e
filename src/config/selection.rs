//! `filter:` of a destination in `edge.yaml`: which readings it takes.

use crate::diagnostic::Diagnostic;
use crate::model::{AssetKind, Glob, Selection};
use crate::yaml::Kind;
use crate::yaml::fields::{Faults, Fields, scalar};

pub(super) const KEYS: &[&str] = &["kind", "devices", "models", "points"];

const KINDS: &[(&str, AssetKind)] = &[("device", AssetKind::Device), ("logic", AssetKind::Logic)];

/// The section `filter` of `fields`; without it everything is taken.
pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> Selection {
    let Some(node) = fields.node("filter") else { return Selection::default() };
    let Some(filter) = Fields::open(fields.file, node, "filter", KEYS, faults) else { return Selection::default() };
    Selection {
        kind: filter.word("kind", KINDS, faults),
        devices: globs(&filter, "devices", faults),
        models: globs(&filter, "models", faults),
        points: globs(&filter, "points", faults),
    }
}

/// One name or a list of names.
fn globs(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Vec<Glob> {
    let Some(node) = fields.node(key) else { return Vec::new() };
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut globs = Vec::with_capacity(items.len());
    for item in items {
        match scalar(fields.file, item, key, faults) {
            Some(text) if text.text.is_empty() => faults.push(
                Diagnostic::error(text.place, format!("{key}: an empty name"))
                    .help("write a name; * stands for any letters"),
            ),
            Some(text) => globs.push(Glob::new(&text.text)),
            None => {}
        }
    }
    // An empty list refuses nothing here, while whoever writes it likely means the opposite.
    if items.is_empty() {
        faults.push(
            Diagnostic::error(crate::yaml::fields::place(fields.file, node), format!("{key} is an empty list"))
                .help("name at least one, or leave the key out to take all"),
        );
    }
    globs
}
