//! PURE. What changes between two templates: points of the table, mappings, uploads, data types.

use crate::model::{Argument, Measurepoint, Rule, Template, Upload};
use crate::package::models::data_type_word;
use driver::{PointTable, RowText};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// One thing that is otherwise, in words: `coefficient 1 -> 0.1`.
pub type Change = String;

/// Points by what people call them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<(String, Vec<Change>)>,
}

impl Changes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What two templates differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateDiff {
    /// Rows of point.csv.
    pub points: Changes,
    /// Measurement points: mapping, control, upload, data type.
    pub measurepoints: Changes,
    /// The same, in another order: points are numbered anew.
    pub reordered: bool,
}

impl TemplateDiff {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.measurepoints.is_empty() && !self.reordered
    }
}

#[must_use]
pub fn compare(old: &Template, new: &Template) -> TemplateDiff {
    let mut diff = TemplateDiff::default();
    diff.reordered = points(&old.table, &new.table, &mut diff.points);
    let (before, after) = (filled(old), filled(new));
    for (id, was) in &before {
        let Some(is) = after.get(id) else {
            diff.measurepoints.removed.push((*id).to_owned());
            continue;
        };
        let (was_type, is_type) = (data_type_word(was.point.data_type), data_type_word(is.point.data_type));
        let mut changes = Vec::new();
        note(&mut changes, "data type", was_type, is_type);
        note(&mut changes, "mapping", &was.mapping, &is.mapping);
        note(&mut changes, "control", &was.control, &is.control);
        note(&mut changes, "upload", &was.upload, &is.upload);
        let unit = |filled: &Filled<'_>| filled.point.unit.clone().unwrap_or_default();
        note(&mut changes, "unit", &unit(was), &unit(is));
        if !changes.is_empty() {
            diff.measurepoints.changed.push(((*id).to_owned(), changes));
        }
    }
    diff.measurepoints.added = after.keys().filter(|id| !before.contains_key(*id)).map(|id| (*id).to_owned()).collect();
    diff
}

fn note(changes: &mut Vec<Change>, what: &str, was: &str, is: &str) {
    let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    if was != is {
        changes.push(format!("{what} {} -> {}", shown(was), shown(is)));
    }
}

/// A row is known by its kind and name; of equal names the nth.
fn points(old: &PointTable, new: &PointTable, changes: &mut Changes) -> bool {
    let before = keyed(old);
    let mut seen: HashMap<(usize, &str), u32> = HashMap::with_capacity(new.len());
    let mut matched = vec![false; old.len()];
    let (mut last, mut reordered) = (0, false);
    for row in new.rows() {
        let kind = row.row().kind as usize;
        let nth = seen.entry((kind, row.name())).or_insert(0);
        let found = before.get(&(kind, row.name(), *nth)).copied();
        *nth += 1;
        let Some(at) = found else {
            changes.added.push(shown(row));
            continue;
        };
        matched[at] = true;
        reordered |= at < last;
        last = at;
        let told = row_changes(old.row(at), row, old, new);
        if !told.is_empty() {
            changes.changed.push((shown(row), told));
        }
    }
    changes.removed = (0..old.len()).filter(|at| !matched[*at]).map(|at| shown(old.row(at))).collect();
    reordered
}

fn keyed(table: &PointTable) -> HashMap<(usize, &str, u32), usize> {
    let mut count: HashMap<(usize, &str), u32> = HashMap::with_capacity(table.len());
    let mut all = HashMap::with_capacity(table.len());
    for row in table.rows() {
        let kind = row.row().kind as usize;
        let nth = count.entry((kind, row.name())).or_insert(0);
        all.insert((kind, row.name(), *nth), row.index());
        *nth += 1;
    }
    all
}

/// `Voltage (ai.3000)`
fn shown(row: RowText<'_>) -> String {
    format!("{} ({})", row.name(), address(row))
}

fn address(row: RowText<'_>) -> String {
    format!("{}.{}", row.row().kind.word(), row.number())
}

fn row_changes(was: RowText<'_>, is: RowText<'_>, old: &PointTable, new: &PointTable) -> Vec<Change> {
    let mut changes = Vec::new();
    note(&mut changes, "number", was.number(), is.number());
    let (before, after) = (was.row(), is.row());
    if before.value_type != after.value_type {
        note(&mut changes, "value type", before.value_type.word(), after.value_type.word());
    }
    for (what, x, y) in
        [("coefficient", before.coefficient, after.coefficient), ("base value", before.base_value, after.base_value)]
    {
        if x != y {
            note(&mut changes, what, &x.to_string(), &y.to_string());
        }
    }
    for column in new.extra_columns() {
        note(&mut changes, column, was.cell(column).unwrap_or_default(), is.cell(column).unwrap_or_default());
    }
    for column in old.extra_columns().filter(|column| new.extra_columns().all(|other| other != *column)) {
        note(&mut changes, column, was.cell(column).unwrap_or_default(), "");
    }
    changes
}

/// A measurement point that a template fills or commands.
struct Filled<'t> {
    point: &'t Measurepoint,
    mapping: String,
    control: String,
    upload: String,
}

fn filled(template: &Template) -> BTreeMap<&str, Filled<'_>> {
    let mut all = BTreeMap::new();
    let points = &template.model.measurepoints;
    let empty = |point| Filled { point, mapping: String::new(), control: String::new(), upload: String::new() };
    for rule in &template.rules {
        let point = &points[rule.measurepoint as usize];
        let filled = all.entry(point.id.as_str()).or_insert_with(|| empty(point));
        filled.mapping = formula(rule, &template.table);
        filled.upload = upload(rule.upload);
    }
    for control in &template.controls {
        let point = &points[control.measurepoint as usize];
        let filled = all.entry(point.id.as_str()).or_insert_with(|| empty(point));
        filled.control = address(template.table.row(control.row as usize));
    }
    all
}

fn formula(rule: &Rule, table: &PointTable) -> String {
    let argument = |argument: &Argument| match argument {
        Argument::Point(row) => address(table.row(*row as usize)),
        Argument::Constant(x) => x.to_string(),
    };
    let mut arguments = rule.formula.arguments.iter().map(argument);
    if let (crate::model::Function::Equal, Some(only)) = (rule.formula.function, arguments.next()) {
        return only;
    }
    let arguments: Vec<String> = rule.formula.arguments.iter().map(argument).collect();
    format!("{}({})", rule.formula.function.word(), arguments.join(","))
}

fn upload(upload: Upload) -> String {
    let mut text = String::new();
    let _ = match upload {
        Upload::Realtime => write!(text, "realtime"),
        Upload::Timer(interval) => write!(text, "timer {interval:?}"),
        Upload::Change { deadband } => write!(text, "change {deadband}"),
        Upload::ChangeTimer { deadband, interval } => write!(text, "change_timer {deadband} {interval:?}"),
        Upload::Never => write!(text, "never"),
    };
    text
}
