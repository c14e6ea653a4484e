//! Reads every file of a package into what it says, alone: no file knows of another here.

use super::assets::{self, Assets};
use super::connections::{self, ConnectionText, ParametersText};
use super::fields::Faults;
use super::mapping_table::{self, Row};
use super::models::{self, ModelText};
use super::source::Source;
use super::templates::{self, TemplateText};
use super::{mapping_yaml, points, yaml};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use driver::{Parameters, PointTable, Text};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All a package says.
pub struct Texts {
    pub assets: Assets,
    pub models: Vec<ModelText>,
    pub connections: Vec<Connection>,
    pub templates: BTreeMap<String, Template>,
    /// Path and text of the trigger files; they are read when the models are known.
    pub triggers: Vec<(Arc<str>, String)>,
}

/// A connection with its parameters, wherever they were written.
pub struct Connection {
    pub place: Place,
    pub name: Text,
    pub protocol: Option<Text>,
    pub parameters: Parameters,
}

/// The files of one template folder. What is `None` was missing or unreadable, and has its fault.
pub struct Template {
    pub text: TemplateText,
    pub table: Option<Arc<PointTable>>,
    pub mapping: Option<(Arc<str>, Vec<Row>)>,
}

#[must_use]
pub fn read(source: &Source, faults: &mut Faults) -> Texts {
    point_out_strays(source, faults);
    Texts {
        assets: read_assets(source, faults),
        models: read_models(source, faults),
        connections: read_connections(source, faults),
        templates: read_templates(source, faults),
        triggers: files(source, "triggers").filter_map(|path| text(source, &path, faults)).collect(),
    }
}

/// What may stand at the top of a package.
const TOP: &[&str] = &[
    "package.yaml",
    "package.sig",
    "assets.yaml",
    "assets",
    "models.yaml",
    "models",
    "connections.yaml",
    "connections",
    "templates",
    "triggers.yaml",
    "triggers",
];

/// A file that is silently not read may be a misspelt one. Texts for people are no strays.
fn point_out_strays(source: &Source, faults: &mut Faults) {
    let mut before = "";
    for file in source.files() {
        let (top, below) = file.split_once('/').map_or((file, None), |(top, below)| (top, Some(below)));
        let known = TOP.contains(&top.replace(".yml", ".yaml").as_str());
        let unread = below.is_some() && matches!(top, "assets" | "models" | "triggers") && !is_yaml(file);
        let for_people = [".md", ".txt"].iter().any(|end| file.ends_with(end)) || matches!(top, "docs" | "LICENSE");
        let (shown, help) = match (known, unread) {
            _ if for_people => continue,
            (true, true) => (file, "only .yaml files are read there".to_owned()),
            (true, false) => continue,
            (false, _) if top == before => continue,
            (false, _) => (top, did_you_mean(top, TOP.iter().copied())),
        };
        before = top;
        let place = Place::new(&file.into(), 0, 0);
        faults.push(Diagnostic::warning(place, format!("{shown} is no part of a package; it is not read")).help(help));
    }
}

