//! Reads a point table row by row into its compact form, and reports every fault on the way.

use super::cells::{self, Fault, shortened};
use super::header::{Header, SEVEN, number};
use super::repeats::Repeats;
use super::rows::{Row, Rows};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::package::faults::Faults;
use crate::package::source::Limits;
use driver::{PointKind, PointTable, PointTableBuilder, ValueType};
use std::io::Read;
use std::sync::Arc;

/// Names and aliases are for people.
const NAME_MAX: usize = 256;
/// OPC UA identifiers are the longest point numbers there are.
const NUMBER_MAX: usize = 1024;

/// Reads `point.csv`. The table is there when no fault is an error.
#[must_use]
pub fn read(file: &Arc<str>, reader: impl Read, limits: &Limits) -> (Option<PointTable>, Vec<Diagnostic>) {
    let mut faults = Faults::new(file);
    let table = read_rows(file, reader, limits, &mut faults).filter(|_| !faults.has_errors());
    (table, faults.finish())
}

fn read_rows(file: &Arc<str>, reader: impl Read, limits: &Limits, faults: &mut Faults) -> Option<PointTable> {
    let mut rows = Rows::open(reader, faults)?;
    let delimiter = rows.delimiter();
    let Some(first) = rows.next(faults) else {
        if !faults.has_errors() {
            faults.error(
                0,
                0,
                "the point table is empty",
                "its first line is the header 测点名,点号,值类型,点类型,系数,基值,别名",
            );
        }
        return None;
    };
    let header = Header::read(first, faults);
    // Without these columns every row would be a fault.
    let (Some(_), Some(_), Some(_), Some(_)) = (header.index(0), header.index(1), header.index(2), header.index(3))
    else {
        return None;
    };
    let builder = PointTableBuilder::new(file, header.cells(), header.extra_cells());
    let header_is_full = header.is_full();
    let decimal_comma = delimiter == b';';
    let mut reading =
        Reading { header, header_is_full, decimal_comma, builder, repeats: Repeats::new(), count: 0, pushed: 0 };
    while let Some(row) = rows.next(faults) {
        if reading.count == limits.rows {
            faults.error(
                row.line,
                0,
                format!("the table has more than {} rows", limits.rows),
                "split it into several templates",
            );
            break;
        }
        reading.row(row, faults);
    }
    Some(reading.finish(faults))
}

struct Reading {
    header: Header,
    header_is_full: bool,
    decimal_comma: bool,
    builder: PointTableBuilder,
    repeats: Repeats,
    /// Rows read, and rows in the table so far.
    count: usize,
    pushed: u32,
}

/// What is taken for a cell that has a fault; the table is thrown away at the end.
const STAND_IN: (ValueType, PointKind) = (ValueType::Double, PointKind::Ai);

impl Reading {
    fn row(&mut self, row: Row<'_>, faults: &mut Faults) {
        self.count += 1;
        if self.has_shifted(row, faults) {
            return;
        }
        let cell = |which: usize| self.header.index(which).map_or("", |index| row.cell(index));
        let (name, number, alias) = (cell(0), cell(1), cell(6));
        self.check_texts(row.line, name, number, alias, faults);
        let value_type = self.take(row.line, 2, cells::value_type(cell(2)), faults);
        let kind = self.take(row.line, 3, cells::kind(cell(3)), faults);
        let coefficient = cells::number("coefficient", cell(4), 1.0, self.decimal_comma);
        let coefficient = self.take(row.line, 4, coefficient, faults).unwrap_or(1.0);
        let base_value = cells::number("base value", cell(5), 0.0, self.decimal_comma);
        let base_value = self.take(row.line, 5, base_value, faults).unwrap_or(0.0);
        self.check_coefficient(row.line, coefficient, kind, faults);
        if let Some(kind) = kind.filter(|_| !number.is_empty()) {
            self.repeats.add(self.pushed, kind, number);
        }
        let mut extra = [""; super::rows::COLUMNS_MAX];
        for (slot, (index, _)) in extra.iter_mut().zip(self.header.extra()) {
            *slot = row.cell(*index);
        }
        self.builder.push(
            row.line,
            name,
            number,
            value_type.unwrap_or(STAND_IN.0),
            kind.unwrap_or(STAND_IN.1),
            coefficient,
            base_value,
            if alias.is_empty() { number } else { alias },
            &extra[..self.header.extra().len()],
        );
        self.pushed += 1;
    }

