//! Stand-ins for a site: sub-devices with fault knobs and an EnOS-like cloud that keeps a ledger.

pub mod alone;
pub mod bench;
pub mod cloud;
pub mod crash;
pub mod http_orders;
pub mod knob_words;
pub mod ledger;
pub mod machine;
pub mod meter;
pub mod orders;
pub mod parts;
pub mod quickstart;
pub mod rest;
pub mod rest_orders;
pub mod serve;
pub mod site;
pub mod swaps;
mod web;
