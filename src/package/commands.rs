//! PURE. What models and templates say about commands: limits of values, interlocks, services. As written, and resolved
//! against the measurement points of a model.

use super::fields::{Faults, Fields, misfit, place, scalar};
use super::yaml::{Kind, Node};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::model::control::{
    Comparison, Condition, Constant, Input, Interlock, Limits, ReadBack, ServicePlan, Step, StepValue,
};
use crate::model::{CommandRules, Control, DataType, Rule, ThingModel, accept};
use crate::package::mapping_table::Row;
use crate::package::models::{data_type_of, data_type_word};
use driver::Text;
use std::sync::Arc;
use std::time::Duration;

/// Keys of a measurement point that this file reads.
pub const LIMITS: &[&str] = &["min", "max", "step", "values", "writable"];
const INTERLOCK: &[&str] = &["points", "services", "only_when", "never_when", "message", "id", "description"];
const CONDITION: &[&str] = &["measurepoint", "operator", "value", "max_age_s"];
const SERVICE: &[&str] = &["id", "steps", "output", "description"];
const STEP: &[&str] = &["set", "value", "input"];
const INPUT: &[&str] = &[
    "id",
    "name",
    "data_type",
    "unit",
    "description",
    "min",
    "max",
    "step",
    "values",
    "optional",
    "mandatory",
    "tags",
    "item_type",
    "members",
];

const OPERATORS: &[(&str, Comparison)] = &[
    (">=", Comparison::GreaterOrEqual),
    (">", Comparison::Greater),
    ("<=", Comparison::LessOrEqual),
    ("<", Comparison::Less),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("=", Comparison::Equal),
    ("<>", Comparison::NotEqual),
];

/// A state older than this says nothing about now.
const FRESH: Duration = Duration::from_secs(60);
/// A day; whoever means longer writes 0.
const MAX_AGE_S: u64 = 86_400;
/// A caller does not wait longer for a device that shows a value late.
const MAX_READ_BACK_MS: u64 = 10_000;

/// An interlock as written.
#[derive(Clone, Debug)]
pub struct InterlockText {
    place: Place,
    points: Vec<Text>,
    services: Vec<Text>,
    only_when: Vec<ConditionText>,
    never_when: Vec<ConditionText>,
    message: Option<String>,
}

#[derive(Clone, Debug)]
struct ConditionText {
    measurepoint: Text,
    operator: Comparison,
    value: Text,
    max_age: Option<Duration>,
}

/// What a template says a service does, as written.
#[derive(Clone, Debug)]
pub struct ServiceText {
    id: Text,
    steps: Vec<StepText>,
    outputs: Vec<(Text, Text)>,
}

#[derive(Clone, Debug)]
pub(super) struct StepText {
    set: Text,
    value: Option<Text>,
    input: Option<Text>,
}

/// A service of the model and its inputs. `None`: the model does not define them, so any are taken.
pub type Service = (String, Vec<Input>);

/// Reads the limits of a measurement point or an input.
pub fn limits(fields: &Fields<'_, '_>, data_type: Option<DataType>, faults: &mut Faults) -> Limits {
    let [min, max, step] = ["min", "max", "step"].map(|key| number(fields, key, data_type, faults));
    if let (Some(low), Some(high), Some(text)) = (min, max, fields.text("max", &mut Faults::new()))
        && low > high
    {
        faults.push(misfit("max", &text, format!("it is less than min, {low}")));
    }
    if let (Some(width), Some(text)) = (step, fields.text("step", &mut Faults::new()))
        && width <= 0.0
    {
        faults.push(misfit("step", &text, "write a number above 0"));
    }
    let writable = fields.node("writable").is_some().then(|| fields.flag("writable", true, faults));
    Limits { min, max, step: step.filter(|step| *step > 0.0), values: values(fields, data_type, faults), writable }
}

