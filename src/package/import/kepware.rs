//! PURE. Tags of a Kepware server's Modbus device (its CSV export) as rows of a point table.

mod address;

use crate::package::faults::Faults;
use crate::package::points::rows::Row;
use crate::package::scaffold::csv_cell;
use address::Reference;
use std::collections::HashMap;

/// Columns that are read.
const COLUMNS: [&str; 13] = [
    "tagname",
    "address",
    "datatype",
    "clientaccess",
    "scanrate",
    "scaling",
    "rawlow",
    "rawhigh",
    "scaledlow",
    "scaledhigh",
    "engunits",
    "description",
    "negatevalue",
];
/// Columns that say nothing a point table needs.
const HARMLESS: [&str; 2] = ["respectdatatype", "scaleddatatype"];
/// Limits of values: taken when they are off.
const CLAMPS: [&str; 2] = ["clamplow", "clamphigh"];

pub(super) const HEADER: &str = "name,number,value type,point type,coefficient,base value,alias,area,address,bit,length,byte_order,scan_period_ms,unit,description\n";

/// Rows that one array becomes at most.
const ELEMENTS: u32 = 1000;

fn squeeze(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Where each column stands.
pub(super) struct Header {
    columns: [Option<usize>; COLUMNS.len()],
    clamps: Vec<usize>,
    /// Not known: column, name, and whether it was complained of.
    unknown: Vec<(usize, String, bool)>,
}

/// The header of a tag list; `None` when it is another table.
pub(super) fn header(row: Row<'_>) -> Option<Header> {
    let words: Vec<String> = (0..row.len()).map(|at| squeeze(row.cell(at))).collect();
    let at = |word: &str| words.iter().position(|found| found == word);
    at("tagname").and(at("address")).and(at("datatype"))?;
    if at("pointtype").or(at("测点类型")).or(at("点类型")).is_some() {
        return None;
    }
    let known = |word: &String| {
        COLUMNS.contains(&word.as_str()) || HARMLESS.contains(&word.as_str()) || CLAMPS.contains(&word.as_str())
    };
    let unknown = words.iter().enumerate().filter(|(_, word)| !word.is_empty() && !known(word));
    Some(Header {
        columns: COLUMNS.map(at),
        clamps: CLAMPS.iter().filter_map(|word| at(word)).collect(),
        unknown: unknown.map(|(index, _)| (index, row.cell(index).to_owned(), false)).collect(),
    })
}

/// What was taken.
#[derive(Default)]
pub(super) struct Taken {
    pub csv: String,
    pub rows: usize,
    /// Numbers by kind, to keep them apart.
    numbers: HashMap<String, u32>,
    /// Two registers and more: their order is a setting of the device.
    pub wide: usize,
}

struct Cells<'a> {
    row: Row<'a>,
    header: &'a Header,
}

impl<'a> Cells<'a> {
    fn text(&self, which: usize) -> &'a str {
        self.header.columns[which].map_or("", |at| self.row.cell(at))
    }

    /// Number of the column as people count.
    fn place(&self, which: usize) -> u32 {
        self.header.columns[which].map_or(0, |at| u32::try_from(at + 1).unwrap_or(u32::MAX))
    }
}

/// Takes one row, or says why not.
pub(super) fn take(row: Row<'_>, header: &mut Header, taken: &mut Taken, faults: &mut Faults) {
    complain_of_unknown(row, header, faults);
    let cells = Cells { row, header };
    let mut fault =
        |which: usize, problem: String, help: &str| faults.error(row.line, cells.place(which), problem, help);
    let reference = match address::parse(cells.text(1), cells.text(2)) {
        Ok(reference) => reference,
        Err(refused) => return fault(if refused.of_type { 2 } else { 1 }, refused.problem, refused.help),
    };
    let Some((coefficient, base)) = scaling(&cells, &mut fault) else { return };
    for at in &cells.header.clamps {
        let cell = cells.row.cell(*at).to_lowercase();
        if ["yes", "true", "1"].contains(&cell.as_str()) {
            let help = "set min and max of the measurement point in the model; the point is taken without it";
            faults.warning(row.line, u32::try_from(at + 1).unwrap_or(u32::MAX), "values are not clamped", help);
        }
    }
    let period = period(&cells, faults);
    let kinds = kinds(&cells, &reference, faults);
    let kinds = match kinds {
        Some(kinds) => kinds,
        None => return,
    };
    if reference.count > ELEMENTS {
        let problem = format!("the array has {} elements", reference.count);
        return faults.error(row.line, cells.place(1), problem, "split it; an array becomes 1000 points at most");
    }
    taken.wide += usize::from(reference.value.registers > 1 && reference.length.is_none());
    for element in 0..reference.count {
        let name = if reference.is_array { format!("{}[{element}]", cells.text(0)) } else { cells.text(0).to_owned() };
        for kind in kinds {
            let at = reference.element(element);
            let number = taken.number(kind, &at.number);
            let texts = [
                name.as_str(),
                &number,
                reference.value.word,
                kind,
                &coefficient.to_string(),
                &base.to_string(),
                "",
                reference.area.word,
                &format!("0x{:04X}", at.wire),
                &reference.bit.map(|bit| bit.to_string()).unwrap_or_default(),
                &reference.length.map(|length| length.to_string()).unwrap_or_default(),
                reference.byte_order.unwrap_or_default(),
                &period,
                cells.text(10),
                cells.text(11),
            ]
            .map(csv_cell);
            taken.csv.push_str(&texts.join(","));
            taken.csv.push('\n');
            taken.rows += 1;
        }
    }
}

