//! Turns one worksheet of an .xlsx into CSV text, line for line. Archives and XML that were made to harm are refused:
//! the zip is read with the caps of a package, a document type is refused, entities are never expanded.

use super::styles::Styles;
use super::{refuse, workbook};
use crate::diagnostic::Diagnostic;
use crate::model::progress::Progress;
use crate::package::faults::Faults;
use crate::package::scaffold::csv_cell;
use crate::package::source::{Limits, Source};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Bytes of one part after unpacking; a million rows of ten cells have about 500 MB and do not belong in Excel.
const PART_BYTES: u64 = 256 << 20;
/// Bytes of all shared texts, and of the CSV that comes out.
const TEXT_BYTES: usize = 128 << 20;
const AS_TEXT: &str = "make the column Text, and type it again: Excel made a date of what was written";
/// Rows and columns of a sheet: those of Excel, and those of a point table.
const ROWS: u32 = 1_048_576;
const COLUMNS: usize = 256;

/// What comes out of a workbook.
pub(super) struct Book {
    /// The CSV text of the sheet.
    pub csv: Vec<u8>,
    pub sheet: String,
    /// Sheets that could be meant instead.
    pub others: Vec<String>,
    /// Cells that were made one: column and row of the first, and of the last.
    pub merged: Vec<((u32, u32), (u32, u32))>,
}

/// Reads a sheet, the first that can be seen or the one of that name.
pub(super) fn read(
    path: &Path,
    sheet: Option<&str>,
    progress: &Progress,
    faults: &mut Faults,
) -> Result<Book, Vec<Diagnostic>> {
    let limits = Limits { file_bytes: PART_BYTES, progress: progress.clone(), ..Limits::default() };
    let source = Source::open(path, &limits)?;
    let parts = workbook::find(&source, sheet).map_err(|(problem, help)| vec![refuse(path, &problem, help)])?;
    let strings = parts.strings.map_or(Ok(Vec::new()), |part| shared(&source, &part))?;
    let styles = parts.styles.map_or(Ok(Styles::default()), |part| styles(&source, &part));
    let styles = styles.map_err(|problem| vec![refuse(path, &problem, "save it as .xlsx again")])?;
    let mut sheet = Sheet {
        strings: &strings,
        styles: &styles,
        faults,
        out: Vec::new(),
        line: 0,
        row: Row::default(),
        hidden: (0, 0),
        merged: Vec::new(),
    };
    source.begin("reading the sheet");
    walk(&source, &parts.sheet, |event| sheet.event(event)).map_err(|problem| vec![refuse(path, &problem, "")])?;
    sheet.tell_hidden();
    let Sheet { out, merged, .. } = sheet;
    Ok(Book { csv: out, sheet: parts.name, others: parts.others, merged })
}

fn styles(source: &Source, part: &str) -> Result<Styles, String> {
    let mut styles = Styles::default();
    walk(source, part, |event| {
        match &event {
            Event::Start(e) => styles.start(e, false)?,
            Event::Empty(e) => styles.start(e, true)?,
            Event::End(e) => styles.end(e.local_name().as_ref()),
            _ => {}
        }
        Ok(())
    })?;
    Ok(styles)
}

/// Runs over the events of a part until it ends or `each` complains.
pub(super) fn walk(
    source: &Source,
    part: &str,
    mut each: impl FnMut(Event<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let stream = source.reader(part).map_err(|fault| fault.problem)?;
    let mut reader: Reader<BufReader<_>> = Reader::from_reader(BufReader::new(stream));
    let mut buffer = Vec::new();
    loop {
        match next(&mut reader, &mut buffer).map_err(|e| format!("{part}: {e}"))? {
            Event::Eof => return Ok(()),
            Event::DocType(_) => return Err(format!("{part} declares a document type; no worksheet does")),
            event => each(event).map_err(|e| format!("{part}: {e}"))?,
        }
        buffer.clear();
    }
}

fn next<'b, R: BufRead>(reader: &mut Reader<R>, buffer: &'b mut Vec<u8>) -> Result<Event<'b>, String> {
    reader.read_event_into(buffer).map_err(|e| e.to_string())
}

/// An attribute by its name without prefix.
pub(super) fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Result<Option<String>, String> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        if attribute.key.local_name().as_ref() == name {
            return attribute.unescape_value().map(|text| Some(text.into_owned())).map_err(|e| e.to_string());
        }
    }
    Ok(None)
}