fn number(fields: &Fields<'_, '_>, key: &'static str, data_type: Option<DataType>, faults: &mut Faults) -> Option<f64> {
    let text = fields.text(key, faults)?;
    let numeric = !matches!(
        data_type,
        Some(DataType::Bool | DataType::String | DataType::Date | DataType::Struct | DataType::Array | DataType::File)
    );
    if !numeric {
        let problem = format!("{key}: a point of type {} has no order", data_type.map_or("?", data_type_word));
        faults.push(Diagnostic::error(text.place, problem).help("write values: [ … ], or remove it"));
        return None;
    }
    let number = text.text.parse::<f64>().ok().filter(|x| x.is_finite());
    if number.is_none() {
        faults.push(misfit(key, &text, "write a number"));
    }
    number
}

/// `[ 1, 2 ]`, `[ { value: 1, name: on } ]` or `{ 1: on }`.
fn values(fields: &Fields<'_, '_>, data_type: Option<DataType>, faults: &mut Faults) -> Vec<Constant> {
    let Some(node) = fields.node("values") else { return Vec::new() };
    let texts: Vec<Text> = match &node.kind {
        Kind::List(items) => items.iter().filter_map(|item| one_value(fields.file, item, faults)).collect(),
        Kind::Map(entries) => {
            let text = |key: &super::yaml::Key<'_>| Text {
                text: key.text.trim().to_owned(),
                place: super::fields::key_place(fields.file, key),
            };
            entries.iter().map(|(key, _)| text(key)).collect()
        }
        Kind::Null | Kind::Text(_) => scalar(fields.file, node, "values", faults).into_iter().collect(),
    };
    texts.iter().filter_map(|text| constant(data_type, text, faults)).collect()
}

fn one_value(file: &Arc<str>, item: &Node<'_>, faults: &mut Faults) -> Option<Text> {
    let Kind::Map(entries) = &item.kind else { return scalar(file, item, "values", faults) };
    let key = ["value", "key", "id"].iter().find_map(|word| entries.iter().find(|(key, _)| key.text == *word));
    if key.is_none() {
        let problem = "values: an entry has no value";
        faults.push(Diagnostic::error(place(file, item), problem).help("write `{ value: 1, name: on }`"));
    }
    key.and_then(|(_, value)| scalar(file, value, "value", faults))
}

/// A constant of the type.
fn constant(data_type: Option<DataType>, text: &Text, faults: &mut Faults) -> Option<Constant> {
    let number = text.text.parse::<f64>().ok().filter(|x| x.is_finite()).map(Constant::Number);
    let state = match text.text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(Constant::Bool(true)),
        "false" | "no" | "off" | "0" => Some(Constant::Bool(false)),
        _ => None,
    };
    let own = || Some(Constant::Text(text.text.clone()));
    let (found, shape) = match data_type {
        Some(DataType::Bool) => (state, "true or false"),
        Some(DataType::Int | DataType::Float | DataType::Double | DataType::Timestamp) => (number, "a number"),
        Some(DataType::Struct | DataType::Array | DataType::File) => {
            (None, "nothing: points of this type are not written")
        }
        Some(DataType::String | DataType::Date) => (own(), "a text"),
        Some(DataType::Enum) | None => (number.or_else(own), "a value"),
    };
    if found.is_none() {
        faults.push(misfit("value", text, format!("write {shape}")));
    }
    found
}

/// Reads `interlocks:` of a model or a template.
pub fn interlocks(fields: &Fields<'_, '_>, faults: &mut Faults) -> Vec<InterlockText> {
    let mut found = Vec::new();
    for node in fields.list("interlocks", faults) {
        let Some(one) = Fields::open(fields.file, node, "interlock", INTERLOCK, faults) else { continue };
        let (only_when, never_when) = (conditions(&one, "only_when", faults), conditions(&one, "never_when", faults));
        if one.node("only_when").is_none() && one.node("never_when").is_none() {
            let problem = "the interlock has no condition";
            let help = "write `only_when: [ { measurepoint: running, operator: \"==\", value: 1 } ]` or never_when";
            faults.push(Diagnostic::error(one.place.clone(), problem).help(help));
        }
        found.push(InterlockText {
            place: one.place.clone(),
            points: texts(&one, "points", faults),
            services: texts(&one, "services", faults),
            only_when,
            never_when,
            message: one.text("message", faults).map(|text| text.text),
        });
    }
    found
}