impl Taken {
    /// Two tags may read one address; a number occurs once for each point type.
    fn number(&mut self, kind: &str, number: &str) -> String {
        let count = self.numbers.entry(format!("{kind}.{number}")).or_insert(0);
        *count += 1;
        if *count == 1 { number.to_owned() } else { format!("{number}#{count}") }
    }
}

fn complain_of_unknown(row: Row<'_>, header: &mut Header, faults: &mut Faults) {
    for (index, name, told) in header.unknown.iter_mut().filter(|(_, _, told)| !told) {
        if !row.cell(*index).is_empty() {
            *told = true;
            let column = u32::try_from(*index + 1).unwrap_or(u32::MAX);
            let help = "nothing in a point table corresponds to it; see whether it matters";
            faults.warning(row.line, column, format!("column \"{name}\" is not taken, here or below"), help);
        }
    }
}

/// a(x + b) of a line through (raw low, scaled low) and (raw high, scaled high).
fn scaling(cells: &Cells<'_>, fault: &mut impl FnMut(usize, String, &str)) -> Option<(f64, f64)> {
    let negate = ["yes", "true", "1"].contains(&cells.text(12).to_lowercase().as_str());
    let sign = if negate { -1.0 } else { 1.0 };
    match cells.text(5).to_lowercase().as_str() {
        "" | "none" => return Some((sign, 0.0)),
        "linear" => {}
        "square root" | "squareroot" => {
            fault(5, "square root is not computed by this engine".to_owned(), "take the raw value with scaling None");
            return None;
        }
        other => {
            fault(5, format!("scaling \"{other}\" is not known"), "write None or Linear");
            return None;
        }
    }
    let mut ends = [0.0; 4];
    for (which, end) in (6..10).zip(&mut ends) {
        match cells.text(which).parse::<f64>() {
            Ok(x) if x.is_finite() => *end = x,
            _ => {
                fault(which, format!("\"{}\" is no number", cells.text(which)), "linear scaling needs all four ends");
                return None;
            }
        }
    }
    let [raw_low, raw_high, low, high] = ends;
    let coefficient = (high - low) / (raw_high - raw_low);
    if !coefficient.is_finite() || coefficient == 0.0 {
        fault(
            6,
            "the line from raw to scaled values is flat or upright".to_owned(),
            "raw low and high, and scaled low and high, must differ",
        );
        return None;
    }
    let tidy = |x: f64| format!("{x:.12e}").parse::<f64>().unwrap_or(x);
    Some((tidy(sign * coefficient), tidy(low / coefficient - raw_low)))
}

fn period(cells: &Cells<'_>, faults: &mut Faults) -> String {
    let text = cells.text(4);
    match text.parse::<u64>() {
        Ok(10..=86_400_000) => text.to_owned(),
        _ if text.is_empty() => String::new(),
        _ => {
            let help = "10 to 86400000 ms; the connection's scan_period_ms holds for this point";
            faults.warning(cells.row.line, cells.place(4), format!("scan rate \"{text}\" is not taken"), help);
            String::new()
        }
    }
}

/// Point types a tag becomes: one to collect, one to write.
fn kinds(cells: &Cells<'_>, reference: &Reference, faults: &mut Faults) -> Option<&'static [&'static str]> {
    let is_bool = reference.value.word == "bool";
    let (reads, writes) = match cells.text(3).to_uppercase().as_str() {
        "" | "RO" | "R" | "READ ONLY" => (true, false),
        "R/W" | "RW" | "READ/WRITE" => (true, true),
        "WO" | "W" | "WRITE ONLY" => (false, true),
        other => {
            let problem = format!("client access \"{other}\" is not known");
            faults.error(cells.row.line, cells.place(3), problem, "write RO, R/W or WO");
            return None;
        }
    };
    let writes = writes && {
        if !reference.area.writable {
            let problem = format!("{} can not be written; the tag is taken for reading", reference.area.shown);
            faults.warning(cells.row.line, cells.place(3), problem, "write RO");
        }
        reference.area.writable
    };
    Some(match (reads, writes, is_bool) {
        (true, true, true) => &["di", "do"],
        (true, true, false) => &["ai", "ao"],
        (false, true, true) => &["do"],
        (false, true, false) => &["ao"],
        (_, false, true) => &["di"],
        (_, false, false) => &["ai"],
    })
}