/// Adds what a text event says. Entities that XML does not know by itself are refused, not expanded.
fn add_text(event: &Event<'_>, to: &mut String) -> Result<(), String> {
    match event {
        Event::Text(text) => to.push_str(&text.decode().map_err(|e| e.to_string())?),
        Event::CData(text) => to.push_str(&text.decode().map_err(|e| e.to_string())?),
        Event::GeneralRef(entity) => {
            if let Some(c) = entity.resolve_char_ref().map_err(|e| e.to_string())? {
                to.push(c);
                return Ok(());
            }
            let name = entity.decode().map_err(|e| e.to_string())?;
            to.push(match &*name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                _ => return Err(format!("entity \"{name}\" is not known")),
            });
        }
        _ => {}
    }
    Ok(())
}

fn shared(source: &Source, part: &str) -> Result<Vec<Box<str>>, Vec<Diagnostic>> {
    let (mut all, mut text, mut in_text, mut phonetic, mut bytes) = (Vec::new(), String::new(), false, false, 0);
    let walked = walk(source, part, |event| {
        match &event {
            Event::Start(e) => match e.local_name().as_ref() {
                b"si" => text.clear(),
                b"t" => in_text = !phonetic,
                // How a Chinese or Japanese text is spoken; no part of it.
                b"rPh" => phonetic = true,
                _ => {}
            },
            Event::Empty(e) if e.local_name().as_ref() == b"si" => all.push("".into()),
            Event::End(e) => match e.local_name().as_ref() {
                b"si" => all.push(text.as_str().into()),
                b"t" => in_text = false,
                b"rPh" => phonetic = false,
                _ => {}
            },
            event if in_text => {
                let before = text.len();
                add_text(event, &mut text)?;
                bytes += text.len() - before;
            }
            _ => {}
        }
        if bytes > TEXT_BYTES { Err(format!("its texts have more than {TEXT_BYTES} bytes")) } else { Ok(()) }
    });
    walked.map_err(|problem| vec![refuse(Path::new(part), &problem, "")])?;
    Ok(all)
}

/// What is known of the row that is read.
#[derive(Default)]
struct Row {
    number: u32,
    cells: Vec<String>,
    column: usize,
    kind: String,
    /// Shows its number as a date.
    is_date: bool,
    has_formula: bool,
    text: String,
    in_text: bool,
    is_hidden: bool,
}

struct Sheet<'s> {
    strings: &'s [Box<str>],
    styles: &'s Styles,
    faults: &'s mut Faults,
    out: Vec<u8>,
    /// Lines written.
    line: u32,
    row: Row,
    /// Hidden rows with text in them: how many, and the first.
    hidden: (u32, u32),
    merged: Vec<((u32, u32), (u32, u32))>,
}

/// Merged cells that are remembered: each is a word in a complaint, no more.
const MERGED: usize = 10_000;

