//! Cuts a CSV stream into records before the csv crate sees them, so that no line, quote or NUL costs memory.
//! A refused line becomes a blank one: line numbers stay true.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

/// Longest line, and longest record of several lines.
pub const LINE_MAX: usize = 64 << 10;
/// Lines, blank ones too: as many as any table has rows, and as many again.
const LINES_MAX: u32 = 2_400_000;
/// Longest cell.
pub const CELL_MAX: usize = 4 << 10;
/// So many lines refused, and the rest of the file is not worth reading.
const TORN_MAX: usize = 100;

const EXCEL: &str = "in Excel choose \"Save As\", type \"CSV UTF-8 (Comma delimited)\"";

/// A fault of the stream itself.
pub struct Torn {
    pub line: u32,
    pub column: u32,
    pub problem: String,
    pub help: &'static str,
}

/// Complete records, ready for the csv crate.
pub struct Frames<R> {
    inner: BufReader<R>,
    delimiter: u8,
    /// Framed bytes and how many of them were handed out.
    out: Vec<u8>,
    given: usize,
    /// Lines to be framed again.
    held: VecDeque<Vec<u8>>,
    /// Number of the line that was taken last.
    line: u32,
    torn: Vec<Torn>,
    torn_count: usize,
    ended: bool,
}

impl<R: Read> Frames<R> {
    /// Looks at the first line: which encoding, which delimiter.
    ///
    /// # Errors
    /// When the stream can not be read.
    pub fn open(inner: R) -> io::Result<Frames<R>> {
        let mut frames = Frames {
            inner: BufReader::with_capacity(64 << 10, inner),
            delimiter: b',',
            out: Vec::new(),
            given: 0,
            held: VecDeque::new(),
            line: 0,
            torn: Vec::new(),
            torn_count: 0,
            ended: false,
        };
        frames.refuse_foreign()?;
        if !frames.ended {
            frames.detect_delimiter()?;
        }
        Ok(frames)
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The faults found so far.
    pub fn take_torn(&mut self) -> Vec<Torn> {
        std::mem::take(&mut self.torn)
    }

    fn refuse_foreign(&mut self) -> io::Result<()> {
        let start = self.inner.fill_buf()?;
        // Without a mark: a header begins with a letter, whose other half is zero.
        let utf16 = start.starts_with(&[0xff, 0xfe])
            || start.starts_with(&[0xfe, 0xff])
            || matches!(start, [0, 1..=0x7f, 0, 1..=0x7f, ..] | [1..=0x7f, 0, 1..=0x7f, 0, ..]);
        let problem = if utf16 {
            "the file is UTF-16"
        } else if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\xd0\xcf\x11\xe0") {
            "the file is an Excel workbook, not a CSV"
        } else {
            if start.starts_with("\u{feff}".as_bytes()) {
                self.inner.consume(3);
            }
            return Ok(());
        };
        self.tear(1, 0, problem, EXCEL);
        self.ended = true;
        Ok(())
    }

    /// The delimiter is the one that occurs most in the first line with text; `sep=;` says it outright.
    fn detect_delimiter(&mut self) -> io::Result<()> {
        let mut lines = VecDeque::new();
        while let Some(line) = self.take_line()? {
            let text = line.trim_ascii();
            if let Some([delimiter @ (b',' | b';' | b'\t')]) = text.strip_prefix(b"sep=") {
                self.delimiter = *delimiter;
                lines.push_back(Vec::new());
                break;
            }
            // Notes above a tag list begin with a semicolon, and none of theirs is a delimiter.
            let blank = text.is_empty() || text.starts_with(b";");
            if !blank {
                let count = |d: u8| unquoted(&line).filter(|b| *b == d).count();
                self.delimiter =
                    [b',', b';', b'\t'].into_iter().rev().max_by_key(|d| count(*d)).expect("three of them");
            }
            // Ten thousand blank lines before the header are no table.
            let enough = !blank || lines.len() > 10_000;
            lines.push_back(line);
            if enough {
                break;
            }
        }
        self.hold(lines);
        Ok(())
    }

