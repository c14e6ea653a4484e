//! PURE. `models/*.yaml`: thing models as written, and flattened over their ancestors.

use super::check::limits;
use super::commands::{self, InterlockText, Service};
use super::fields::{Faults, Fields, scalar};
use super::yaml::{Kind, Node};
use super::{late, upload};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::model::control::{Interlock, Limits};
use crate::model::{DataType, Measurepoint, Signal, ThingModel, Upload};
use driver::Text;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// One model of a file, without what it inherits.
#[derive(Clone, Debug)]
pub struct ModelText {
    pub id: Text,
    name: String,
    parent: Option<Text>,
    measurepoints: Vec<(Text, Measurepoint, Limits)>,
    attributes: Vec<Text>,
    events: Vec<Text>,
    /// Outputs of those events that say theirs.
    outputs: Vec<(String, Vec<String>)>,
    services: Vec<Text>,
    /// In the order of `services`, where they could be read.
    inputs: Vec<Service>,
    interlocks: Vec<InterlockText>,
}

impl ModelText {
    /// The parent's id, and where its own points are said.
    pub(super) fn point_places(&self) -> (Option<&str>, HashMap<String, crate::diagnostic::Place>) {
        let points = self.measurepoints.iter().map(|(id, ..)| (id.text.clone(), id.place.clone()));
        (self.parent.as_ref().map(|parent| parent.text.as_str()), points.collect())
    }
}

/// A model with all it inherits.
#[derive(Clone, Debug)]
pub struct Flat {
    pub model: Arc<ThingModel>,
    pub attributes: Vec<String>,
    pub events: Vec<String>,
    /// Outputs of those events that say theirs.
    pub outputs: Vec<(String, Vec<String>)>,
    services: Vec<String>,
    /// In the order of the model's measurement points.
    pub limits: Vec<Limits>,
    pub interlocks: Vec<Interlock>,
    /// Services with their inputs.
    pub inputs: Vec<Service>,
    /// Own id first, then the parent's, up to the most basic model.
    pub lineage: Vec<String>,
}

/// EnOS sets no limit; a chain this long is a mistake, and each level repeats all points above it.
const MAX_LEVELS: usize = 64;

/// All models by id. `None`: the model is known but faulty (a loop, an unknown parent); complaining of
/// what follows from that would only hide the cause.
pub type Models = HashMap<String, Option<Flat>>;

const MODEL: &[&str] =
    &["id", "name", "parent", "description", "attributes", "measurepoints", "events", "services", "interlocks", "tags"];
const POINT: &[&str] = &[
    "id",
    "name",
    "type",
    "data_type",
    "unit",
    "quality",
    "mandatory",
    "upload",
    "upload_interval_ms",
    "deadband",
    "late",
    "description",
    "tags",
    "values",
    "item_type",
    "members",
    "min",
    "max",
    "step",
    "writable",
];
const ATTRIBUTE: &[&str] =
    &["id", "name", "data_type", "unit", "description", "value", "default", "mandatory", "values", "tags"];
const EVENT: &[&str] = &["id", "name", "severity", "type", "description", "output", "tags"];
const SERVICE: &[&str] = &["id", "name", "mode", "description", "input", "output", "tags"];

const SIGNALS: &[(&str, Signal)] =
    &[("AI", Signal::Ai), ("DI", Signal::Di), ("PI", Signal::Pi), ("Generic", Signal::Generic)];

const DATA_TYPES: &[(&str, DataType)] = &[
    ("int", DataType::Int),
    ("float", DataType::Float),
    ("double", DataType::Double),
    ("bool", DataType::Bool),
    ("enum", DataType::Enum),
    ("string", DataType::String),
    ("timestamp", DataType::Timestamp),
    ("date", DataType::Date),
    ("struct", DataType::Struct),
    ("array", DataType::Array),
    ("file", DataType::File),
    ("int32", DataType::Int),
    ("boolean", DataType::Bool),
    ("text", DataType::String),
];

/// The preferred word of a data type.
#[must_use]
pub fn data_type_word(data_type: DataType) -> &'static str {
    DATA_TYPES.iter().find(|(_, t)| *t == data_type).map_or("?", |(word, _)| word)
}

