//! Checks a package as a whole: every fault of every file and between files, in a stable order.

pub mod cross;
pub mod fit;
pub mod limits;
pub mod overlap;
pub mod plans;
pub mod report;
pub mod written;

use super::fields::Faults;
use super::forecast::{self, Basis, Forecast};
use super::models::{self, Models};
use super::source::{Limits, Source};
use super::texts::{self, Texts};
use super::{event_plan, load, manifest, triggers, yaml};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::model::EventPlan;
use crate::model::Site;
use crate::model::progress::Unit;
use crate::trigger::EventRule;
use driver::Protocol;
use std::collections::HashMap;
use std::path::Path;
use written::Written;

/// What a check found.
pub struct Checked {
    /// The site, when there is no error.
    pub site: Option<Site>,
    /// Event rules of the package.
    pub triggers: Vec<EventRule>,
    /// Sorted by file, line and column; each stands once.
    pub diagnostics: Vec<Diagnostic>,
    pub counts: Counts,
    /// What the package will cost, when there is no error.
    pub forecast: Option<Forecast>,
    /// What the files say beside the site, when there is one.
    pub written: Option<Written>,
}

/// How much a package holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sites: usize,
    pub devices: usize,
    pub models: usize,
    pub templates: usize,
    pub connections: usize,
    /// Points of all connected devices.
    pub points: u64,
    pub triggers: usize,
}

impl Checked {
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }

    #[must_use]
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }
}

/// Checks the package at `path`, a folder or an archive, and builds the site when it is sound.
///
/// Device secrets that lie in files of the state folder are not read: see [`load`].
#[must_use]
pub fn check(path: &Path, protocols: &[&dyn Protocol]) -> Checked {
    check_in(path, protocols, &Limits::default())
}

/// As [`check`], with limits, and a place to unpack archives, of the caller's choice.
#[must_use]
pub fn check_in(path: &Path, protocols: &[&dyn Protocol], limits: &Limits) -> Checked {
    check_for(path, protocols, limits, &Basis::default())
}

/// As [`check_in`], with the forecast for a gateway of this configuration.
#[must_use]
pub fn check_for(path: &Path, protocols: &[&dyn Protocol], limits: &Limits, basis: &Basis) -> Checked {
    let mut checked = check_with(path, protocols, &load::Secrets::Unread, limits);
    checked.forecast = checked.site.as_ref().map(|site| forecast::of(site, basis));
    checked
}

pub(super) fn check_with(
    path: &Path,
    protocols: &[&dyn Protocol],
    secrets: &load::Secrets,
    limits: &Limits,
) -> Checked {
    let source = match Source::open(path, limits) {
        Ok(source) => source,
        Err(faults) => return finish(None, Vec::new(), faults.into(), Counts::default()),
    };
    let (manifest, found) = manifest::read(&source);
    let mut faults = Faults::from(found);
    source.begin("reading");
    let texts = texts::read(&source, &mut faults);
    limits.progress.step("checking", 0, Unit::Things);
    let models = models::flatten(&texts.models, &mut faults);
    let templates = cross::templates(&texts, &models, &mut faults);
    cross::assets(&texts, &mut faults);
    cross::products(&texts, &templates, &models, &mut faults);
    if let Some(fault) = too_many_points(&texts, limits) {
        faults.push(fault);
        return finish(None, Vec::new(), faults, count(&texts, 0));
    }
    let plans = plans::plan(&texts, protocols, &mut faults);
    overlap::check(&texts, &plans, &mut faults);
    let triggers = read_triggers(&source, &texts, &models, &mut faults);
    let counts = count(&texts, triggers.len());
    let sound = faults.errors() == 0;
    let events = if sound {
        event_plan::plan(&triggers, &texts, &templates, &models, &mut faults)
    } else {
        EventPlan::default()
    };
    let written = manifest.as_ref().filter(|_| sound).map(|manifest| written::of(manifest, &texts));
    let site = match manifest {
        Some(manifest) if sound => load::build(&manifest, texts, &templates, plans, events, secrets, &mut faults),
        _ => None,
    };
    Checked { written, ..finish(site, triggers, faults, counts) }
}

/// A table of a few megabytes for thousands of devices would fill the memory when it is planned, or run.
fn too_many_points(texts: &Texts, limits: &Limits) -> Option<Diagnostic> {
    let points = count(texts, 0).points;
    let problem = format!("the devices have {points} points; {} is the most on this machine", limits.points);
    let fault = Diagnostic::error(Place::new(&"assets.yaml".into(), 0, 0), problem);
    (points > limits.points).then(|| fault.help("use fewer devices, or tables with fewer points"))
}

fn read_triggers(source: &Source, texts: &Texts, models: &Models, faults: &mut Faults) -> Vec<EventRule> {
    let sites = models::sorted(texts.assets.sites.iter().map(|site| site.id.text.as_str()));
    let world = triggers::World { models, sites: &sites };
    let mut first = HashMap::new();
    let mut rules = Vec::new();
    for (file, text) in &texts.triggers {
        let (root, more) = yaml::parse_within(file, text, source.values());
        faults.extend(more);
        if let Some(root) = root.filter(|root| root.kind != yaml::Kind::Null) {
            rules.extend(triggers::read(file, &root, &world, &mut first, faults));
        }
    }
    rules
}

fn count(texts: &Texts, triggers: usize) -> Counts {
    let points = |device: &super::assets::Device| {
        let template = texts.templates.get(&device.template.as_ref()?.text)?;
        template.table.as_ref().map(|table| table.len() as u64)
    };
    Counts {
        sites: texts.assets.sites.len(),
        devices: texts.assets.devices.len(),
        models: texts.models.len(),
        templates: texts.templates.len(),
        connections: texts.connections.len(),
        points: texts.assets.devices.iter().filter_map(points).sum(),
        triggers,
    }
}

fn finish(site: Option<Site>, triggers: Vec<EventRule>, faults: Faults, counts: Counts) -> Checked {
    Checked { site, triggers, diagnostics: faults.finish(), counts, forecast: None, written: None }
}
