//! PURE. Mapping rows against a model and a point table: the rules and controls of a template.

use super::check::fit::{self, Fit, Yield};
use super::fields::Faults;
use super::mapping_table::Row;
use super::models::Flat;
use super::point_index::{Found, PointIndex};
use super::upload::UploadText;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::model::formula::{self, FormulaText, Operand, OperandText};
use crate::model::{Argument, Control, Formula, Function, Measurepoint, Rule};
use driver::{PointTable, Text};
use std::collections::HashMap;
use std::sync::Arc;

/// What a template makes of its points.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    pub rules: Vec<Rule>,
    pub controls: Vec<Control>,
}

/// A row whose texts are parsed and whose measurement point is known.
struct Wanted<'r> {
    row: &'r Row,
    measurepoint: u32,
    mapping: Option<FormulaText>,
    control: Option<FormulaText>,
}

struct Mapper<'m> {
    model: &'m Flat,
    table: &'m PointTable,
    index: PointIndex,
    /// Formula offsets are columns in YAML; in CSV the place of a cell is all there is.
    offsets_are_columns: bool,
}

/// Resolves all rows of a template's mapping file.
pub fn resolve(file: &Arc<str>, rows: &[Row], model: &Flat, table: &PointTable, faults: &mut Faults) -> Mapped {
    let offsets_are_columns = !file.ends_with(".csv");
    let wanted = parse_rows(rows, model, offsets_are_columns, faults);
    let operands = wanted.iter().flat_map(|w| w.mapping.iter().chain(&w.control)).flat_map(|f| &f.operands);
    let index = PointIndex::of(table, operands.map(|operand| &operand.text));
    let mut mapper = Mapper { model, table, index, offsets_are_columns };
    let mut mapped = Mapped::default();
    for row in &wanted {
        mapped.rules.extend(mapper.rule(row, faults));
        mapped.controls.extend(mapper.control(row, faults));
    }
    mapped.rules.sort_by_key(|rule| rule.measurepoint);
    mapped.controls.sort_by_key(|control| control.measurepoint);
    require_mandatory(file, &wanted, model, faults);
    mapped
}

fn parse_rows<'r>(rows: &'r [Row], model: &Flat, shift: bool, faults: &mut Faults) -> Vec<Wanted<'r>> {
    let points = &model.model.measurepoints;
    let by_id: HashMap<&str, u32> = (0u32..).zip(points).map(|(index, point)| (point.id.as_str(), index)).collect();
    let mut first: HashMap<u32, &Place> = HashMap::new();
    let mut wanted = Vec::with_capacity(rows.len());
    for row in rows {
        let mapping = parse_text(row.mapping.as_ref(), shift, faults);
        let control = parse_text(row.control.as_ref(), shift, faults);
        let Some(measurepoint) = by_id.get(row.point.text.as_str()).copied() else {
            faults.push(unknown_measurepoint(&row.point, model));
            continue;
        };
        if let Some(before) = first.get(&measurepoint) {
            let problem = format!("measurement point \"{}\" is mapped twice", row.point.text);
            let help = format!("it is mapped at {before} already; remove one");
            faults.push(Diagnostic::error(row.point.place.clone(), problem).help(help));
            continue;
        }
        first.insert(measurepoint, &row.point.place);
        wanted.push(Wanted { row, measurepoint, mapping, control });
    }
    wanted
}

fn unknown_measurepoint(point: &Text, model: &Flat) -> Diagnostic {
    let id = &model.model.id;
    if model.events.contains(&point.text) {
        let problem =
            format!("\"{}\" is an event of model {id}; this version maps measurement points only", point.text);
        return Diagnostic::error(point.place.clone(), problem).help("remove the row");
    }
    let known = model.model.measurepoints.iter().map(|p| p.id.as_str());
    Diagnostic::error(point.place.clone(), format!("model {id} has no measurement point \"{}\"", point.text))
        .help(did_you_mean(&point.text, known))
}

fn parse_text(text: Option<&Text>, shift: bool, faults: &mut Faults) -> Option<FormulaText> {
    let text = text?;
    match formula::parse(&text.text) {
        Ok(formula) => formula,
        Err(error) => {
            let place = at_offset(&text.place, error.offset, shift);
            // In a CSV table an unquoted comma ends the cell, and the rest of the formula is the next one.
            let torn = !shift && error.offset >= text.text.chars().count() && text.text.contains('(');
            let help = if torn { "put the formula in quotes: \"sum(ai.1,ai.2)\"".to_owned() } else { error.help };
            faults.push(Diagnostic::error(place, error.problem).help(help));
            None
        }
    }
}

fn at_offset(place: &Place, offset: usize, shift: bool) -> Place {
    let mut place = place.clone();
    if shift {
        place.column = place.column.saturating_add(u32::try_from(offset).unwrap_or(0));
    }
    place
}

