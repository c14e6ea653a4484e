//! The point table `point.csv`: forgiving in its layout, strict in its meaning, read as a stream.

pub(crate) mod cells;
pub(crate) mod frames;
mod header;
mod repeats;
pub(crate) mod rows;
mod table;
#[cfg(test)]
mod tests;

pub use table::read;
