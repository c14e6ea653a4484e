//! PURE. The mapping table `mapping.csv`: its rows and where each cell stands. What a formula means is not read here.

use super::faults::Faults;
use super::points::rows::{Row as CsvRow, Rows};
use crate::diagnostic::{Diagnostic, Place};
use driver::{Text, did_you_mean};
use std::sync::Arc;

/// One row: a measurement point and what fills it. Empty cells are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub point: Text,
    pub description: Option<Text>,
    pub mapping: Option<Text>,
    pub control: Option<Text>,
    pub upload: Option<Text>,
    pub upload_interval_ms: Option<Text>,
    pub deadband: Option<Text>,
    pub read_back: Option<Text>,
    pub read_back_within_ms: Option<Text>,
}

/// A template fills one model; a million measurement points is none.
const ROWS_MAX: usize = 100_000;

/// The columns: first word the vendor's, then what people write.
const COLUMNS: [&[&str]; 10] = [
    &["point", "measurepoint", "测点", "模型点", "测点标识符"],
    &["pdesp", "description", "pointdescription", "描述", "测点描述"],
    &["mapping", "映射", "采集点"],
    &["mdesp", "mappingdescription", "采集点描述"],
    &["control", "控制点", "控制"],
    &["upload", "uploadtype", "上送类型", "上传类型"],
    &["upload_interval_ms", "uploadintervalms", "uploadinterval", "上送周期", "上传周期"],
    &["deadband", "死区"],
    &["read_back", "readback", "回读"],
    &["read_back_within_ms", "readbackwithinms", "回读等待"],
];
const POINT: usize = 0;
const MAPPING: usize = 2;

/// Reads `mapping.csv`. Rows with a fault are left out, all others are there.
#[must_use]
pub fn read(file: &Arc<str>, text: &str) -> (Vec<Row>, Vec<Diagnostic>) {
    let mut faults = Faults::new(file);
    let mut found = Vec::new();
    if let Some(mut rows) = Rows::open(text.as_bytes(), &mut faults) {
        if let Some(columns) = rows.next(&mut faults).and_then(|first| Columns::read(first, &mut faults)) {
            while let Some(row) = rows.next(&mut faults) {
                if found.len() == ROWS_MAX {
                    faults.error(row.line, 0, format!("the table has more than {ROWS_MAX} rows"), "split the model");
                    break;
                }
                found.extend(columns.row(row, &mut faults));
            }
        } else if !faults.has_errors() {
            faults.error(0, 0, "the mapping table is empty", "its first line is the header point,pdesp,mapping,mdesp");
        }
    }
    (found, faults.finish())
}

struct Columns {
    indexes: [Option<usize>; 10],
    len: usize,
}

impl Columns {
    fn read(header: CsvRow<'_>, faults: &mut Faults) -> Option<Columns> {
        let mut columns = Columns { indexes: [None; 10], len: 0 };
        for index in (0..header.len()).filter(|index| !header.cell(*index).is_empty()) {
            columns.len = index + 1;
            columns.take(header, index, faults);
        }
        for which in [POINT, MAPPING].into_iter().filter(|which| columns.indexes[*which].is_none()) {
            let problem = format!("column \"{}\" is missing", COLUMNS[which][0]);
            faults.error(header.line, 0, problem, "the header is point,pdesp,mapping,mdesp");
        }
        columns.indexes[POINT].and(columns.indexes[MAPPING]).map(|_| columns)
    }

    fn take(&mut self, header: CsvRow<'_>, index: usize, faults: &mut Faults) {
        let text = header.cell(index);
        let squeezed: String =
            text.to_lowercase().chars().filter(|c| !c.is_whitespace() && !"_-".contains(*c)).collect();
        let known = COLUMNS.iter().position(|words| words.iter().any(|word| word.replace('_', "") == squeezed));
        match known {
            None => {
                let help = did_you_mean(text, COLUMNS.iter().map(|words| words[0]));
                faults.error(header.line, number(index), format!("column \"{text}\" is not known"), help);
            }
            Some(which) => {
                if let Some(first) = self.indexes[which].replace(index) {
                    let problem = format!("column \"{text}\" is there twice; the first is column {}", first + 1);
                    faults.error(header.line, number(index), problem, "remove one of them");
                }
            }
        }
    }