/// Adds the models of one file: `models: [ … ]`, or a single model at the top.
pub fn read(file: &Arc<str>, root: &Node<'_>, models: &mut Vec<ModelText>, faults: &mut Faults) {
    if has_key(root, "id") && !has_key(root, "models") {
        models.extend(read_model(file, root, faults));
        return;
    }
    let Some(top) = Fields::open(file, root, "model file", &["models"], faults) else { return };
    for node in top.list("models", faults) {
        models.extend(read_model(file, node, faults));
    }
}

fn has_key(node: &Node<'_>, word: &str) -> bool {
    matches!(&node.kind, super::yaml::Kind::Map(entries) if entries.iter().any(|(key, _)| key.text == word))
}

fn read_model(file: &Arc<str>, node: &Node<'_>, faults: &mut Faults) -> Option<ModelText> {
    let fields = Fields::open(file, node, "model", MODEL, faults)?;
    let id = fields.required("id", faults);
    if let Some(id) = &id {
        limits::identifier("model id", id, faults);
    }
    let name = fields.text("name", faults);
    if let Some(name) = &name {
        limits::name("model name", name, faults);
    }
    if let Some(text) = fields.text("description", faults) {
        limits::description(&text, faults);
    }
    fields.complain_unless_map("tags", faults);
    let mut measurepoints = Vec::new();
    for node in fields.list("measurepoints", faults) {
        measurepoints.extend(read_point(file, node, faults));
    }
    let attributes = read_features(&fields, "attributes", "attribute", ATTRIBUTE, faults);
    let events = read_features(&fields, "events", "event", EVENT, faults);
    let outputs = read_outputs(&fields);
    let services = read_features(&fields, "services", "service", SERVICE, faults);
    refuse_repeated("measurement point", measurepoints.iter().map(|(id, _, _)| id), faults);
    let inputs = read_inputs(&fields, faults);
    let interlocks = commands::interlocks(&fields, faults);
    let id = id?;
    Some(ModelText {
        name: name.map_or_else(|| id.text.clone(), |name| name.text),
        parent: fields.text("parent", faults),
        id,
        measurepoints,
        attributes,
        events,
        outputs,
        services,
        inputs,
        interlocks,
    })
}

/// A list of ids, or of maps with one. The events themselves are read with the other features.
fn read_outputs(model: &Fields<'_, '_>) -> Vec<(String, Vec<String>)> {
    let mut ignored = Faults::new();
    let mut all = Vec::new();
    for node in model.list("events", &mut ignored) {
        let Some(event) = Fields::open(model.file, node, "event", EVENT, &mut ignored) else { continue };
        let Some(id) = event.text("id", &mut ignored).filter(|_| event.node("output").is_some()) else { continue };
        let outputs = event.list("output", &mut Faults::new()).iter().filter_map(|node| match &node.kind {
            Kind::Map(pairs) => {
                let id = pairs.iter().find(|(key, _)| key.text == "id").map(|(_, id)| id)?;
                scalar(model.file, id, "id", &mut Faults::new())
            }
            _ => scalar(model.file, node, "output", &mut Faults::new()),
        });
        all.push((id.text, outputs.map(|output| output.text).collect()));
    }
    all
}

/// The inputs of all services; the services themselves are read with the other features.
fn read_inputs(model: &Fields<'_, '_>, faults: &mut Faults) -> Vec<Service> {
    let mut all = Vec::new();
    for node in model.list("services", &mut Faults::new()) {
        let Some(fields) = Fields::open(model.file, node, "service", SERVICE, &mut Faults::new()) else { continue };
        let inputs = commands::inputs(&fields, faults);
        all.extend(fields.text("id", &mut Faults::new()).map(|id| (id.text, inputs)));
    }
    all
}

/// The data type of anything that may have one.
pub fn data_type_of(fields: &Fields<'_, '_>, faults: &mut Faults) -> Option<DataType> {
    fields.word("data_type", DATA_TYPES, faults)
}

fn read_features(
    model: &Fields<'_, '_>,
    key: &'static str,
    what: &'static str,
    known: &[&str],
    faults: &mut Faults,
) -> Vec<Text> {
    let mut ids = Vec::new();
    for node in model.list(key, faults) {
        let Some(fields) = Fields::open(model.file, node, what, known, faults) else { continue };
        if let Some(id) = fields.required("id", faults) {
            limits::identifier(what, &id, faults);
            ids.push(id);
        }
        if let Some(name) = fields.text("name", faults) {
            limits::name(what, &name, faults);
        }
        if let Some(text) = fields.text("description", faults) {
            limits::description(&text, faults);
        }
        if known.contains(&"data_type") {
            fields.word("data_type", DATA_TYPES, faults);
        }
    }
    refuse_repeated(what, ids.iter(), faults);
    ids
}