    fn take<T>(&self, line: u32, which: usize, cell: Result<T, Fault<'_>>, faults: &mut Faults) -> Option<T> {
        match cell {
            Ok(value) => Some(value),
            Err(fault) => {
                let place = Place::new(faults.file(), line, self.header.cells()[which]);
                faults.push(Severity::Error, || Diagnostic::error(place, fault.problem()).help(fault.help()));
                None
            }
        }
    }

    fn check_texts(&self, line: u32, name: &str, number: &str, alias: &str, faults: &mut Faults) {
        for which in [name, number].iter().enumerate().filter(|(_, text)| text.is_empty()).map(|(which, _)| which) {
            faults.error(
                line,
                self.header.cells()[which],
                format!("the {} is empty", SEVEN[which]),
                "every point has one",
            );
        }
        self.take(line, 0, cells::text("name", name, NAME_MAX), faults);
        self.take(line, 1, cells::text("number", number, NUMBER_MAX), faults);
        self.take(line, 6, cells::text("alias", alias, NAME_MAX), faults);
    }

    fn check_coefficient(&self, line: u32, coefficient: f64, kind: Option<PointKind>, faults: &mut Faults) {
        if coefficient != 0.0 {
            return;
        }
        let column = self.header.cells()[4];
        if kind.is_some_and(PointKind::is_control) {
            faults.error(
                line,
                column,
                "coefficient 0 can not be undone for a control point",
                "write 1 to leave values as they are",
            );
        } else {
            faults.warning(line, column, "coefficient 0 makes every value 0", "write 1 to leave values as they are");
        }
    }

    /// Cells that moved, or rows that ran together: whatever else is said of them would be wrong.
    fn has_shifted(&self, row: Row<'_>, faults: &mut Faults) -> bool {
        let broken = (0..7).filter_map(|which| self.header.index(which)).find(|index| row.cell(*index).contains('\n'));
        if let Some(index) = broken {
            let lines = row.cell(index).matches('\n').count();
            let problem =
                format!("the quoted cell runs on for {lines} more {}", if lines == 1 { "line" } else { "lines" });
            faults.error(row.line, number(index), problem, "close the quote, or take out the line break");
            return true;
        }
        // Rows as long as a header without holes are the rule.
        if row.len() <= self.header.len && self.header_is_full {
            return false;
        }
        let Some(index) = self.header.stray(row) else {
            return false;
        };
        let problem = if index < self.header.len {
            format!("cell \"{}\" stands under a column without a name", shortened(row.cell(index)))
        } else {
            format!("the row has more cells than the header's {}", self.header.len)
        };
        faults.error(row.line, number(index), problem, "put quotes around a text or number with the delimiter in it");
        true
    }

    fn finish(self, faults: &mut Faults) -> PointTable {
        let table = self.builder.finish();
        if table.is_empty() && !faults.has_errors() {
            faults.warning(0, 0, "the table has no points", "add a row below the header");
        }
        for (row, first) in self.repeats.find(&table) {
            let (row, first) = (table.row(row as usize), table.row(first as usize));
            let (kind, number) = (row.row().kind.word(), shortened(row.number()));
            let problem = format!("point {kind}.{number} is there twice; first in line {}", first.row().line);
            faults.error(row.row().line, self.header.cells()[1], problem, "a number is used once for each point type; where areas share an address, choose numbers freely and add the columns area and address");
        }
        table
    }
}
