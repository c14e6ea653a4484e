//! YAML that keeps its places: a tree of nodes, and typed things read out of it with every fault collected.

mod faults;
pub mod fields;
mod tree;

pub use tree::{Budget, Key, Kind, Node, parse, parse_within};
