//! Makes a point table of an .xlsx or of a Kepware tag list. What can not be taken is told with its row and column.

mod kepware;
#[cfg(test)]
mod tests;
mod xlsx;

use super::faults::Faults;
use super::points::{self, rows::Rows};
use super::scaffold::csv_cell;
use super::source::Limits;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::model::progress::{Progress, Unit};
use std::collections::BTreeSet;
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
    /// Rows that were not taken (errors), and what was not taken of others (warnings).
    pub left: Vec<Diagnostic>,
}

fn refuse(path: &Path, problem: &str, help: &str) -> Diagnostic {
    let fault = Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem);
    if help.is_empty() { fault } else { fault.help(help) }
}

/// Reads the file. `sheet` names a worksheet; the first one otherwise.
///
/// # Errors
/// When nothing of it can be taken, and why.
pub fn read(path: &Path, sheet: Option<&str>, progress: &Progress) -> Result<Imported, Vec<Diagnostic>> {
    let shown: Arc<str> = path.display().to_string().into();
    let mut faults = Faults::new(&shown);
    let bytes = bytes(path, sheet, progress, &mut faults)?;
    progress.step("checking", 0, Unit::Things);
    let mut rows = Rows::open(&*bytes, &mut faults).ok_or_else(|| vec![refuse(path, "can not be read", "")])?;
    let Some(first) = rows.next(&mut faults) else {
        let mut told = faults.finish();
        told.push(refuse(path, "there is no row in it", "its first row is the header"));
        return Err(told);
    };
    match kepware::header(first) {
        Some(header) => tags(path, header, rows, faults),
        None => table(path, &shown, &bytes, faults),
    }
}

fn bytes(
    path: &Path,
    sheet: Option<&str>,
    progress: &Progress,
    faults: &mut Faults,
) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let fail = |e: std::io::Error| vec![refuse(path, &format!("read the file: {e}"), "")];
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(fail)?.take(FILE_BYTES + 1);
    (&mut file).take(8).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.starts_with(b"PK\x03\x04") {
        return xlsx::read(path, sheet, progress, faults);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(vec![refuse(
            path,
            "it is an .xls of old, or an encrypted workbook",
            "save it as .xlsx without a password, or as CSV UTF-8",
        )]);
    }
    file.read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(vec![refuse(path, &format!("it has more than {FILE_BYTES} bytes"), "split it")]);
    }
    Ok(bytes)
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
    Ok(Imported { csv: taken.csv, rows: taken.rows, left: faults.finish() })
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
    let mut bad: BTreeSet<u32> = before.iter().map(|fault| fault.place.line).collect();
    let (_, found) = points::read(shown, bytes, &Limits::default());
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
    Ok(Imported { csv, rows: count, left })
}