/// A list of words; one word stands for a list of one.
fn texts(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Vec<Text> {
    match fields.node(key).map(|node| (&node.kind, node)) {
        None => Vec::new(),
        Some((Kind::Text(_), node)) => scalar(fields.file, node, key, faults).into_iter().collect(),
        Some(_) => fields.list(key, faults).iter().filter_map(|node| scalar(fields.file, node, key, faults)).collect(),
    }
}

fn conditions(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Vec<ConditionText> {
    let mut found = Vec::new();
    for node in fields.list(key, faults) {
        let Some(one) = Fields::open(fields.file, node, "condition", CONDITION, faults) else { continue };
        let measurepoint = one.required("measurepoint", faults);
        let operator = one.required("operator", faults);
        let operator = operator.and_then(|text| super::fields::word("operator", &text, OPERATORS, faults));
        let value = one.required("value", faults);
        let max_age = match one.text("max_age_s", faults) {
            None => Some(FRESH),
            Some(text) => match text.text.parse::<u64>() {
                Ok(0) => None,
                Ok(seconds) if seconds <= MAX_AGE_S => Some(Duration::from_secs(seconds)),
                _ => {
                    let help = format!("write seconds up to {MAX_AGE_S}; 0: of any age");
                    faults.push(misfit("max_age_s", &text, help));
                    Some(FRESH)
                }
            },
        };
        if let (Some(measurepoint), Some(operator), Some(value)) = (measurepoint, operator, value) {
            found.push(ConditionText { measurepoint, operator, value, max_age });
        }
    }
    found
}

/// Reads the inputs of a model's service.
pub fn inputs(fields: &Fields<'_, '_>, faults: &mut Faults) -> Vec<Input> {
    let mut found = Vec::new();
    for node in fields.list("input", faults) {
        if let Kind::Text(_) = node.kind {
            let id = scalar(fields.file, node, "input", faults);
            found.extend(id.map(|id| Input {
                id: id.text,
                data_type: None,
                limits: Limits::default(),
                optional: false,
            }));
            continue;
        }
        let Some(one) = Fields::open(fields.file, node, "input", INPUT, faults) else { continue };
        let data_type = data_type_of(&one, faults);
        let limits = limits(&one, data_type, faults);
        let optional = one.flag("optional", false, faults) || !one.flag("mandatory", true, faults);
        if let Some(id) = one.required("id", faults) {
            found.push(Input { id: id.text, data_type, limits, optional });
        }
    }
    found
}

/// Reads `services:` of a template.
pub fn services(fields: &Fields<'_, '_>, faults: &mut Faults) -> Vec<ServiceText> {
    let mut found: Vec<ServiceText> = Vec::new();
    for node in fields.list("services", faults) {
        let Some(one) = Fields::open(fields.file, node, "service", SERVICE, faults) else { continue };
        let steps = steps(&one, "steps", faults);
        let outputs = one.pairs("output", faults);
        let Some(id) = one.required("id", faults) else { continue };
        if let Some(before) = found.iter().find(|known| known.id.text == id.text) {
            let problem = format!("service \"{}\" is defined twice", id.text);
            let help = format!("it is defined at {} already", before.id.place);
            faults.push(Diagnostic::error(id.place, problem).help(help));
            continue;
        }
        found.push(ServiceText { id, steps, outputs });
    }
    found
}

/// Reads what is written, in order.
pub(super) fn steps(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Vec<StepText> {
    let mut steps = Vec::new();
    for node in fields.list(key, faults) {
        let Some(step) = Fields::open(fields.file, node, "step", STEP, faults) else { continue };
        let (value, input) = (step.text("value", faults), step.text("input", faults));
        if value.is_some() == input.is_some() {
            let problem = "a step takes either a value or an input";
            faults.push(Diagnostic::error(step.place.clone(), problem).help("write `{ set: point, value: 1 }`"));
        }
        if let Some(set) = step.required("set", faults) {
            steps.push(StepText { set, value, input });
        }
    }
    steps
}

/// Finds a measurement point of the model, or complains.
pub(super) fn find(model: &ThingModel, id: &Text, faults: &mut Faults) -> Option<u32> {
    let found = (0u32..).zip(&model.measurepoints).find(|(_, point)| point.id == id.text);
    if found.is_none() {
        let known = model.measurepoints.iter().map(|point| point.id.as_str());
        let problem = format!("model {} has no measurement point \"{}\"", model.id, id.text);
        faults.push(Diagnostic::error(id.place.clone(), problem).help(did_you_mean(&id.text, known)));
    }
    found.map(|(index, _)| index)
}

/// Interlocks on the measurement points and services of a model.
pub fn resolve_interlocks(
    written: &[InterlockText],
    model: &ThingModel,
    services: &[Service],
    faults: &mut Faults,
) -> Vec<Interlock> {
    let mut found = Vec::with_capacity(written.len());
    for one in written {
        for service in one.services.iter().filter(|id| !services.iter().any(|(known, _)| *known == id.text)) {
            let known = services.iter().map(|(id, _)| id.as_str());
            let problem = format!("model {} has no service \"{}\"", model.id, service.text);
            faults.push(Diagnostic::error(service.place.clone(), problem).help(did_you_mean(&service.text, known)));
        }
        let points: Vec<u32> = one.points.iter().filter_map(|id| find(model, id, faults)).collect();
        let mut resolve = |conditions: &[ConditionText]| -> Vec<Condition> {
            conditions.iter().filter_map(|condition| resolve_condition(condition, model, faults)).collect()
        };
        let (only_when, never_when) = (resolve(&one.only_when), resolve(&one.never_when));
        if points.is_empty() && !one.points.is_empty() {
            continue;
        }
        let services = one.services.iter().map(|id| id.text.clone()).collect();
        if only_when.is_empty() && never_when.is_empty() && faults.is_empty() {
            let problem = "the interlock never holds anything back";
            faults.push(Diagnostic::error(one.place.clone(), problem).help("write a condition, or remove it"));
        }
        found.push(Interlock { points, services, only_when, never_when, message: one.message.clone() });
    }
    found
}

fn resolve_condition(written: &ConditionText, model: &ThingModel, faults: &mut Faults) -> Option<Condition> {
    let measurepoint = find(model, &written.measurepoint, faults)?;
    let data_type = model.measurepoints[measurepoint as usize].data_type;
    let value = constant(Some(data_type), &written.value, faults)?;
    let ordered = !matches!(written.operator, Comparison::Equal | Comparison::NotEqual);
    if ordered && value.as_f64().is_none() {
        let problem = format!("{} can not be compared by {}", data_type_word(data_type), written.operator.word());
        faults.push(Diagnostic::error(written.value.place.clone(), problem).help("use == or !="));
        return None;
    }
    Some(Condition { measurepoint, operator: written.operator, value, max_age: written.max_age })
}

/// What a template is made of, as far as commands are concerned.
pub struct Made<'a> {
    pub model: &'a ThingModel,
    pub limits: &'a [Limits],
    pub interlocks: &'a [Interlock],
    pub services: &'a [Service],
    pub rules: &'a [Rule],
    pub controls: &'a [Control],
    pub rows: &'a [Row],
}

/// The rules of a template: those of its model and its own.
pub fn resolve(
    made: &Made<'_>,
    interlocks: &[InterlockText],
    services: &[ServiceText],
    firmware: Option<&super::firmware::FirmwareText>,
    faults: &mut Faults,
) -> CommandRules {
    let mut all = made.interlocks.to_vec();
    all.extend(resolve_interlocks(interlocks, made.model, made.services, faults));
    let services = services.iter().filter_map(|text| resolve_service(text, made, faults)).collect();
    let read_backs = made.rows.iter().filter_map(|row| read_back(row, made.model, faults)).collect();
    let firmware = firmware.map(|text| super::firmware::resolve(text, made, faults));
    CommandRules { limits: made.limits.to_vec(), interlocks: all, services, read_backs, firmware }
}

fn resolve_service(text: &ServiceText, made: &Made<'_>, faults: &mut Faults) -> Option<ServicePlan> {
    let Some((_, inputs)) = made.services.iter().find(|(id, _)| *id == text.id.text) else {
        let known = made.services.iter().map(|(id, _)| id.as_str());
        let problem = format!("model {} has no service \"{}\"", made.model.id, text.id.text);
        faults.push(Diagnostic::error(text.id.place.clone(), problem).help(did_you_mean(&text.id.text, known)));
        return None;
    };
    let steps: Vec<Step> = text.steps.iter().filter_map(|step| resolve_step(step, inputs, made, faults)).collect();
    let mut outputs = Vec::with_capacity(text.outputs.len());
    for (name, id) in &text.outputs {
        let Some(measurepoint) = find(made.model, id, faults) else { continue };
        if made.rules.iter().any(|rule| rule.measurepoint == measurepoint) {
            outputs.push((name.text.clone(), measurepoint));
        } else {
            let problem = format!("output \"{}\": measurement point \"{}\" is not collected", name.text, id.text);
            faults.push(Diagnostic::error(id.place.clone(), problem).help("give it a mapping"));
        }
    }
    if text.steps.is_empty() && text.outputs.is_empty() {
        let problem = format!("service \"{}\" does nothing", text.id.text);
        faults.push(Diagnostic::error(text.id.place.clone(), problem).help("give it steps or output, or remove it"));
    }
    Some(ServicePlan { id: text.id.text.clone(), inputs: inputs.clone(), steps, outputs })
}

pub(super) fn resolve_step(step: &StepText, inputs: &[Input], made: &Made<'_>, faults: &mut Faults) -> Option<Step> {
    let measurepoint = find(made.model, &step.set, faults)?;
    let limits = made.limits.get(measurepoint as usize).cloned().unwrap_or_default();
    let mapped = made.controls.iter().any(|control| control.measurepoint == measurepoint);
    if !mapped || limits.writable == Some(false) {
        let problem = format!("measurement point \"{}\" can not be written", step.set.text);
        faults.push(Diagnostic::error(step.set.place.clone(), problem).help("give it a control in the mapping"));
    }
    let value = match (&step.value, &step.input) {
        (Some(value), None) => {
            let data_type = made.model.measurepoints[measurepoint as usize].data_type;
            let constant = constant(Some(data_type), value, faults)?;
            if let Err(why) = accept::accept(Some(data_type), &limits, &constant.to_json()) {
                faults.push(misfit("value", value, why));
            }
            StepValue::Constant(constant)
        }
        (None, Some(input)) => {
            if !inputs.iter().any(|known| known.id == input.text) {
                let known = inputs.iter().map(|known| known.id.as_str());
                let problem = format!("the service has no input \"{}\"", input.text);
                faults.push(Diagnostic::error(input.place.clone(), problem).help(did_you_mean(&input.text, known)));
            }
            StepValue::Input(input.text.clone())
        }
        _ => return None,
    };
    Some(Step { measurepoint, value })
}

fn read_back(row: &Row, model: &ThingModel, faults: &mut Faults) -> Option<ReadBack> {
    const WORDS: &[(&str, bool)] = &[("value", true), ("none", false)];
    if row.read_back.is_none() && row.read_back_within_ms.is_none() {
        return None;
    }
    let wanted =
        row.read_back.as_ref().and_then(|t| super::fields::word("read_back", t, WORDS, faults)).unwrap_or(true);
    let within = row.read_back_within_ms.as_ref().map_or(Some(0), |text| {
        let ms = text.text.parse::<u64>().ok().filter(|ms| *ms <= MAX_READ_BACK_MS);
        if ms.is_none() {
            faults.push(misfit("read_back_within_ms", text, format!("write milliseconds up to {MAX_READ_BACK_MS}")));
        }
        ms
    });
    // An unknown measurement point has its fault already.
    let (measurepoint, _) = (0u32..).zip(&model.measurepoints).find(|(_, point)| point.id == row.point.text)?;
    Some(ReadBack { measurepoint, wanted, within: Duration::from_millis(within.unwrap_or(0)) })
}
