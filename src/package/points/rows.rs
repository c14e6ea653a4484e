//! Rows of a CSV stream with their true line numbers. One record is reused for all of them.

use super::frames::{CELL_MAX, Frames};
use crate::package::faults::Faults;
use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};
use std::io::Read;

/// Most cells of a row.
pub const COLUMNS_MAX: usize = 256;

/// A CSV stream, row by row.
pub struct Rows<R> {
    reader: Reader<Frames<R>>,
    record: ByteRecord,
    /// True once the header was given out. Without a header no other line is taken for one.
    started: bool,
    /// The first cell that is not UTF-8, and how many rows have one.
    not_utf8: Option<(u32, u32)>,
    not_utf8_rows: u64,
}

/// One row: every cell is UTF-8 and of a sensible length.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub line: u32,
    record: &'a ByteRecord,
}

impl<R: Read> Rows<R> {
    /// Looks at the start of the stream; `None` when it can not be read.
    pub fn open(inner: R, faults: &mut Faults) -> Option<Rows<R>> {
        let frames = match Frames::open(inner) {
            Ok(frames) => frames,
            Err(e) => {
                faults.error(0, 0, format!("read the file: {e}"), "");
                return None;
            }
        };
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(frames.delimiter())
            // Frames ends every line with one line feed.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(frames);
        Some(Rows { reader, record: ByteRecord::new(), started: false, not_utf8: None, not_utf8_rows: 0 })
    }

    pub fn delimiter(&self) -> u8 {
        self.reader.get_ref().delimiter()
    }

    /// The next row that is not blank; faulty ones are reported and skipped.
    pub fn next(&mut self, faults: &mut Faults) -> Option<Row<'_>> {
        while let Some(line) = self.read(faults) {
            if self.is_blank() {
                continue;
            }
            let good = self.check(line, faults);
            if good {
                self.started = true;
                return Some(Row { line, record: &self.record });
            }
            if !self.started {
                break;
            }
        }
        self.finish(faults);
        None
    }

    /// Reads one record and answers its line; `None` at the end, or when there is no sense in going on.
    fn read(&mut self, faults: &mut Faults) -> Option<u32> {
        let more = self.reader.read_byte_record(&mut self.record);
        let torn = self.reader.get_mut().take_torn();
        let line = self.line();
        // Refused before the first row: that was the header. Lines below it are framed ahead of their turn.
        let headless = !self.started && torn.iter().any(|torn| torn.line <= line);
        for torn in torn {
            faults.error(torn.line, torn.column, torn.problem, torn.help);
        }
        match more {
            Ok(true) if !headless => Some(line),
            Ok(_) => None,
            Err(e) => {
                faults.error(0, 0, format!("read the file: {e}"), "");
                None
            }
        }
    }

    /// The reader stands behind the record and its line end. The record's own position would count
    /// the blank lines before it.
    fn line(&self) -> u32 {
        let cells = self.record.as_slice();
        let inside = if cells.contains(&b'\n') { cells.iter().filter(|b| **b == b'\n').count() } else { 0 };
        u32::try_from(self.reader.position().line().saturating_sub(1 + inside as u64)).unwrap_or(u32::MAX)
    }

    fn is_blank(&self) -> bool {
        self.record.as_slice().iter().all(u8::is_ascii_whitespace)
    }

    fn check(&mut self, line: u32, faults: &mut Faults) -> bool {
        if self.record.len() > COLUMNS_MAX {
            faults.error(line, 0, format!("the row has more than {COLUMNS_MAX} cells"), "remove the surplus columns");
            return false;
        }
        if !self.started && self.record.as_slice().contains(&b'\r') {
            faults.error(line, 0, "the lines end with a carriage return only", SAVE);
            return false;
        }
        for (index, cell) in self.record.iter().enumerate() {
            let column = u32::try_from(index + 1).expect("rows are narrow");
            if cell.len() > CELL_MAX {
                faults.error(line, column, format!("the cell is longer than {CELL_MAX} bytes"), "shorten it");
                return false;
            }
            if std::str::from_utf8(cell).is_err() {
                self.not_utf8.get_or_insert((line, column));
                self.not_utf8_rows += 1;
                return false;
            }
        }
        true
    }

    /// Says once where the text is not UTF-8: with a wrong code page it is so in most rows.
    fn finish(&mut self, faults: &mut Faults) {
        if let Some((line, column)) = self.not_utf8.take() {
            let more = self.not_utf8_rows - 1;
            let more = if more > 0 { format!(", nor in {more} more rows") } else { String::new() };
            faults.error(line, column, format!("the text is not UTF-8 (GBK, or another code page?){more}"), SAVE);
        }
    }
}

const SAVE: &str = "in Excel choose \"Save As\", type \"CSV UTF-8 (Comma delimited)\"";

impl<'a> Row<'a> {
    pub fn len(self) -> usize {
        self.record.len()
    }

    /// The cell of column `index`, counted from 0, without the blanks around it; empty when there is none.
    pub fn cell(self, index: usize) -> &'a str {
        let cell = self.record.get(index).unwrap_or_default();
        std::str::from_utf8(cell).expect("rows are checked before they are given out").trim()
    }
}