/// `NAME.yaml` and `NAME/*.yaml`, in a stable order.
fn files(source: &Source, name: &str) -> impl Iterator<Item = String> {
    let top = [format!("{name}.yaml"), format!("{name}.yml")];
    let folder = format!("{name}/");
    let fits = move |file: &&str| top.iter().any(|t| t == file) || file.starts_with(&folder) && is_yaml(file);
    source.files().filter(fits).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn is_yaml(file: &str) -> bool {
    file.ends_with(".yaml") || file.ends_with(".yml")
}

fn text(source: &Source, path: &str, faults: &mut Faults) -> Option<(Arc<str>, String)> {
    match source.text(path) {
        Ok(text) => Some((path.into(), text)),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// Parses one YAML file and hands its tree to `then`. An empty file says nothing and is no fault.
fn with_yaml<T>(
    source: &Source,
    path: &str,
    faults: &mut Faults,
    then: impl FnOnce(&Arc<str>, &yaml::Node<'_>, &mut Faults) -> T,
) -> Option<T> {
    let (file, text) = text(source, path, faults)?;
    let (root, more) = yaml::parse_within(&file, &text, source.values());
    faults.extend(more);
    let root = root.filter(|root| root.kind != yaml::Kind::Null)?;
    Some(then(&file, &root, faults))
}

pub(super) fn read_assets(source: &Source, faults: &mut Faults) -> Assets {
    let mut all = Assets::default();
    let mut any = false;
    for path in files(source, "assets") {
        any = true;
        with_yaml(source, &path, faults, |file, root, faults| assets::read(file, root, &mut all, faults));
    }
    if !any {
        missing(source, "assets.yaml", "", "list the devices of the site there", faults);
    }
    all
}

pub(super) fn read_models(source: &Source, faults: &mut Faults) -> Vec<ModelText> {
    let mut all = Vec::new();
    for path in files(source, "models") {
        with_yaml(source, &path, faults, |file, root, faults| models::read(file, root, &mut all, faults));
    }
    all
}

fn read_connections(source: &Source, faults: &mut Faults) -> Vec<Connection> {
    let mut all = Vec::new();
    for path in files(source, "connections") {
        let read = with_yaml(source, &path, faults, connections::read).flatten();
        all.extend(read.map(|text| with_parameters(source, text, faults)));
    }
    all
}

fn with_parameters(source: &Source, text: ConnectionText, faults: &mut Faults) -> Connection {
    let ConnectionText { place, name, protocol, parameters } = text;
    let parameters = match parameters {
        ParametersText::Inline(parameters) => parameters,
        ParametersText::File(named) => read_sys(source, &named, faults),
    };
    Connection { place, name, protocol, parameters }
}

fn read_sys(source: &Source, named: &Text, faults: &mut Faults) -> Parameters {
    let beside = format!("connections/{}", named.text.trim_start_matches("./"));
    let Some(path) = [beside.as_str(), named.text.as_str()].into_iter().find(|path| source.contains(path)) else {
        let known = source.files().filter(|file| file.starts_with("connections/") && !is_yaml(file));
        let problem = format!("file \"{}\" is not in the package", named.text);
        let help = did_you_mean(&beside, known);
        faults.push(Diagnostic::error(named.place.clone(), problem).help(help));
        return Parameters::default();
    };
    let Some((file, text)) = text(source, path, faults) else { return Parameters::default() };
    connections::read_sys(&file, &text, faults)
}

fn read_templates(source: &Source, faults: &mut Faults) -> BTreeMap<String, Template> {
    let folders = templates::folders(source.files());
    let read = |(name, files): (&str, Vec<&str>)| (name.to_owned(), read_template(source, name, &files, faults));
    folders.into_iter().map(read).collect()
}

fn read_template(source: &Source, name: &str, files: &[&str], faults: &mut Faults) -> Template {
    let folder = format!("templates/{name}/");
    let has = |file: &&&str| files.contains(file);
    let none =
        TemplateText { model: None, protocol: None, interlocks: Vec::new(), services: Vec::new(), firmware: None };
    let text = match ["template.yaml", "template.yml"].iter().find(has) {
        Some(file) => {
            let (path, before) = (format!("{folder}{file}"), faults.len());
            let text = with_yaml(source, &path, faults, templates::read);
            if text.is_none() && faults.len() == before {
                let place = Place::new(&path.as_str().into(), 0, 0);
                faults.push(Diagnostic::error(place, "template has no model").help("write `model: …`"));
            }
            text.unwrap_or(none)
        }
        None => {
            missing(source, "template.yaml", &folder, "write `model: …` there", faults);
            none
        }
    };
    let table = if has(&&"point.csv") {
        read_points(source, &format!("{folder}point.csv"), faults)
    } else {
        missing(source, "point.csv", &folder, "list the points of the device there", faults);
        None
    };
    let mapping = match files
        .iter()
        .filter(|f| matches!(**f, "mapping.csv" | "mapping.yaml" | "mapping.yml"))
        .copied()
        .collect::<Vec<_>>()[..]
    {
        [] => {
            missing(
                source,
                "mapping.csv",
                &folder,
                "map the points to measurement points there, or in mapping.yaml",
                faults,
            );
            None
        }
        [file, ..] => {
            refuse_second_mapping(&folder, files, faults);
            read_mapping(source, &format!("{folder}{file}"), faults)
        }
    };
    Template { text, table, mapping }
}

fn refuse_second_mapping(folder: &str, files: &[&str], faults: &mut Faults) {
    let mappings: Vec<_> = files.iter().filter(|file| file.starts_with("mapping.")).collect();
    if let [first, second, ..] = mappings[..] {
        let file: Arc<str> = format!("{folder}{second}").into();
        let problem = format!("the template has {first} and {second}");
        faults.push(Diagnostic::error(Place::new(&file, 0, 0), problem).help("keep one of the two"));
    }
}

fn read_points(source: &Source, path: &str, faults: &mut Faults) -> Option<Arc<PointTable>> {
    let reader = match source.reader(path) {
        Ok(reader) => reader,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    if source.rows() > source.limits().rows {
        let problem = format!("all point tables together have more than {} rows", source.limits().rows);
        let fault = Diagnostic::error(Place::new(&path.into(), 0, 0), problem);
        faults.push(fault.help("let devices of one make share a template, or use several gateways"));
        return None;
    }
    let (table, more) = points::read(&path.into(), reader, source.limits());
    source.add_rows(table.as_ref().map_or(0, PointTable::len));
    faults.extend(more);
    table.map(Arc::new)
}

fn read_mapping(source: &Source, path: &str, faults: &mut Faults) -> Option<(Arc<str>, Vec<Row>)> {
    let (file, text) = text(source, path, faults)?;
    if !is_yaml(path) {
        let (rows, more) = mapping_table::read(&file, &text);
        faults.extend(more);
        return Some((file, rows));
    }
    let (root, more) = yaml::parse_within(&file, &text, source.values());
    let broken = root.is_none() && !more.is_empty();
    faults.extend(more);
    if broken {
        return None;
    }
    let rows = root.map(|root| mapping_yaml::read(&file, &root, faults)).unwrap_or_default();
    Some((file, rows))
}

/// Complains of a file that should be there, with a guess among those that are.
fn missing(source: &Source, name: &str, folder: &str, help: &str, faults: &mut Faults) {
    let file: Arc<str> = format!("{folder}{name}").into();
    let near: Vec<&str> = source.files().filter_map(|f| f.strip_prefix(folder)).filter(|f| !f.contains('/')).collect();
    let guess = near.iter().find(|near| {
        let stem = |f: &str| f.split('.').next().unwrap_or(f).trim_end_matches('s').to_lowercase();
        stem(near) == stem(name)
    });
    let help = match guess {
        Some(guess) => format!("did you mean {folder}{guess}? {help}"),
        None => help.to_owned(),
    };
    faults.push(Diagnostic::error(Place::new(&file, 0, 0), format!("{name} is missing")).help(help));
}