    /// Puts lines back, to be taken again.
    fn hold(&mut self, mut lines: VecDeque<Vec<u8>>) {
        self.line -= u32::try_from(lines.len()).expect("lines were counted in u32");
        lines.append(&mut self.held);
        self.held = lines;
    }

    /// The next line without its end; `None` when there is none, or none that fits.
    fn take_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(line) = self.held.pop_front() {
            self.line += 1;
            return Ok(Some(line));
        }
        if self.ended {
            return Ok(None);
        }
        let mut line = Vec::new();
        (&mut self.inner).take(LINE_MAX as u64 + 2).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        self.line += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if self.line == LINES_MAX {
            self.ended = true;
            let problem = format!("there are more than {LINES_MAX} lines; the rest of the file was not read");
            self.tear(self.line, 0, problem, "remove the blank lines, or split the table into several templates");
            return Ok(None);
        }
        if line.len() > LINE_MAX {
            self.ended = true;
            let problem = format!("the line is longer than {LINE_MAX} bytes; the rest of the file was not read");
            self.tear(self.line, 0, problem, "one row a line; is a quote missing, or is this another kind of file?");
            return Ok(None);
        }
        Ok(Some(line))
    }

    /// Frames the next record, of one line or several. False at the end.
    fn frame(&mut self) -> io::Result<bool> {
        let Some(mut record) = self.take_line()? else {
            return Ok(false);
        };
        if record.contains(&0) {
            let column = cell_of(&record, self.delimiter, record.iter().position(|b| *b == 0).unwrap_or(0));
            self.tear(self.line, column, "the line holds a NUL", EXCEL);
            record.clear();
        }
        if record.contains(&b'"') {
            self.complete(&mut record)?;
        }
        self.out.extend_from_slice(&record);
        self.out.push(b'\n');
        Ok(true)
    }

    /// Appends lines until every quote of the record is closed, or gives the record up.
    fn complete(&mut self, record: &mut Vec<u8>) -> io::Result<()> {
        let first = self.line;
        let mut quotes = Quotes::default();
        quotes.scan(record, self.delimiter);
        let mut more = VecDeque::new();
        while quotes.inside {
            let next = if quotes.len > CELL_MAX || record.len() > LINE_MAX { None } else { self.take_line()? };
            let Some(line) = next.filter(|line| !line.contains(&0)) else {
                let column = quotes.cell;
                self.give_up(first, column, more);
                record.clear();
                return Ok(());
            };
            record.push(b'\n');
            record.extend_from_slice(&line);
            quotes.scan(&line, self.delimiter);
            more.push_back(line);
        }
        Ok(())
    }

    fn give_up(&mut self, line: u32, column: u32, more: VecDeque<Vec<u8>>) {
        self.hold(more);
        self.line = line;
        self.tear(line, column, "the quote that opens here is never closed", "write a quote inside a text twice: \"\"");
    }

    fn tear(&mut self, line: u32, column: u32, problem: impl Into<String>, help: &'static str) {
        self.torn_count += 1;
        if self.torn_count >= TORN_MAX {
            self.held.clear();
            self.ended = true;
        }
        self.torn.push(Torn { line, column, problem: problem.into(), help });
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.out.len() {
            self.out.clear();
            self.given = 0;
            while self.out.len() < buffer.len().min(LINE_MAX) && self.frame()? {}
        }
        let len = buffer.len().min(self.out.len() - self.given);
        buffer[..len].copy_from_slice(&self.out[self.given..self.given + len]);
        self.given += len;
        Ok(len)
    }
}

/// Follows quotes as the csv crate does: one opens a cell only at its very start, and is written twice inside.
#[derive(Default)]
struct Quotes {
    inside: bool,
    /// Number of the cell that is open, and its length so far.
    cell: u32,
    len: usize,
}

