//! Makes a point table of an .xlsx or of a Kepware tag list. What can not be taken is told with its row and column.

mod kepware;
mod styles;
#[cfg(test)]
mod tests;
mod workbook;
mod xlsx;

use super::faults::Faults;
use super::points::{self, rows::Rows};
use super::scaffold::csv_cell;
use super::source::Limits;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::model::progress::{Progress, Unit};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a CSV file.
const FILE_BYTES: u64 = 256 << 20;

/// What an import yields.
#[derive(Debug)]
pub struct Imported {
    /// point.csv.
    pub csv: String,
    pub rows: usize,
    /// The sheet of the workbook that was read.
    pub sheet: Option<String>,
    /// Rows that were not taken (errors), and what was not taken of others (warnings).
    pub left: Vec<Diagnostic>,
}

fn refuse(path: &Path, problem: &str, help: &str) -> Diagnostic {
    let fault = Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem);
    if help.is_empty() { fault } else { fault.help(help) }
}

/// Reads the file. `sheet` names a worksheet; the first that can be seen otherwise.
///
/// # Errors
/// When nothing of it can be taken, and why.
pub fn read(path: &Path, sheet: Option<&str>, progress: &Progress) -> Result<Imported, Vec<Diagnostic>> {
    let mut faults = Faults::new(&path.display().to_string().into());
    let (bytes, book) = match bytes(path, sheet, progress, &mut faults)? {
        Content::Csv(bytes) => (bytes, None),
        Content::Book(mut book) => (std::mem::take(&mut book.csv), Some(book)),
    };
    progress.step("checking", 0, Unit::Things);
    let done = read_rows(path, &bytes, faults);
    let Some(book) = book else { return done };
    match done {
        Ok(mut imported) => {
            in_cells(path, &book, &mut imported.left);
            imported.sheet = Some(book.sheet);
            Ok(imported)
        }
        Err(mut left) => {
            in_cells(path, &book, &mut left);
            if !book.others.is_empty() {
                let problem = format!("sheet \"{}\" was read; there are also: {}", book.sheet, book.others.join(", "));
                left.push(refuse(path, &problem, "name the right one with --sheet"));
            }
            Err(left)
        }
    }
}

/// Places of a sheet as people find them there: `B14`. What stands in merged cells is told so.
fn in_cells(path: &Path, book: &xlsx::Book, faults: &mut [Diagnostic]) {
    let file: Arc<str> = path.display().to_string().into();
    for fault in faults.iter_mut().filter(|fault| fault.place.line > 0 && fault.place.file == file) {
        let (row, column) = (fault.place.line, fault.place.column);
        let merged = book.merged.iter().find(|((left, top), (right, bottom))| {
            (*left..=*right).contains(&column) && (*top..=*bottom).contains(&row) && (column, row) != (*left, *top)
        });
        if let Some((first, last)) = merged {
            let name = |place: &(u32, u32)| format!("{}{}", xlsx::letters(place.0), place.1);
            let range = format!("{}:{}", name(first), name(last));
            fault.help = Some(format!(
                "the cells {range} are merged, and only the first holds the text: unmerge them, and fill each"
            ));
        }
        let cell = if column > 0 { format!("{}{row}", xlsx::letters(column)) } else { format!("row {row}") };
        fault.place = Place::new(&format!("{file}: {}!{cell}", book.sheet).into(), 0, 0);
    }
}

fn read_rows(path: &Path, bytes: &[u8], mut faults: Faults) -> Result<Imported, Vec<Diagnostic>> {
    let shown = Arc::clone(faults.file());
    let mut rows = Rows::open(bytes, &mut faults).ok_or_else(|| vec![refuse(path, "can not be read", "")])?;
    let mut first = rows.next(&mut faults);
    // Notes above the header, as Kepware's own configuration files have.
    while first.is_some_and(|row| row.cell(0).starts_with(';')) {
        first = rows.next(&mut faults);
    }
    let Some(first) = first else {
        let mut told = faults.finish();
        told.push(refuse(path, "there is no row in it", "its first row is the header"));
        return Err(told);
    };
    match kepware::header(first) {
        Some(header) => tags(path, header, rows, faults),
        None => table(path, &shown, bytes, faults),
    }
}

enum Content {
    Csv(Vec<u8>),
    Book(xlsx::Book),
}