/// A template that leaves a mandatory measurement point empty is faulty.
fn require_mandatory(file: &Arc<str>, wanted: &[Wanted<'_>], model: &Flat, faults: &mut Faults) {
    let points = &model.model.measurepoints;
    let mut rows: Vec<Option<&Row>> = vec![None; points.len()];
    let mut mapped = vec![false; points.len()];
    for w in wanted {
        rows[w.measurepoint as usize] = Some(w.row);
        // A mapping that did not parse has its own fault.
        let written = w.row.mapping.as_ref().is_some_and(|text| formula::parse(&text.text) != Ok(None));
        mapped[w.measurepoint as usize] = written;
    }
    for (index, point) in points.iter().enumerate().filter(|(index, point)| point.mandatory && !mapped[*index]) {
        let place = rows[index].map_or(Place::new(file, 0, 0), |row| row.point.place.clone());
        let problem = format!("mandatory measurement point \"{}\" of model {} is not mapped", point.id, model.model.id);
        faults.push(Diagnostic::error(place, problem).help(format!("map it, for example `{}: ai.3000`", point.id)));
    }
}

impl Mapper<'_> {
    fn point(&self, wanted: &Wanted<'_>) -> &Measurepoint {
        &self.model.model.measurepoints[wanted.measurepoint as usize]
    }

    fn rule(&mut self, wanted: &Wanted<'_>, faults: &mut Faults) -> Option<Rule> {
        let point = self.point(wanted).clone();
        let text = wanted.row.mapping.as_ref();
        let upload = UploadText {
            kind: wanted.row.upload.clone(),
            interval: wanted.row.upload_interval_ms.clone(),
            deadband: wanted.row.deadband.clone(),
        };
        let upload = upload.resolve(point.upload, &wanted.row.point.place, faults);
        let (formula, text) = (wanted.mapping.as_ref()?, text?);
        let mut arguments = Vec::with_capacity(formula.operands.len());
        for operand in &formula.operands {
            arguments.push(self.argument(operand, text, false, faults));
        }
        let arguments: Vec<Argument> = arguments.into_iter().collect::<Option<_>>()?;
        self.check_fit(formula.function, &arguments, &point, text, faults);
        let formula = Formula { function: formula.function, arguments };
        Some(Rule { measurepoint: wanted.measurepoint, formula, upload })
    }

    fn control(&mut self, wanted: &Wanted<'_>, faults: &mut Faults) -> Option<Control> {
        let (formula, text) = (wanted.control.as_ref()?, wanted.row.control.as_ref()?);
        if formula.function != Function::Equal {
            let problem = "a control takes one control point, no function";
            faults.push(Diagnostic::error(text.place.clone(), problem).help("write a point as ao.5000"));
            return None;
        }
        let operand = formula.operands.first()?;
        let Argument::Point(row) = self.argument(operand, text, true, faults)? else { return None };
        let (point, value_type) = (self.point(wanted), self.table.row(row as usize).row().value_type);
        if !fit::fits_control(point.data_type, value_type) {
            let word = super::models::data_type_word(point.data_type);
            let problem = format!("a value of type {word} can not be written to a point of type {}", value_type.word());
            faults
                .push(Diagnostic::error(text.place.clone(), problem).help("choose a control point of a fitting type"));
        }
        Some(Control { measurepoint: wanted.measurepoint, row })
    }

    /// Finds a point in the table and checks that it is of the kind asked for.
    fn argument(&mut self, operand: &Operand, text: &Text, control: bool, faults: &mut Faults) -> Option<Argument> {
        let place = at_offset(&text.place, operand.offset, self.offsets_are_columns);
        let row = match (&operand.text, self.index.find(&operand.text)) {
            (OperandText::Constant(number), _) => return Some(Argument::Constant(*number)),
            (_, Found::Row(row)) => row,
            (text, found) => {
                faults.push(self.index.complain(self.table, text, found, place));
                return None;
            }
        };
        let kind = self.table.row(row as usize).row().kind;
        if kind.is_control() == control {
            return Some(Argument::Point(row));
        }
        let number = self.table.row(row as usize).number();
        let fault = if control {
            Diagnostic::error(place, format!("{}.{number} is a collection point; it can not be written", kind.word()))
                .help("control takes ao, do or po points")
        } else {
            Diagnostic::error(place, format!("{}.{number} is a control point; it can not be collected", kind.word()))
                .help("mapping takes ai, di or pi points; name a control point under control")
        };
        faults.push(fault);
        None
    }

    fn check_fit(
        &self,
        function: Function,
        arguments: &[Argument],
        point: &Measurepoint,
        text: &Text,
        faults: &mut Faults,
    ) {
        let yields: Vec<Yield> = arguments.iter().map(|argument| self.yields(*argument)).collect();
        let result = fit::of_function(function, &yields);
        if function != Function::Equal && result == Yield::Text {
            let problem = "a point of type string stands in a formula";
            faults.push(Diagnostic::error(text.place.clone(), problem).help("formulas take numeric points"));
            return;
        }
        let what = match (function, arguments) {
            (Function::Equal, [Argument::Point(row)]) => self.describe(*row),
            _ => "the formula's result".to_owned(),
        };
        let fit = fit::fit(result, point.data_type);
        let problem = fit::problem(&what, point.data_type, &fit);
        match fit {
            Fit::Good => {}
            Fit::Doubtful(help) => faults.push(Diagnostic::warning(text.place.clone(), problem).help(help)),
            Fit::Never(help) => faults.push(Diagnostic::error(text.place.clone(), problem).help(help)),
        }
    }

    fn yields(&self, argument: Argument) -> Yield {
        match argument {
            Argument::Point(row) => fit::of_point(self.table.row(row as usize).row()),
            Argument::Constant(number) if number.fract() == 0.0 && number.abs() <= 1e9 => Yield::Int,
            Argument::Constant(_) => Yield::Fraction,
        }
    }

    /// "ai.3000 (short, times 0.1)"
    fn describe(&self, row: u32) -> String {
        let row = self.table.row(row as usize);
        let (kind, number, value_type) = (row.row().kind.word(), row.number(), row.row().value_type.word());
        if row.row().coefficient == 1.0 && row.row().base_value == 0.0 {
            return format!("{kind}.{number} ({value_type})");
        }
        format!("{kind}.{number} ({value_type}, {}(x + {}))", row.row().coefficient, row.row().base_value)
    }
}
