//! Point tables as engineers write them: one folder each below testcases/point-tables.

use super::read;
use crate::package::source::Limits;
use driver::{PointTable, RowText};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// Faults as they are shown, then the rows when there is a table.
fn shown(bytes: &[u8]) -> String {
    let (table, faults) = read(&"point.csv".into(), bytes, &Limits::default());
    let mut text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    for row in table.iter().flat_map(PointTable::rows) {
        let _ = writeln!(text, "{}", shown_row(table.as_ref().expect("has rows"), row));
    }
    text
}

fn shown_row(table: &PointTable, row: RowText<'_>) -> String {
    let point = row.row();
    let mut text = format!(
        "line {}: {}.{} {:?} {} {}(x+{}) alias {:?}",
        point.line,
        point.kind.word(),
        row.number(),
        row.name(),
        point.value_type.word(),
        point.coefficient,
        point.base_value,
        row.alias()
    );
    for column in table.extra_columns() {
        if let Some(cell) = row.cell(column) {
            let _ = write!(text, " {column}={cell}");
        }
    }
    text
}

/// `UPDATE_TESTCASES=1` writes what is found; read the difference before it is committed.
#[test]
fn every_testcase_is_read_as_expected() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/point-tables");
    let mut folders: Vec<_> = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 30, "the testcases are there");
    for folder in folders {
        let found = shown(&std::fs::read(folder.join("point.csv")).unwrap());
        let expected = folder.join("expected.txt");
        if std::env::var_os("UPDATE_TESTCASES").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&expected).unwrap_or_default(), "{}", folder.display());
    }
}

const HEADER: &str = "name,number,value type,point type,coefficient,base value,alias\n";

/// Rows that are made while they are read: no test holds a table twice.
struct Endless<F> {
    make: F,
    row: u64,
    rows: u64,
    text: Vec<u8>,
    at: usize,
}

impl<F: FnMut(u64) -> String> Endless<F> {
    fn new(rows: u64, make: F) -> Endless<F> {
        Endless { make, row: 0, rows, text: HEADER.into(), at: 0 }
    }
}

