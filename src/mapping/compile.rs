//! PURE. A template as flat tables: from a row of the point table straight to what it feeds.

use super::Scale;
use crate::model::{Argument, DataType, Function, Rule, Template, Upload};

/// "This rule needs no memory" or "this row feeds no formula".
pub(super) const NONE: u32 = u32::MAX;

/// A compiled template, shared by all its devices.
#[derive(Debug)]
pub struct Mapping {
    pub(super) rows: Box<[Row]>,
    /// Targets that are one row and nothing else, in the order of the rows.
    pub(super) direct: Box<[Target]>,
    /// Rows that feed formulas.
    pub(super) slots: Box<[Slot]>,
    /// Formulas fed, slot after slot.
    pub(super) feeds: Box<[u32]>,
    pub(super) formulas: Box<[Compiled]>,
    /// Upload rule of every gate, by gate.
    pub(super) gates: Box<[Target]>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub scale: Scale,
    /// The row's targets are `direct[first..end]`.
    pub first: u32,
    pub end: u32,
    pub slot: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub row: u32,
    /// The slot's formulas are `feeds[first..end]`.
    pub first: u32,
    pub end: u32,
}

/// A measurement point and how it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub measurepoint: u32,
    pub data_type: DataType,
    pub has_quality: bool,
    pub upload: Upload,
    pub gate: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub target: Target,
    pub function: Function,
    pub arguments: Box<[Input]>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    Slot(u32),
    Constant(f64),
}

impl Mapping {
    /// Compiles a checked template. Rules that name what the template does not have are left out: `check` refuses them.
    #[must_use]
    pub fn compile(template: &Template) -> Mapping {
        let mut gates = Vec::new();
        let mut direct: Vec<(u32, Target)> = Vec::new();
        let mut formulas: Vec<(&Rule, Target)> = Vec::new();
        for rule in template.rules.iter().filter(|rule| is_sound(template, rule)) {
            let target = target(template, rule, &mut gates);
            match sole_row(rule) {
                Some(row) => direct.push((row, target)),
                None => formulas.push((rule, target)),
            }
        }
        direct.sort_by_key(|(row, _)| *row);
        let mut slots = slot_rows(&formulas);
        let formulas: Box<[Compiled]> = formulas.iter().map(|(rule, target)| compiled(rule, *target, &slots)).collect();
        let feeds = feeds(&mut slots, &formulas);
        Mapping {
            rows: rows(template, &direct, &slots),
            direct: direct.into_iter().map(|(_, target)| target).collect(),
            slots: slots.into(),
            feeds,
            formulas,
            gates: gates.into(),
        }
    }

    /// The conversion of a row.
    #[must_use]
    pub fn scale(&self, row: u32) -> Option<Scale> {
        self.rows.get(row as usize).map(|row| row.scale)
    }

    /// Measurement points that are the row and nothing else, with their data types.
    pub fn direct(&self, row: u32) -> impl Iterator<Item = (u32, DataType)> {
        let range = self.rows.get(row as usize).map_or(0..0, |row| row.first as usize..row.end as usize);
        self.direct[range].iter().map(|target| (target.measurepoint, target.data_type))
    }

    /// Measurement points made by formulas, in the order of [`super::Computed::formula`].
    pub fn formulas(&self) -> impl Iterator<Item = u32> {
        self.formulas.iter().map(|formula| formula.target.measurepoint)
    }
}

fn is_sound(template: &Template, rule: &Rule) -> bool {
    let known = |argument: &Argument| match argument {
        Argument::Point(row) => (*row as usize) < template.table.len(),
        Argument::Constant(_) => true,
    };
    (rule.measurepoint as usize) < template.model.measurepoints.len()
        && rule.formula.arguments.iter().all(known)
        // Without a point nothing would ever make it run.
        && rule.formula.arguments.iter().any(|argument| matches!(argument, Argument::Point(_)))
}

fn target(template: &Template, rule: &Rule, gates: &mut Vec<Target>) -> Target {
    let point = &template.model.measurepoints[rule.measurepoint as usize];
    let mut target = Target {
        measurepoint: rule.measurepoint,
        data_type: point.data_type,
        has_quality: point.has_quality,
        upload: rule.upload,
        gate: NONE,
    };
    if !matches!(rule.upload, Upload::Realtime | Upload::Never) {
        target.gate = index(gates.len());
        gates.push(target);
    }
    target
}

fn sole_row(rule: &Rule) -> Option<u32> {
    match (rule.formula.function, rule.formula.arguments.as_slice()) {
        (Function::Equal, [Argument::Point(row)]) => Some(*row),
        _ => None,
    }
}

fn slot_rows(formulas: &[(&Rule, Target)]) -> Vec<Slot> {
    let mut rows: Vec<u32> = formulas
        .iter()
        .flat_map(|(rule, _)| &rule.formula.arguments)
        .filter_map(|argument| match argument {
            Argument::Point(row) => Some(*row),
            Argument::Constant(_) => None,
        })
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows.into_iter().map(|row| Slot { row, first: 0, end: 0 }).collect()
}

fn compiled(rule: &Rule, target: Target, slots: &[Slot]) -> Compiled {
    let input = |argument: &Argument| match argument {
        Argument::Point(row) => Input::Slot(slot_of(slots, *row)),
        Argument::Constant(x) => Input::Constant(*x),
    };
    Compiled { target, function: rule.formula.function, arguments: rule.formula.arguments.iter().map(input).collect() }
}

fn slot_of(slots: &[Slot], row: u32) -> u32 {
    slots.binary_search_by_key(&row, |slot| slot.row).map_or(NONE, index)
}

fn feeds(slots: &mut [Slot], formulas: &[Compiled]) -> Box<[u32]> {
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for (at, formula) in formulas.iter().enumerate() {
        for input in &formula.arguments {
            if let Input::Slot(slot) = input {
                pairs.push((*slot, index(at)));
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    for (at, slot) in slots.iter_mut().enumerate() {
        slot.first = index(pairs.partition_point(|(s, _)| *s < index(at)));
        slot.end = index(pairs.partition_point(|(s, _)| *s <= index(at)));
    }
    pairs.into_iter().map(|(_, formula)| formula).collect()
}

fn rows(template: &Template, direct: &[(u32, Target)], slots: &[Slot]) -> Box<[Row]> {
    let mut next = 0;
    let row = |at: usize| {
        let text = template.table.row(at).row();
        let first = next;
        while direct.get(next).is_some_and(|(row, _)| *row as usize == at) {
            next += 1;
        }
        Row {
            scale: Scale { coefficient: text.coefficient, base_value: text.base_value },
            first: index(first),
            end: index(next),
            slot: slot_of(slots, index(at)),
        }
    };
    (0..template.table.len()).map(row).collect()
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("the reader caps a table far below 2^32 rows")
}
