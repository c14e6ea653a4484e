//! The point table of a template: one row a point, kept compact so that a million rows fit a gateway.

use crate::{Place, ValueType};
use std::collections::HashMap;
use std::sync::Arc;

/// The fourth column of the point table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointKind {
    /// Analogue in: a number.
    Ai,
    /// Digital in: a state.
    Di,
    /// Pulse in: a counter.
    Pi,
    /// Analogue out.
    Ao,
    /// Digital out.
    Do,
    /// Pulse out.
    Po,
}

const KINDS: &[(&str, PointKind)] = &[
    ("ai", PointKind::Ai),
    ("di", PointKind::Di),
    ("pi", PointKind::Pi),
    ("ao", PointKind::Ao),
    ("do", PointKind::Do),
    ("po", PointKind::Po),
];

impl PointKind {
    /// AI, DI, PI, AO, DO or PO, whatever the letter case.
    #[must_use]
    pub fn parse(word: &str) -> Option<PointKind> {
        KINDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, k)| *k)
    }

    /// As a point table writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        KINDS[self as usize].0
    }

    /// All of them, for complaints.
    pub fn words() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(w, _)| *w)
    }

    /// AI, DI and PI are collected; AO, DO and PO are written.
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, PointKind::Ao | PointKind::Do | PointKind::Po)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

/// What the table keeps of a row beside its texts.
#[derive(Clone, Debug)]
pub struct PointRow {
    /// Line in the file, counted from 1.
    pub line: u32,
    pub value_type: ValueType,
    pub kind: PointKind,
    pub coefficient: f64,
    pub base_value: f64,
    name: Span,
    number: Span,
    alias: Span,
}

/// All rows of one point.csv. Texts lie in one arena.
#[derive(Clone, Debug)]
pub struct PointTable {
    pub file: Arc<str>,
    /// Cell number of each extra column, by its canonical name ("byte_order", …).
    columns: Vec<(String, u32)>,
    rows: Vec<PointRow>,
    extra: Vec<Span>,
    arena: String,
    /// Cell numbers of the seven columns: name, number, value type, kind, coefficient, base, alias.
    cells: [u32; 7],
}

/// One row with its texts.
#[derive(Clone, Copy)]
pub struct RowText<'a> {
    table: &'a PointTable,
    index: usize,
}

impl PointTable {
    /// Rows, the header not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No row below the header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Row `index`, counted from 0 in the order of the file.
    #[must_use]
    pub fn row(&self, index: usize) -> RowText<'_> {
        assert!(index < self.rows.len(), "row index comes from this table");
        RowText { table: self, index }
    }

    /// All rows, in the order of the file.
    pub fn rows(&self) -> impl Iterator<Item = RowText<'_>> {
        (0..self.rows.len()).map(|index| RowText { table: self, index })
    }

    /// Canonical names of the extra columns.
    pub fn extra_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Where the header names this extra column (line 1), for complaints about the column itself.
    #[must_use]
    pub fn column_place(&self, name: &str) -> Place {
        let cell = self.columns.iter().find(|(n, _)| n == name).map_or(0, |(_, c)| *c);
        Place::new(&self.file, 1, cell)
    }

    fn text(&self, span: Span) -> &str {
        &self.arena[span.start as usize..(span.start + span.len) as usize]
    }
}

impl<'a> RowText<'a> {
    /// Counted from 0 in the order of the file.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// What was read of the row already.
    #[must_use]
    pub fn row(self) -> &'a PointRow {
        &self.table.rows[self.index]
    }

    /// The name people use.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.table.text(self.row().name)
    }

    /// The point number: where the datum lives, in the protocol's own notation.
    #[must_use]
    pub fn number(self) -> &'a str {
        self.table.text(self.row().number)
    }

    /// Another name; empty where there is none.
    #[must_use]
    pub fn alias(self) -> &'a str {
        self.table.text(self.row().alias)
    }

    /// A cell of an extra column; `None` when the column is absent or the cell empty.
    #[must_use]
    pub fn cell(self, column: &str) -> Option<&'a str> {
        let at = self.table.columns.iter().position(|(name, _)| name == column)?;
        let span = self.table.extra[self.index * self.table.columns.len() + at];
        (span.len > 0).then(|| self.table.text(span))
    }

    /// Where an extra column's cell stands.
    #[must_use]
    pub fn cell_place(self, column: &str) -> Place {
        let cell = self.table.columns.iter().find(|(n, _)| n == column).map_or(0, |(_, c)| *c);
        self.place(cell)
    }

    /// Where the name stands.
    #[must_use]
    pub fn name_place(self) -> Place {
        self.place(self.table.cells[0])
    }

    /// Where the point number stands.
    #[must_use]
    pub fn number_place(self) -> Place {
        self.place(self.table.cells[1])
    }

    /// Where the value type stands.
    #[must_use]
    pub fn value_type_place(self) -> Place {
        self.place(self.table.cells[2])
    }

    /// Where the point type stands.
    #[must_use]
    pub fn kind_place(self) -> Place {
        self.place(self.table.cells[3])
    }

    /// Where the alias stands.
    #[must_use]
    pub fn alias_place(self) -> Place {
        self.place(self.table.cells[6])
    }

    fn place(self, cell: u32) -> Place {
        Place::new(&self.table.file, self.row().line, cell)
    }
}

