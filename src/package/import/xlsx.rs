//! Turns one worksheet of an .xlsx into CSV text, line for line. Archives and XML that were made to harm are refused:
//! the zip is read with the caps of a package, a document type is refused, entities are never expanded.

use super::refuse;
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
/// Rows and columns of a sheet: those of Excel, and those of a point table.
const ROWS: u32 = 1_048_576;
const COLUMNS: usize = 256;

/// The CSV text of a sheet, the first one or the one of that name.
pub(super) fn read(
    path: &Path,
    sheet: Option<&str>,
    progress: &Progress,
    faults: &mut Faults,
) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let limits = Limits { file_bytes: PART_BYTES, progress: progress.clone(), ..Limits::default() };
    let source = Source::open(path, &limits)?;
    let part = sheet_part(&source, sheet).map_err(|problem| vec![refuse(path, &problem, "save it as .xlsx again")])?;
    let strings = if source.contains("xl/sharedStrings.xml") { shared(&source)? } else { Vec::new() };
    let mut sheet = Sheet { strings: &strings, faults, out: Vec::new(), line: 0, row: Row::default() };
    source.begin("reading the sheet");
    walk(&source, &part, |event| sheet.event(event)).map_err(|problem| vec![refuse(path, &problem, "")])?;
    Ok(sheet.out)
}

/// Runs over the events of a part until it ends or `each` complains.
fn walk(source: &Source, part: &str, mut each: impl FnMut(Event<'_>) -> Result<(), String>) -> Result<(), String> {
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
fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Result<Option<String>, String> {
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

fn sheet_part(source: &Source, wanted: Option<&str>) -> Result<String, String> {
    if !source.contains("xl/workbook.xml") {
        return Err("it is a zip, and no .xlsx workbook".to_owned());
    }
    let mut sheets: Vec<(String, String)> = Vec::new();
    walk(source, "xl/workbook.xml", |event| {
        if let Event::Start(e) | Event::Empty(e) = &event
            && e.local_name().as_ref() == b"sheet"
        {
            // `r:id` beside `sheetId`.
            sheets.push((attribute(e, b"name")?.unwrap_or_default(), attribute(e, b"id")?.unwrap_or_default()));
        }
        Ok(())
    })?;
    let found = match wanted {
        None => sheets.first(),
        Some(name) => sheets.iter().find(|(sheet, _)| sheet == name),
    };
    let Some((_, id)) = found else {
        let known: Vec<&str> = sheets.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!("there is no sheet \"{}\"; there are: {}", wanted.unwrap_or_default(), known.join(", ")));
    };
    let mut target = None;
    walk(source, "xl/_rels/workbook.xml.rels", |event| {
        if let Event::Start(e) | Event::Empty(e) = &event
            && e.local_name().as_ref() == b"Relationship"
            && attribute(e, b"Id")?.as_ref() == Some(id)
        {
            target = attribute(e, b"Target")?;
        }
        Ok(())
    })?;
    let target = target.ok_or("the sheet has no part")?;
    Ok(target.strip_prefix('/').map_or_else(|| format!("xl/{target}"), str::to_owned))
}

fn shared(source: &Source) -> Result<Vec<Box<str>>, Vec<Diagnostic>> {
    let part = "xl/sharedStrings.xml";
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
    text: String,
    in_text: bool,
}

struct Sheet<'s> {
    strings: &'s [Box<str>],
    faults: &'s mut Faults,
    out: Vec<u8>,
    /// Lines written.
    line: u32,
    row: Row,
}

impl Sheet<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match &event {
            Event::Start(e) => match e.local_name().as_ref() {
                b"row" => self.begin_row(e)?,
                b"c" => self.begin_cell(e)?,
                b"v" | b"t" => self.row.in_text = true,
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
        self.row = Row { number, ..Row::default() };
        Ok(())
    }

    fn begin_cell(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        self.row.column = match attribute(element, b"r")? {
            Some(place) => column(&place).ok_or_else(|| format!("cell \"{place}\""))?,
            None => self.row.cells.len(),
        };
        self.row.kind = attribute(element, b"t")?.unwrap_or_default();
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
                let problem = format!("the cell holds the error {text}");
                let help = "mend the formula in Excel, or write the value; the row is not taken";
                self.faults.error(line, u32::try_from(column + 1).unwrap_or(u32::MAX), problem, help);
                String::new()
            }
            "" | "n" => plain_number(&text),
            _ => text,
        };
        if text.trim().is_empty() {
            return Ok(());
        }
        if column >= COLUMNS {
            let problem = format!("there is text beyond column {COLUMNS}");
            self.faults.error(
                line,
                u32::try_from(column + 1).unwrap_or(u32::MAX),
                problem,
                "remove the surplus columns",
            );
            return Ok(());
        }
        if self.row.cells.len() <= column {
            self.row.cells.resize(column + 1, String::new());
        }
        self.row.cells[column] = text.replace(['\r', '\n'], " ");
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), String> {
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
        assert_eq!(["3000", "0.30000000000000004", "1E-2", "x"].map(plain_number), ["3000", "0.3", "0.01", "x"]);
    }
}
