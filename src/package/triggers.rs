//! PURE. `triggers.yaml`: event rules, checked against models and sites.

use super::check::limits;
use super::fields::{Faults, Fields, misfit, place, scalar, word};
use super::models::{Flat, Models, data_type_word, sorted};
use super::yaml::{Kind, Node};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::model::{DataType, Measurepoint};
use crate::trigger::{Compare, Condition, EventRule, Match, Scope, Threshold};
use driver::Text;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const RULE: &[&str] = &[
    "id",
    "model",
    "measurepoint",
    "conditions",
    "match",
    "delay_s",
    "severity",
    "content",
    "type",
    "description",
    "tags",
    "scope",
    "masking",
    "enabled",
];
const CONDITION: &[&str] = &["operator", "value", "attribute"];

const OPERATORS: &[(&str, Compare)] = &[
    (">=", Compare::AtLeast),
    (">", Compare::Above),
    ("<=", Compare::AtMost),
    ("<", Compare::Below),
    ("==", Compare::Equal),
    ("!=", Compare::NotEqual),
    ("=", Compare::Equal),
    ("<>", Compare::NotEqual),
];
const MATCHES: &[(&str, Match)] = &[("all", Match::All), ("any", Match::Any)];

/// A month; a longer delay is a mistake of unit.
const MAX_DELAY_S: u64 = 31 * 24 * 3600;

/// What a rule may refer to.
pub struct World<'w> {
    pub models: &'w Models,
    pub sites: &'w [&'w str],
}

/// Adds the rules of one file. `first` knows the ids of all files so far.
pub fn read(
    file: &Arc<str>,
    root: &Node<'_>,
    world: &World<'_>,
    first: &mut HashMap<String, Text>,
    faults: &mut Faults,
) -> Vec<EventRule> {
    let Some(top) = Fields::open(file, root, "trigger file", &["triggers"], faults) else { return Vec::new() };
    let mut rules = Vec::new();
    for node in top.list("triggers", faults) {
        let Some(fields) = Fields::open(file, node, "trigger", RULE, faults) else { continue };
        if let Some(id) = fields.required("id", faults) {
            limits::rule_id(&id, faults);
            if let Some(before) = first.get(&id.text) {
                faults.push(
                    Diagnostic::error(id.place.clone(), format!("trigger \"{}\" is defined twice", id.text))
                        .help(format!("it is defined at {} already", before.place)),
                );
            } else {
                first.insert(id.text.clone(), id.clone());
            }
            rules.extend(read_rule(&fields, id, world, faults));
        } else {
            let nameless = Text { text: String::new(), place: fields.place.clone() };
            let _ = read_rule(&fields, nameless, world, faults);
        }
    }
    rules
}

fn read_rule(fields: &Fields<'_, '_>, id: Text, world: &World<'_>, faults: &mut Faults) -> Option<EventRule> {
    if let Some(text) = fields.text("description", faults) {
        limits::description(&text, faults);
    }
    fields.complain_unless_map("tags", faults);
    let model_id = fields.required("model", faults);
    let model = model_id.as_ref().and_then(|id| find_model(id, world, faults));
    let point_id = fields.required("measurepoint", faults);
    let point = model.zip(point_id.as_ref()).and_then(|(model, id)| find_point(id, model, faults));
    let conditions = read_conditions(fields, model, point.map(|(_, point)| point), faults);
    let matching = fields.word("match", MATCHES, faults).unwrap_or(Match::All);
    let delay = read_delay(fields, faults);
    let severity = fields.text("severity", faults).map_or_else(|| "warning".to_owned(), |text| text.text);
    let content = fields.text("content", faults);
    let scope = read_scope(fields, world, faults);
    let named = event_of(&id, content.as_ref(), model, faults);
    let masking = fields.flag("masking", false, faults);
    if masking && scope == Scope::All {
        let at = fields.node("masking").map_or(fields.place.clone(), |node| place(fields.file, node));
        let help = "name sites under scope; masking hides the events of what lies below a site";
        faults.push(Diagnostic::error(at, "masking needs a scope of sites").help(help));
    }
    let enabled = fields.flag("enabled", true, faults);
    Some(EventRule {
        id: id.text,
        model: model_id?.text,
        measurepoint: point?.0,
        conditions,
        matching,
        delay,
        severity,
        content: content.map(|text| text.text),
        event: named.0,
        outputs: named.1,
        point: point?.1.id.clone(),
        scope,
        masking,
        enabled,
    })
}