/// Builds a table row by row while the file streams by.
pub struct PointTableBuilder {
    table: PointTable,
    /// Extra cells repeat ("holding", "ABCD", …): keep each text once.
    seen: HashMap<Box<str>, Span>,
}

impl PointTableBuilder {
    /// `cells` are the cell numbers of the seven columns; `columns` the extra ones with theirs.
    #[must_use]
    pub fn new(file: &Arc<str>, cells: [u32; 7], columns: Vec<(String, u32)>) -> PointTableBuilder {
        let table = PointTable {
            file: Arc::clone(file),
            columns,
            rows: Vec::new(),
            extra: Vec::new(),
            arena: String::new(),
            cells,
        };
        PointTableBuilder { table, seen: HashMap::new() }
    }

    /// Adds a row. `extra` has one text for each extra column, in their order.
    #[expect(clippy::too_many_arguments, reason = "one argument a column of the table")]
    pub fn push(
        &mut self,
        line: u32,
        name: &str,
        number: &str,
        value_type: ValueType,
        kind: PointKind,
        coefficient: f64,
        base_value: f64,
        alias: &str,
        extra: &[&str],
    ) {
        debug_assert_eq!(extra.len(), self.table.columns.len(), "one text for each extra column");
        let name = self.store(name);
        let number = self.store(number);
        let alias = self.store(alias);
        for text in extra {
            let span = self.store_once(text);
            self.table.extra.push(span);
        }
        self.table.rows.push(PointRow { line, value_type, kind, coefficient, base_value, name, number, alias });
    }

    /// The table; memory it does not need is given back.
    #[must_use]
    pub fn finish(mut self) -> PointTable {
        self.table.rows.shrink_to_fit();
        self.table.extra.shrink_to_fit();
        self.table.arena.shrink_to_fit();
        self.table
    }

    fn store(&mut self, text: &str) -> Span {
        let start = u32::try_from(self.table.arena.len()).expect("the reader caps a table far below 4 GiB");
        self.table.arena.push_str(text);
        Span { start, len: u32::try_from(text.len()).expect("the reader caps a cell far below 4 GiB") }
    }

    fn store_once(&mut self, text: &str) -> Span {
        if let Some(span) = self.seen.get(text) {
            return *span;
        }
        let span = self.store(text);
        if self.seen.len() < 4096 {
            self.seen.insert(text.into(), span);
        }
        span
    }
}

/// The number ranges a device occupies for each point kind, inclusive, as in `0-50#1000-1050`.
///
/// A kind without ranges uses the numbers of the table as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    pub ranges: [Vec<(u32, u32)>; 6],
}

impl Offsets {
    /// The number of the `nth` point (from 0) of this kind, if ranges are given for the kind.
    #[must_use]
    pub fn number(&self, kind: PointKind, nth: u32) -> Option<u32> {
        let mut left = nth;
        for (first, last) in &self.ranges[kind as usize] {
            let len = last - first + 1;
            if left < len {
                return Some(first + left);
            }
            left -= len;
        }
        None
    }

    /// No ranges are given for this kind.
    #[must_use]
    pub fn is_empty(&self, kind: PointKind) -> bool {
        self.ranges[kind as usize].is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_continue_into_the_next_range() {
        let mut offsets = Offsets::default();
        offsets.ranges[PointKind::Ai as usize] = vec![(2, 3), (6, 7)];
        let numbers: Vec<_> = (0..5).map(|n| offsets.number(PointKind::Ai, n)).collect();
        assert_eq!(numbers, [Some(2), Some(3), Some(6), Some(7), None]);
    }

    #[test]
    fn a_row_gives_back_its_cells_and_their_places() {
        let file: Arc<str> = "point.csv".into();
        let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], vec![("byte_order".into(), 8)]);
        builder.push(2, "Voltage", "3010", ValueType::Float, PointKind::Ai, 1.0, 0.0, "U", &["CDAB"]);
        builder.push(3, "Current", "3012", ValueType::Float, PointKind::Ai, 1.0, 0.0, "", &[""]);
        let table = builder.finish();
        assert_eq!(table.row(0).cell("byte_order"), Some("CDAB"));
        assert_eq!(table.row(1).cell("byte_order"), None);
        assert_eq!(table.row(1).number(), "3012");
        assert_eq!(table.row(0).cell_place("byte_order").to_string(), "point.csv:2:8");
    }
}