impl Quotes {
    fn scan(&mut self, line: &[u8], delimiter: u8) {
        let mut at = 0;
        let mut cell_starts = !self.inside;
        if cell_starts {
            self.cell = 1;
        }
        while at < line.len() {
            let byte = line[at];
            if self.inside {
                if byte == b'"' && line.get(at + 1) == Some(&b'"') {
                    at += 1;
                } else if byte == b'"' {
                    self.inside = false;
                }
                self.len += 1;
            } else if byte == delimiter {
                self.cell += 1;
                cell_starts = true;
                at += 1;
                continue;
            } else if byte == b'"' && cell_starts {
                self.inside = true;
                self.len = 0;
            }
            cell_starts = false;
            at += 1;
        }
    }
}

fn cell_of(line: &[u8], delimiter: u8, at: usize) -> u32 {
    let before = line[..at].iter().filter(|b| **b == delimiter).count();
    u32::try_from(before + 1).expect("a line is short")
}

fn unquoted(line: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut inside = false;
    line.iter().copied().filter(move |b| {
        inside ^= *b == b'"';
        !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(text: &[u8]) -> (String, Vec<String>) {
        let mut frames = Frames::open(text).unwrap();
        let mut out = String::new();
        frames.read_to_string(&mut out).unwrap();
        let torn = frames.take_torn();
        (out, torn.iter().map(|t| format!("{}:{}: {}", t.line, t.column, t.problem)).collect())
    }

    #[test]
    fn a_quoted_cell_may_hold_line_ends() {
        let (out, torn) = framed(b"a,b\r\n\"x\r\ny\",\"say \"\"hi\"\"\"\r\n");
        assert_eq!(out, "a,b\n\"x\ny\",\"say \"\"hi\"\"\"\n");
        assert!(torn.is_empty());
    }

    #[test]
    fn an_open_quote_is_named_where_it_opened_and_the_next_lines_are_read() {
        let (out, torn) = framed(b"a,b\n1,\"x\n2,y\n3,z\n");
        assert_eq!(out, "a,b\n\n2,y\n3,z\n");
        assert_eq!(torn, ["2:2: the quote that opens here is never closed"]);
    }

    #[test]
    fn an_endless_line_ends_the_reading() {
        let text = io::Read::chain(&b"a,b\n"[..], io::repeat(b'x'));
        let mut frames = Frames::open(text).unwrap();
        let mut out = String::new();
        frames.read_to_string(&mut out).unwrap();
        assert_eq!(out, "a,b\n");
        assert!(frames.take_torn()[0].problem.contains("longer than 65536 bytes"));
    }

    #[test]
    fn an_endless_quoted_cell_ends_too() {
        let mut text = b"a,b\n\"".to_vec();
        text.extend(std::iter::repeat_n(*b"x\"\"\n", 100_000).flatten());
        let (_, torn) = framed(&text);
        assert_eq!(torn[0], "2:1: the quote that opens here is never closed");
    }

    #[test]
    fn the_first_line_tells_the_delimiter() {
        for (text, delimiter) in [
            (&b"\xef\xbb\xbfa;b;\"c,d,e,f\"\n"[..], b';'),
            (b"a\tb\tc\n", b'\t'),
            (b"\n\na,b\n", b','),
            (b"sep=;\na,b\n", b';'),
            (b"a\n", b','),
        ] {
            assert_eq!(Frames::open(text).unwrap().delimiter(), delimiter);
        }
    }

    #[test]
    fn files_of_another_kind_are_refused_with_the_remedy() {
        for (text, what) in
            [(&b"\xff\xfea\0"[..], "UTF-16"), (b"PK\x03\x04....", "Excel workbook"), (b"a,b\n1\x002,3\n", "NUL")]
        {
            let (_, torn) = framed(text);
            assert!(torn[0].contains(what), "{torn:?}");
        }
    }
}