fn read_point(file: &Arc<str>, node: &Node<'_>, faults: &mut Faults) -> Option<(Text, Measurepoint, Limits)> {
    let fields = Fields::open(file, node, "measurement point", POINT, faults)?;
    let id = fields.required("id", faults);
    if let Some(id) = &id {
        limits::identifier("measurement point id", id, faults);
    }
    let name = fields.text("name", faults);
    if let Some(name) = &name {
        limits::name("measurement point name", name, faults);
    }
    if let Some(text) = fields.text("description", faults) {
        limits::description(&text, faults);
    }
    fields.required("data_type", faults);
    let data_type = fields.word("data_type", DATA_TYPES, &mut Faults::new()).unwrap_or_else(|| {
        fields.word("data_type", DATA_TYPES, faults);
        DataType::Double
    });
    let upload = upload::UploadText {
        kind: fields.text("upload", faults),
        interval: fields.text("upload_interval_ms", faults),
        deadband: fields.text("deadband", faults),
    };
    let has_quality = fields.flag("quality", false, faults);
    if has_quality && !matches!(data_type, DataType::Int | DataType::Float | DataType::Double) {
        let problem = format!("a point of type {} can not carry a quality", data_type_word(data_type));
        let help = "only int, float and double can; remove quality";
        faults.push(
            Diagnostic::error(
                fields.node("quality").map_or(fields.place.clone(), |n| super::fields::place(file, n)),
                problem,
            )
            .help(help),
        );
    }
    let signal = fields.word("type", SIGNALS, faults).unwrap_or(Signal::Generic);
    let mandatory = fields.flag("mandatory", false, faults);
    let upload = upload.resolve(Upload::Realtime, &fields.place, faults);
    let unit = fields.text("unit", faults).map(|unit| unit.text);
    let late = late::read(&fields, faults);
    let own = commands::limits(&fields, Some(data_type), faults);
    let id = id?;
    let point = Measurepoint {
        id: id.text.clone(),
        name: name.map_or_else(|| id.text.clone(), |name| name.text),
        data_type,
        signal,
        unit,
        has_quality,
        mandatory,
        upload,
        late,
    };
    Some((id, point, own))
}

fn refuse_repeated<'t>(what: &str, ids: impl Iterator<Item = &'t Text>, faults: &mut Faults) {
    let mut first: HashMap<&str, &Text> = HashMap::new();
    for id in ids {
        if let Some(before) = first.insert(&id.text, id) {
            faults.push(
                Diagnostic::error(id.place.clone(), format!("{what} \"{}\" is defined twice", id.text))
                    .help(format!("it is defined at {} already", before.place)),
            );
            first.insert(&id.text, before);
        }
    }
}

/// Resolves inheritance over all files.
pub fn flatten(texts: &[ModelText], faults: &mut Faults) -> Models {
    refuse_repeated("model", texts.iter().map(|model| &model.id), faults);
    let mut by_id: HashMap<&str, &ModelText> = HashMap::new();
    for text in texts {
        by_id.entry(&text.id.text).or_insert(text);
    }
    let mut flat = Models::new();
    for text in texts {
        resolve(text, &by_id, &mut flat, faults);
    }
    flat
}

/// Walks up to the first ancestor that is resolved already, then flattens downwards: no recursion,
/// so that a chain of a hundred thousand models does no harm.
fn resolve(text: &ModelText, by_id: &HashMap<&str, &ModelText>, flat: &mut Models, faults: &mut Faults) {
    let mut chain: Vec<&ModelText> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut at = Some(text);
    while let Some(model) = at {
        if flat.contains_key(&model.id.text) {
            break;
        }
        if !seen.insert(&model.id.text) {
            let start = chain.iter().position(|m| m.id.text == model.id.text).expect("what was seen is in the chain");
            report_loop(&chain[start..], faults);
            for model in chain {
                flat.insert(model.id.text.clone(), None);
            }
            return;
        }
        chain.push(model);
        at = model.parent.as_ref().and_then(|parent| by_id.get(parent.text.as_str()).copied());
    }
    for model in chain.into_iter().rev() {
        let resolved = inherit(model, by_id, flat, faults);
        flat.insert(model.id.text.clone(), resolved);
    }
}