impl<F: FnMut(u64) -> String> Read for Endless<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.text.len() && self.row < self.rows {
            self.text = (self.make)(self.row).into_bytes();
            self.at = 0;
            self.row += 1;
        }
        let len = buffer.len().min(self.text.len() - self.at);
        buffer[..len].copy_from_slice(&self.text[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

fn row(n: u64) -> String {
    format!("Point {n},{n},float,ai,1,0,\n")
}

#[test]
fn a_large_table_is_read_whole() {
    let started = Instant::now();
    let (table, faults) = read(&"point.csv".into(), Endless::new(200_000, row), &Limits::default());
    assert_eq!(faults, []);
    let table = table.expect("no faults");
    assert_eq!((table.len(), table.row(199_999).number(), table.row(199_999).row().line), (200_000, "199999", 200_001));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?} without optimisation", started.elapsed());
}

/// `cargo test --release -- --ignored million` says how long it takes.
#[test]
#[ignore = "a measurement"]
fn a_million_rows_take_seconds() {
    let started = Instant::now();
    let (table, _) = read(&"point.csv".into(), Endless::new(1_000_000, row), &Limits::default());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{} rows in {:?}, {peak}", table.unwrap().len(), started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn rows_beyond_the_cap_are_not_read() {
    let limits = Limits { rows: 10, ..Limits::default() };
    let (table, faults) = read(&"point.csv".into(), Endless::new(u64::MAX, row), &limits);
    assert!(table.is_none());
    assert_eq!(faults[0].problem, "the table has more than 10 rows");
    assert_eq!(faults[0].place.line, 12);
}

#[test]
fn a_million_faults_are_counted_not_kept() {
    let (table, faults) =
        read(&"point.csv".into(), Endless::new(50_000, |n| format!("P,{n},flaot,ai,1,0,\n")), &Limits::default());
    assert!(table.is_none());
    assert_eq!(faults.len(), 1_001);
    assert_eq!(faults[1_000].problem, "… and 49000 more");
}

#[test]
fn hostile_texts_end_early() {
    let started = Instant::now();
    let endless_line = HEADER.as_bytes().chain(std::io::repeat(b'x'));
    let endless_nul = HEADER.as_bytes().chain(std::io::repeat(0));
    let endless_cells = HEADER.as_bytes().chain(std::io::repeat(b','));
    let endless_quotes = HEADER.as_bytes().chain(std::io::repeat(b'"'));
    for reader in [
        Box::new(endless_line) as Box<dyn Read>,
        Box::new(endless_nul),
        Box::new(endless_cells),
        Box::new(endless_quotes),
    ] {
        let (table, faults) = read(&"point.csv".into(), reader, &Limits::default());
        assert!(table.is_none());
        assert_eq!(
            (faults[0].place.line, faults[0].problem.contains("longer than 65536 bytes")),
            (2, true),
            "{faults:?}"
        );
    }
    let open = Endless::new(u64::MAX, |n| format!("\"P,{n},float,ai,1,0,\n"));
    let (table, faults) = read(&"point.csv".into(), open, &Limits { rows: 100_000, ..Limits::default() });
    assert!(table.is_none() && faults.len() < 1_002);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn the_tables_of_the_reference_page_are_read() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/point-table.md")).unwrap();
    let blocks: Vec<_> = page.split("```csv\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let (table, faults) = read(&"point.csv".into(), block.as_bytes(), &Limits::default());
        assert_eq!(faults, []);
        assert!(!table.expect("no faults").is_empty());
    }
    assert!(page.contains("1,200,000 rows") && Limits::default().rows == 1_200_000);
}

/// Rows with their lines as [`super::rows::Rows`] gives them out, and whether there were faults.
fn rows_of(text: &str) -> (Vec<(u32, Vec<String>)>, bool) {
    let mut faults = crate::package::faults::Faults::new(&"point.csv".into());
    let mut rows = super::rows::Rows::open(text.as_bytes(), &mut faults).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next(&mut faults) {
        found.push((row.line, (0..row.len()).map(|index| row.cell(index).to_owned()).collect()));
    }
    (found, faults.has_errors())
}

proptest::proptest! {
    #[test]
    fn cells_are_those_of_the_csv_crate(text in "a,b\n([a,\" \n]{0,6}(\n|\r\n)?){0,8}") {
        let (found, faulty) = rows_of(&text);
        let lines = text.split('\n').count();
        proptest::prop_assert!(found.iter().all(|(line, _)| (1..=lines).contains(&(*line as usize))));
        proptest::prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        if !faulty {
            let normal = text.replace("\r\n", "\n");
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .terminator(csv::Terminator::Any(b'\n'))
                .from_reader(normal.as_bytes());
            let plain: Vec<Vec<String>> = reader
                .records()
                .map(|record| record.unwrap().iter().map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
                .filter(|cells: &Vec<String>| cells.iter().any(|cell| !cell.is_empty()))
                .collect();
            let cells: Vec<Vec<String>> = found.into_iter().map(|(_, cells)| cells).collect();
            proptest::prop_assert_eq!(cells, plain);
        }
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = shown(&[HEADER.as_bytes(), &bytes].concat());
        let _ = shown(&bytes);
    }

    #[test]
    fn the_line_of_a_row_is_where_its_text_stands(blanks in proptest::collection::vec(0usize..3, 1..12), crlf: bool, quoted: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = format!("a,b{end}");
        let mut line = 2;
        let mut expected = Vec::new();
        for (n, blank) in blanks.iter().enumerate() {
            text += &end.repeat(*blank);
            line += blank;
            expected.push(line);
            text += &if quoted && n % 2 == 0 { format!("\"x{end}y\",{n}{end}") } else { format!("x,{n}{end}") };
            line += if quoted && n % 2 == 0 { 2 } else { 1 };
        }
        let found: Vec<usize> = rows_of(&text).0.iter().skip(1).map(|(line, _)| *line as usize).collect();
        proptest::prop_assert_eq!(found, expected);
    }
}