/// The event of the model it is told as: what `content` names, else one of its own name.
fn event_of(
    id: &Text,
    content: Option<&Text>,
    model: Option<&Flat>,
    faults: &mut Faults,
) -> (String, Option<Vec<String>>) {
    let wanted = content.unwrap_or(id);
    let Some(model) = model else { return (wanted.text.clone(), None) };
    let known = |text: &&Text| model.events.contains(&text.text);
    let Some(found) = content.filter(known).or(Some(id).filter(known)) else {
        let problem = format!("model {} has no event \"{}\": the cloud would refuse it", model.model.id, wanted.text);
        let events = model.events.iter().map(String::as_str);
        let help =
            format!("add it to `events:` of the model, or name one in content; {}", did_you_mean(&wanted.text, events));
        faults.push(Diagnostic::warning(wanted.place.clone(), problem).help(help));
        return (wanted.text.clone(), None);
    };
    let outputs = model.outputs.iter().find(|(event, _)| *event == found.text);
    (found.text.clone(), outputs.map(|(_, outputs)| outputs.clone()))
}

fn find_model<'w>(id: &Text, world: &World<'w>, faults: &mut Faults) -> Option<&'w Flat> {
    match world.models.get(&id.text) {
        Some(known) => known.as_ref(),
        None => {
            let words = sorted(world.models.keys().map(String::as_str));
            faults.push(
                Diagnostic::error(id.place.clone(), format!("model \"{}\" is not known", id.text))
                    .help(did_you_mean(&id.text, words)),
            );
            None
        }
    }
}

fn find_point<'w>(id: &Text, model: &'w Flat, faults: &mut Faults) -> Option<(u32, &'w Measurepoint)> {
    let mut points = (0u32..).zip(&model.model.measurepoints);
    let found = points.find(|(_, point)| point.id == id.text);
    if found.is_none() {
        let known = model.model.measurepoints.iter().map(|p| p.id.as_str());
        let problem = format!("model {} has no measurement point \"{}\"", model.model.id, id.text);
        faults.push(Diagnostic::error(id.place.clone(), problem).help(did_you_mean(&id.text, known)));
    }
    found
}

fn read_conditions(
    fields: &Fields<'_, '_>,
    model: Option<&Flat>,
    point: Option<&Measurepoint>,
    faults: &mut Faults,
) -> Vec<Condition> {
    if fields.node("conditions").is_none() {
        let help = "write `conditions: [ { operator: \">\", value: 250 } ]`";
        faults.push(Diagnostic::error(fields.place.clone(), "trigger has no conditions").help(help));
    }
    let mut all = Vec::new();
    for node in fields.list("conditions", faults) {
        if let Some(condition) = Fields::open(fields.file, node, "condition", CONDITION, faults) {
            all.extend(read_condition(&condition, model, point, faults));
        }
    }
    all
}