fn report_loop(members: &[&ModelText], faults: &mut Faults) {
    let mut names: Vec<&str> = members.iter().map(|m| m.id.text.as_str()).collect();
    names.push(names[0]);
    let parent = members[0].parent.as_ref().expect("a member of a loop has a parent");
    faults.push(
        Diagnostic::error(parent.place.clone(), format!("models inherit in a loop: {}", names.join(" -> ")))
            .help("remove one of these parents"),
    );
}

fn inherit(text: &ModelText, by_id: &HashMap<&str, &ModelText>, flat: &Models, faults: &mut Faults) -> Option<Flat> {
    let parent = match &text.parent {
        None => None,
        Some(parent) => match flat.get(&parent.text) {
            Some(known) => Some(known.as_ref()?),
            None => {
                let words = by_id.keys().copied().filter(|id| *id != text.id.text);
                faults.push(
                    Diagnostic::error(parent.place.clone(), format!("parent model \"{}\" is not known", parent.text))
                        .help(did_you_mean(&parent.text, sorted(words))),
                );
                return None;
            }
        },
    };
    if parent.is_some_and(|p| p.lineage.len() >= MAX_LEVELS) {
        let problem = format!("model \"{}\" has more than {MAX_LEVELS} ancestors", text.id.text);
        faults.push(Diagnostic::error(text.id.place.clone(), problem).help("make the inheritance flatter"));
        return None;
    }
    Some(extend(text, parent, faults))
}

/// A child keeps all its parent has and may only add other identifiers.
fn extend(text: &ModelText, parent: Option<&Flat>, faults: &mut Faults) -> Flat {
    let mut measurepoints = parent.map(|p| p.model.measurepoints.clone()).unwrap_or_default();
    let mut attributes = parent.map(|p| p.attributes.clone()).unwrap_or_default();
    let mut events = parent.map(|p| p.events.clone()).unwrap_or_default();
    let mut outputs = parent.map(|p| p.outputs.clone()).unwrap_or_default();
    outputs.extend(text.outputs.iter().cloned());
    let mut services = parent.map(|p| p.services.clone()).unwrap_or_default();
    let mut limits = parent.map(|p| p.limits.clone()).unwrap_or_default();
    let mut interlocks = parent.map(|p| p.interlocks.clone()).unwrap_or_default();
    let mut inputs = parent.map(|p| p.inputs.clone()).unwrap_or_default();
    let inherited: HashSet<String> = measurepoints.iter().map(|p| p.id.clone()).collect();
    let mut seen = inherited.clone();
    for (id, point, own) in &text.measurepoints {
        if inherited.contains(&id.text) {
            refuse_override("measurement point", id, text, faults);
        } else if seen.insert(id.text.clone()) {
            measurepoints.push(point.clone());
            limits.push(own.clone());
        }
    }
    let features = [
        ("attribute", &text.attributes, &mut attributes),
        ("event", &text.events, &mut events),
        ("service", &text.services, &mut services),
    ];
    for (what, own, all) in features {
        for id in own {
            if parent.is_some() && all.contains(&id.text) {
                refuse_override(what, id, text, faults);
            } else {
                all.push(id.text.clone());
            }
        }
    }
    let model = ThingModel {
        id: text.id.text.clone(),
        name: text.name.clone(),
        parent: text.parent.as_ref().map(|p| p.text.clone()),
        measurepoints,
    };
    inputs.extend(
        text.inputs.iter().filter(|(id, _)| !inputs.iter().any(|(known, _)| known == id)).cloned().collect::<Vec<_>>(),
    );
    interlocks.extend(commands::resolve_interlocks(&text.interlocks, &model, &inputs, faults));
    let mut lineage = vec![text.id.text.clone()];
    lineage.extend(parent.iter().flat_map(|p| p.lineage.iter().cloned()));
    Flat { model: Arc::new(model), attributes, events, outputs, services, limits, interlocks, inputs, lineage }
}

fn refuse_override(what: &str, id: &Text, text: &ModelText, faults: &mut Faults) {
    let parent = text.parent.as_ref().map_or("", |p| p.text.as_str());
    faults.push(
        Diagnostic::error(id.place.clone(), format!("{what} \"{}\" is inherited from {parent}", id.text))
            .help("inherited features can not be changed; use another id"),
    );
}

/// Words in a stable order, for complaints.
pub fn sorted<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words
}
