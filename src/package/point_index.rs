//! PURE. Finds the points that formulas name. Remembers only what is asked for, so that a table of a
//! million rows costs one pass and no memory.

use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::model::formula::OperandText;
use driver::{PointKind, PointTable, RowText};
use std::collections::HashMap;

/// Guesses look at this many rows; beyond, the distance of words says little and costs much.
const GUESS_ROWS: usize = 5_000;

/// And only so many faults of a file get a guess.
const GUESSES: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Row(u32),
    /// Two rows at least, named by their lines.
    Several(u32, u32),
}

pub struct PointIndex {
    numbers: HashMap<(PointKind, String), Found>,
    names: HashMap<String, Found>,
    guesses: u32,
}

impl PointIndex {
    pub fn of<'o>(table: &PointTable, wanted: impl Iterator<Item = &'o OperandText>) -> PointIndex {
        let mut index = PointIndex { numbers: HashMap::new(), names: HashMap::new(), guesses: 0 };
        for operand in wanted {
            match operand {
                OperandText::Point(kind, number) => {
                    index.numbers.insert((*kind, number.clone()), Found::Nothing);
                }
                OperandText::Named(name) => {
                    index.names.insert(name.clone(), Found::Nothing);
                }
                OperandText::Constant(_) => {}
            }
        }
        index.scan(table);
        index
    }

    fn scan(&mut self, table: &PointTable) {
        let mut by_number: HashMap<(PointKind, &str), Found> =
            self.numbers.keys().map(|(kind, number)| ((*kind, number.as_str()), Found::Nothing)).collect();
        let mut by_name: HashMap<&str, Found> = self.names.keys().map(|n| (n.as_str(), Found::Nothing)).collect();
        for (at, row) in (0u32..).zip(table.rows()) {
            if let Some(found) = by_number.get_mut(&(row.row().kind, row.number())) {
                // A repeated number is the point table's own fault; the first row stands.
                if *found == Found::Nothing {
                    *found = Found::Row(at);
                }
            }
            if by_name.is_empty() {
                continue;
            }
            for word in [row.name(), row.alias()] {
                if let Some(found) = by_name.get_mut(word) {
                    *found = meet(*found, at);
                }
            }
        }
        let numbers = by_number.into_iter().map(|((kind, number), found)| ((kind, number.to_owned()), found)).collect();
        let names = by_name.into_iter().map(|(name, found)| (name.to_owned(), found)).collect();
        (self.numbers, self.names) = (numbers, names);
    }

    #[must_use]
    pub fn find(&self, operand: &OperandText) -> Found {
        match operand {
            OperandText::Point(kind, number) => {
                self.numbers.get(&(*kind, number.clone())).copied().unwrap_or(Found::Nothing)
            }
            OperandText::Named(name) => self.names.get(name).copied().unwrap_or(Found::Nothing),
            OperandText::Constant(_) => Found::Nothing,
        }
    }

    /// Why an operand was not found, with a guess at what was meant.
    pub fn complain(&mut self, table: &PointTable, operand: &OperandText, found: Found, place: Place) -> Diagnostic {
        if let (OperandText::Named(name), Found::Several(first, second)) = (operand, found) {
            let line = |row: u32| table.row(row as usize).row().line;
            let problem = format!("\"{name}\" names several points of {}", table.file);
            let help = format!("see its lines {} and {}; name the point as ai.3000", line(first), line(second));
            return Diagnostic::error(place, problem).help(help);
        }
        let (shown, quoted) = match operand {
            OperandText::Point(kind, number) => (format!("{}.{number}", kind.word()), false),
            OperandText::Named(name) => (name.clone(), true),
            OperandText::Constant(number) => (number.to_string(), false),
        };
        let problem =
            format!("{} has no point {}", table.file, if quoted { format!("\"{shown}\"") } else { shown.clone() });
        let fault = Diagnostic::error(place, problem);
        self.guesses += 1;
        if self.guesses > GUESSES {
            return fault.help("see the point table");
        }
        let same_kind = |row: &RowText<'_>| match operand {
            OperandText::Point(kind, _) => row.row().kind == *kind,
            _ => true,
        };
        let near = table.rows().take(GUESS_ROWS);
        let mut words: Vec<String> = near.filter(same_kind).map(|row| word(row, quoted)).collect();
        if words.is_empty() {
            words = table.rows().take(GUESS_ROWS).map(|row| word(row, quoted)).collect();
        }
        fault.help(did_you_mean(&shown, words.iter().map(String::as_str)))
    }
}

fn word(row: RowText<'_>, quoted: bool) -> String {
    if quoted { row.name().to_owned() } else { format!("{}.{}", row.row().kind.word(), row.number()) }
}

fn meet(found: Found, at: u32) -> Found {
    match found {
        Found::Nothing => Found::Row(at),
        Found::Row(first) if first == at => found,
        Found::Row(first) => Found::Several(first, at),
        Found::Several(..) => found,
    }
}