fn bytes(
    path: &Path,
    sheet: Option<&str>,
    progress: &Progress,
    faults: &mut Faults,
) -> Result<Content, Vec<Diagnostic>> {
    let fail = |e: std::io::Error| vec![refuse(path, &format!("read the file: {e}"), "")];
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(fail)?.take(FILE_BYTES + 1);
    (&mut file).take(8).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.starts_with(b"PK\x03\x04") {
        return xlsx::read(path, sheet, progress, faults).map(Content::Book);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(vec![refuse(
            path,
            "it is an .xls of old, or an encrypted workbook",
            "save it as .xlsx without a password, or as CSV UTF-8",
        )]);
    }
    if let Some(name) = sheet {
        return Err(vec![refuse(path, &format!("a CSV has no sheet \"{name}\""), "leave --sheet out")]);
    }
    file.read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(vec![refuse(path, &format!("it has more than {FILE_BYTES} bytes"), "split it")]);
    }
    Ok(Content::Csv(bytes))
}

fn tags(
    path: &Path,
    mut header: kepware::Header,
    mut rows: Rows<&[u8]>,
    mut faults: Faults,
) -> Result<Imported, Vec<Diagnostic>> {
    let mut taken = kepware::Taken::default();
    taken.csv.push_str(kepware::HEADER);
    let limit = Limits::default().rows;
    while let Some(row) = rows.next(&mut faults) {
        if row.cell(0).starts_with(';') {
            continue;
        }
        kepware::take(row, &mut header, &mut taken, &mut faults);
        if taken.rows > limit {
            return Err(vec![refuse(
                path,
                &format!("it has more than {limit} points"),
                "split it into several templates",
            )]);
        }
    }
    if taken.wide > 0 {
        let problem = format!("{} tags have two registers or more, and their order is not in the file", taken.wide);
        let help = "Kepware's default \"First Word Low\" is byte_order: CDAB in protocol.sys; without it, ABCD";
        faults.warning(0, 0, problem, help);
    }
    check(&taken.csv, &mut faults);
    Ok(Imported { csv: taken.csv, rows: taken.rows, sheet: None, left: faults.finish() })
}

/// What comes out must read back as a point table.
fn check(csv: &str, faults: &mut Faults) {
    let (_, found) = points::read(&"point.csv".into(), csv.as_bytes(), &Limits::default());
    for fault in found.into_iter().filter(|fault| fault.severity == Severity::Error) {
        faults.add(fault);
    }
}

/// A table with our own headers: rows with a fault stay behind, the others come out as they are.
fn table(path: &Path, shown: &Arc<str>, bytes: &[u8], mut faults: Faults) -> Result<Imported, Vec<Diagnostic>> {
    let before = faults.finish();
    let wrong = |fault: &&Diagnostic| fault.severity == Severity::Error;
    let mut bad: BTreeSet<u32> = before.iter().filter(wrong).map(|fault| fault.place.line).collect();
    let (_, mut found) = points::read(shown, bytes, &Limits::default());
    // A cell that could not be read is empty, and that was told already.
    let told: HashSet<&Place> = before.iter().map(|fault| &fault.place).collect();
    found.retain(|fault| fault.place.line == 0 || !told.contains(&fault.place));
    bad.extend(found.iter().filter(|fault| fault.severity == Severity::Error).map(|fault| fault.place.line));
    let mut left: Vec<Diagnostic> = before.into_iter().chain(found).collect();
    faults = Faults::new(shown);
    let mut rows = Rows::open(bytes, &mut faults).ok_or_else(|| vec![refuse(path, "can not be read", "")])?;
    // With semicolons a comma may be the decimal sign: the delimiter stays.
    let delimiter = char::from(rows.delimiter()).to_string();
    let mut csv = String::new();
    let (mut count, mut width) = (0, 0);
    while let Some(row) = rows.next(&mut faults) {
        if bad.contains(&0) || (width == 0 && bad.contains(&row.line)) {
            // The header, the file as a whole, or more faults than are told: no row can be told good from bad.
            return Err(left);
        }
        if bad.contains(&row.line) {
            continue;
        }
        count += usize::from(width > 0);
        width = if width == 0 { row.len() } else { width };
        let cells: Vec<String> = (0..row.len().min(width)).map(|at| csv_cell(row.cell(at))).collect();
        csv.push_str(&cells.join(&delimiter));
        csv.push('\n');
    }
    left.sort_by_key(|fault| (fault.place.line, fault.place.column));
    Ok(Imported { csv, rows: count, sheet: None, left })
}
