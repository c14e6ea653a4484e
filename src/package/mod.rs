//! Resource packages: opening, sealing and reading their files, checking them across, turning them into a site.

pub mod assets;
pub mod build;
pub mod check;
pub mod commands;
pub mod connections;
mod details;
pub mod diff;
mod event_plan;
pub mod faults;
mod firmware;
pub mod forecast;
pub mod generations;
pub mod guards;
pub mod import;
mod inputs;
pub mod late;
mod load;
pub mod manifest;
pub mod mapping;
pub mod mapping_table;
pub mod mapping_yaml;
pub mod models;
pub mod offsets;
pub mod places;
pub mod point_index;
pub mod points;
pub mod scaffold;
pub mod seal;
pub mod source;
pub mod templates;
pub mod texts;
pub mod triggers;
pub mod trust;
pub mod upload;

use crate::yaml::{self, fields};
pub use check::{Checked, Counts, check, check_in};
pub use load::{load, load_in};

/// Where it says its points and devices.
fn places_of(source: &source::Source) -> places::Places {
    let mut unheard = fields::Faults::new();
    let (models, assets) = (texts::read_models(source, &mut unheard), texts::read_assets(source, &mut unheard));
    places::Places::new(&models, Some(&assets))
}