fn read_condition(
    fields: &Fields<'_, '_>,
    model: Option<&Flat>,
    point: Option<&Measurepoint>,
    faults: &mut Faults,
) -> Option<Condition> {
    let operator = fields.required("operator", faults);
    let compare = operator.as_ref().and_then(|text| word("operator", text, OPERATORS, faults));
    let (value, attribute) = (fields.text("value", faults), fields.text("attribute", faults));
    let threshold = match (value, attribute) {
        (Some(value), None) => read_threshold(&value, point, faults),
        (None, Some(attribute)) => Some(read_attribute(attribute, model, faults)),
        _ => {
            let help = "write `value: 250`, or `attribute: limit` for a limit of each device's own";
            faults.push(Diagnostic::error(fields.place.clone(), "condition needs a value or an attribute").help(help));
            None
        }
    };
    let ordered = matches!(compare, Some(Compare::Above | Compare::AtLeast | Compare::Below | Compare::AtMost));
    if let (true, Some(operator), Some(point)) = (ordered, &operator, point)
        && !is_number(point.data_type)
    {
        let word = data_type_word(point.data_type);
        let problem = format!("operator {} can not compare values of type {word}", operator.text);
        faults.push(Diagnostic::error(operator.place.clone(), problem).help("use == or !="));
    }
    Some(Condition { compare: compare?, threshold: threshold? })
}

fn is_number(data_type: DataType) -> bool {
    matches!(
        data_type,
        DataType::Int | DataType::Float | DataType::Double | DataType::Bool | DataType::Enum | DataType::Timestamp
    )
}

fn read_threshold(value: &Text, point: Option<&Measurepoint>, faults: &mut Faults) -> Option<Threshold> {
    let number = match value.text.to_ascii_lowercase().as_str() {
        "true" => Some(1.0),
        "false" => Some(0.0),
        text => text.parse::<f64>().ok().filter(|number| number.is_finite()),
    };
    match (point.map(|point| point.data_type), number) {
        (Some(DataType::String | DataType::Date | DataType::File), _) => Some(Threshold::Text(value.text.clone())),
        (Some(DataType::Enum) | None, None) => Some(Threshold::Text(value.text.clone())),
        (Some(DataType::Struct | DataType::Array), _) => {
            faults.push(misfit("value", value, "a struct or an array can not be compared; choose another point"));
            None
        }
        (_, Some(number)) => Some(Threshold::Number(number)),
        (_, None) => {
            faults.push(misfit("value", value, "write a number: the measurement point holds numbers"));
            None
        }
    }
}

fn read_attribute(attribute: Text, model: Option<&Flat>, faults: &mut Faults) -> Threshold {
    if let Some(model) = model
        && !model.attributes.contains(&attribute.text)
    {
        let known = model.attributes.iter().map(String::as_str);
        let problem = format!("model {} has no attribute \"{}\"", model.model.id, attribute.text);
        faults.push(Diagnostic::error(attribute.place.clone(), problem).help(did_you_mean(&attribute.text, known)));
    }
    Threshold::Attribute(attribute.text)
}

fn read_delay(fields: &Fields<'_, '_>, faults: &mut Faults) -> Duration {
    let Some(text) = fields.text("delay_s", faults) else { return Duration::ZERO };
    match text.text.parse::<u64>() {
        Ok(seconds) if seconds <= MAX_DELAY_S => Duration::from_secs(seconds),
        _ => {
            faults.push(misfit("delay_s", &text, format!("write seconds from 0 to {MAX_DELAY_S}")));
            Duration::ZERO
        }
    }
}

/// `all`, one site, or a list of sites.
fn read_scope(fields: &Fields<'_, '_>, world: &World<'_>, faults: &mut Faults) -> Scope {
    let Some(node) = fields.node("scope") else { return Scope::All };
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let texts: Vec<Text> = items.iter().filter_map(|item| scalar(fields.file, item, "scope", faults)).collect();
    if let [only] = texts.as_slice()
        && only.text.eq_ignore_ascii_case("all")
    {
        return Scope::All;
    }
    for text in texts.iter().filter(|text| world.sites.binary_search(&text.text.as_str()).is_err()) {
        faults.push(
            Diagnostic::error(text.place.clone(), format!("site \"{}\" is not known", text.text))
                .help(did_you_mean(&text.text, world.sites.iter().copied())),
        );
    }
    Scope::Sites(texts.into_iter().map(|text| text.text).collect())
}