impl Sheet<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match &event {
            Event::Start(e) => match e.local_name().as_ref() {
                b"row" => self.begin_row(e)?,
                b"c" => self.begin_cell(e)?,
                b"v" | b"t" => self.row.in_text = true,
                b"f" => self.row.has_formula = true,
                b"mergeCell" => self.merge(e)?,
                _ => {}
            },
            Event::Empty(e) => match e.local_name().as_ref() {
                // Of a formula that shares another one's text.
                b"f" => self.row.has_formula = true,
                b"mergeCell" => self.merge(e)?,
                _ => {}
            },
            Event::End(e) => match e.local_name().as_ref() {
                b"row" => self.end_row()?,
                b"c" => self.end_cell()?,
                b"v" | b"t" => self.row.in_text = false,
                _ => {}
            },
            event if self.row.in_text => add_text(event, &mut self.row.text)?,
            _ => {}
        }
        Ok(())
    }

    fn begin_row(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let number = match attribute(element, b"r")? {
            Some(text) => text.parse().map_err(|_| format!("row number \"{text}\""))?,
            None => self.line + 1,
        };
        if number <= self.line || number > ROWS {
            return Err(format!("row {number} stands behind row {}", self.line));
        }
        let is_hidden = attribute(element, b"hidden")?.is_some_and(|hidden| matches!(&*hidden, "1" | "true"));
        self.row = Row { number, is_hidden, ..Row::default() };
        Ok(())
    }

    fn merge(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let range = attribute(element, b"ref")?.unwrap_or_default();
        let place = |text: &str| {
            let row = text.trim_start_matches(|c: char| c.is_ascii_uppercase()).parse().ok()?;
            Some((u32::try_from(column(text)? + 1).ok()?, row))
        };
        let corners = range.split_once(':').and_then(|(first, last)| Some((place(first)?, place(last)?)));
        if let Some(corners) = corners.filter(|_| self.merged.len() < MERGED) {
            self.merged.push(corners);
        }
        Ok(())
    }

    fn tell_hidden(&mut self) {
        let (count, first) = self.hidden;
        if count > 0 {
            let problem = format!("hidden rows are taken too: {count}, this is the first");
            self.faults.warning(first, 0, problem, "delete them in the sheet if they are not meant");
        }
    }

    /// A fault of the cell that ends; its row is not taken.
    fn cell_fault(&mut self, problem: impl Into<String>, help: &str) -> Result<(), String> {
        let column = u32::try_from(self.row.column + 1).unwrap_or(u32::MAX);
        self.faults.error(self.row.number, column, problem, help);
        Ok(())
    }

    fn begin_cell(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        self.row.column = match attribute(element, b"r")? {
            Some(place) => column(&place).ok_or_else(|| format!("cell \"{place}\""))?,
            None => self.row.cells.len(),
        };
        self.row.kind = attribute(element, b"t")?.unwrap_or_default();
        let style = attribute(element, b"s")?.and_then(|style| style.parse().ok());
        self.row.is_date = style.is_some_and(|style| self.styles.is_date(style));
        self.row.has_formula = false;
        self.row.text.clear();
        Ok(())
    }

    fn end_cell(&mut self) -> Result<(), String> {
        let text = std::mem::take(&mut self.row.text);
        let (line, column) = (self.row.number, self.row.column);
        let text = match self.row.kind.as_str() {
            "s" => {
                let found = text.trim().parse::<usize>().ok().and_then(|at| self.strings.get(at));
                found.ok_or_else(|| format!("row {line} names text {text}, which is not there"))?.to_string()
            }
            "e" => {
                let help = "mend the formula in the sheet, or write the value; the row is not taken";
                return self.cell_fault(format!("the cell holds the error {text}"), help);
            }
            "b" => if text.trim() == "1" { "TRUE" } else { "FALSE" }.to_owned(),
            "d" => return self.cell_fault(format!("the cell holds the date {text}"), AS_TEXT),
            "" | "n" if self.row.is_date && !text.trim().is_empty() => {
                let problem = format!("the cell holds a date or time, the number {}", plain_number(&text));
                return self.cell_fault(problem, AS_TEXT);
            }
            "" | "n" => plain_number(&text),
            _ => text,
        };
        if text.trim().is_empty() {
            return match self.row.has_formula {
                true => self.cell_fault(
                    "the formula has no value in the file",
                    "open the file in Excel or LibreOffice, and save it",
                ),
                false => Ok(()),
            };
        }
        if column >= COLUMNS {
            return self.cell_fault(format!("there is text beyond column {COLUMNS}"), "remove the surplus columns");
        }
        if self.row.cells.len() <= column {
            self.row.cells.resize(column + 1, String::new());
        }
        self.row.cells[column] = text.replace(['\r', '\n'], " ");
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), String> {
        if self.row.is_hidden && !self.row.cells.is_empty() {
            let first = if self.hidden.0 == 0 { self.row.number } else { self.hidden.1 };
            self.hidden = (self.hidden.0 + 1, first);
        }
        let cells: Vec<String> = self.row.cells.iter().map(|cell| csv_cell(cell)).collect();
        while self.line + 1 < self.row.number {
            self.out.push(b'\n');
            self.line += 1;
        }
        self.out.extend_from_slice(cells.join(",").as_bytes());
        self.out.push(b'\n');
        self.line = self.row.number;
        if self.out.len() > TEXT_BYTES {
            Err(format!("the sheet has more than {TEXT_BYTES} bytes of text"))
        } else {
            Ok(())
        }
    }
}

/// Excel stores 0.1 + 0.2 as it computed it; what people see has 15 digits at most.
fn plain_number(text: &str) -> String {
    match text.trim().parse::<f64>() {
        Ok(x) if x.is_finite() => {
            let rounded: f64 = format!("{x:.14e}").parse().unwrap_or(x);
            format!("{rounded}")
        }
        _ => text.to_owned(),
    }
}

/// 54 -> `BC`: the column as people name it, counted from 1.
pub(super) fn letters(mut column: u32) -> String {
    let mut name = Vec::new();
    while column > 0 {
        name.push(b'A' + u8::try_from((column - 1) % 26).unwrap_or(0));
        column = (column - 1) / 26;
    }
    name.iter().rev().map(|letter| char::from(*letter)).collect()
}

/// `BC12` -> 54.
fn column(place: &str) -> Option<usize> {
    let letters = place.bytes().take_while(u8::is_ascii_uppercase);
    let number = letters.take(4).fold(0usize, |n, letter| n * 26 + usize::from(letter - b'A') + 1);
    number.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_numbers_are_those_people_see() {
        assert_eq!(["A1", "Z9", "AA1", "BC12", "12"].map(column), [Some(0), Some(25), Some(26), Some(54), None]);
        assert_eq!([1, 26, 27, 55, 702, 703].map(letters), ["A", "Z", "AA", "BC", "ZZ", "AAA"]);
        assert_eq!(["3000", "0.30000000000000004", "1E-2", "x"].map(plain_number), ["3000", "0.3", "0.01", "x"]);
    }
}