    fn row(&self, row: CsvRow<'_>, faults: &mut Faults) -> Option<Row> {
        let text = |which: usize| {
            let index = self.indexes[which]?;
            let place = Place::new(faults.file(), row.line, number(index));
            Some(row.cell(index)).filter(|cell| !cell.is_empty()).map(|cell| Text { text: cell.to_owned(), place })
        };
        let point = text(POINT);
        let [description, mapping, control, upload] = [1, MAPPING, 4, 5].map(text);
        let [upload_interval_ms, deadband, read_back, read_back_within_ms] = [6, 7, 8, 9].map(text);
        if let Some(index) = (self.len..row.len()).find(|index| !row.cell(*index).is_empty()) {
            let problem = format!("the row has more cells than the header's {}", self.len);
            faults.error(
                row.line,
                number(index),
                problem,
                "put quotes around a formula with a comma: \"sum(ai.1,ai.2)\"",
            );
            return None;
        }
        let Some(point) = point else {
            let column = self.indexes[POINT].map_or(0, number);
            faults.error(row.line, column, "the point is empty", "write the identifier of a measurement point");
            return None;
        };
        Some(Row {
            point,
            description,
            mapping,
            control,
            upload,
            upload_interval_ms,
            deadband,
            read_back,
            read_back_within_ms,
        })
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index + 1).expect("rows are narrow")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (Vec<String>, Vec<String>) {
        let (rows, faults) = read(&"mapping.csv".into(), text);
        let cell =
            |text: &Option<Text>| text.as_ref().map_or("-".to_owned(), |t| format!("{}@{}", t.text, t.place.column));
        let rows = rows.iter().map(|row| {
            let cells = [&row.mapping, &row.control, &row.upload, &row.upload_interval_ms, &row.deadband].map(cell);
            format!("{}@{}: {}", row.point.text, row.point.place.line, cells.join(" "))
        });
        (rows.collect(), faults.iter().map(|f| f.to_string().lines().next().unwrap_or_default().to_owned()).collect())
    }

    #[test]
    fn the_vendors_table_and_ours_with_more_columns_are_read() {
        let (rows, faults) = shown(
            "\u{feff}point,pdesp,mapping,mdesp\r\nvoltage,Voltage,ai.38,U\r\npower,,\"sum(ai.1,ai.2)\",\r\nspare,,,\r\n",
        );
        assert_eq!(rows, ["voltage@2: ai.38@3 - - - -", "power@3: sum(ai.1,ai.2)@3 - - - -", "spare@4: - - - - -"]);
        assert_eq!(faults, Vec::<String>::new());
        let (rows, faults) = shown(
            "Point;Mapping;Control;Upload Type;upload_interval_ms;死区\nvoltage;avg(ai.1,ai.2);ao.1;timer;60000;0,5\n",
        );
        assert_eq!(rows, ["voltage@2: avg(ai.1,ai.2)@2 ao.1@3 timer@4 60000@5 0,5@6"]);
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_reported_and_the_other_rows_are_there() {
        let text = "point,mapping,uplaod,control,control\npower,sum(ai.1,ai.2,ai.3,ai.4,ai.5)\n,ai.1\nvoltage,ai.2\n\"open,ai.3\n";
        let (rows, faults) = shown(text);
        assert_eq!(rows, ["voltage@4: ai.2@2 - - - -"]);
        assert_eq!(
            faults,
            [
                "mapping.csv:1:3: column \"uplaod\" is not known",
                "mapping.csv:1:5: column \"control\" is there twice; the first is column 4",
                "mapping.csv:2:6: the row has more cells than the header's 5",
                "mapping.csv:3:1: the point is empty",
                "mapping.csv:5:1: the quote that opens here is never closed",
            ]
        );
    }

    #[test]
    fn a_formula_without_quotes_is_named() {
        let (_, faults) = read(&"mapping.csv".into(), "point,pdesp,mapping,mdesp\npower,,sum(ai.1,ai.2,ai.3)\n");
        assert_eq!(faults[0].place.to_string(), "mapping.csv:2:5");
        assert!(faults[0].help.as_ref().is_some_and(|help| help.contains("quotes around a formula")));
    }

    #[test]
    fn an_empty_table_and_missing_columns_are_faults() {
        assert_eq!(shown("").1, ["mapping.csv: the mapping table is empty"]);
        assert_eq!(
            shown("pdesp,mdesp\na,b\n").1,
            ["mapping.csv:1: column \"point\" is missing", "mapping.csv:1: column \"mapping\" is missing"]
        );
    }
}
