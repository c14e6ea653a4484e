//! PURE. Which column of a point table is which, in Chinese or English, in any order.

use super::rows::Row;
use crate::package::faults::Faults;
use driver::did_you_mean;

/// The seven columns, in the order of [`driver::PointTableBuilder`].
pub const SEVEN: [&str; 7] = ["name", "number", "value type", "point type", "coefficient", "base value", "alias"];
/// The first four must be there; an absent one of the others means 1, 0 and the number.
const NEEDED: usize = 4;

/// Squeezed header texts of the seven columns.
const NAMES: [&[&str]; 7] = [
    &["测点名", "测点名称", "点名", "点名称", "名称", "name", "pointname", "point", "tag", "tagname"],
    &["点号", "测点号", "点编号", "number", "pointnumber", "pointno", "no"],
    &["值类型", "数据类型", "valuetype", "datatype"],
    &["点类型", "测点类型", "pointtype", "pointkind", "kind"],
    &["系数", "coefficient", "coef", "factor"],
    &["基值", "基准值", "basevalue", "base"],
    &["别名", "alias"],
];

/// Squeezed header texts of extra columns, and their canonical names.
const EXTRA: &[(&str, &str)] = &[
    ("区域", "area"),
    ("寄存器类型", "area"),
    ("寄存器区", "area"),
    ("存储区", "area"),
    ("registertype", "area"),
    ("registerarea", "area"),
    ("功能码", "function"),
    ("functioncode", "function"),
    ("fc", "function"),
    ("字节序", "byte_order"),
    ("字节顺序", "byte_order"),
    ("byteorder", "byte_order"),
    ("endianness", "byte_order"),
    ("字序", "word_order"),
    ("wordorder", "word_order"),
    ("位", "bit"),
    ("位号", "bit"),
    ("位偏移", "bit"),
    ("bitoffset", "bit"),
    ("长度", "length"),
    ("字节长度", "length"),
    ("len", "length"),
    ("采集周期", "scan_period_ms"),
    ("采集周期ms", "scan_period_ms"),
    ("采集周期毫秒", "scan_period_ms"),
    ("采样周期", "scan_period_ms"),
    ("scanperiod", "scan_period_ms"),
    ("scanperiodms", "scan_period_ms"),
    ("地址", "address"),
    ("寄存器地址", "address"),
    ("registeraddress", "address"),
    ("节点", "node_id"),
    ("节点id", "node_id"),
    ("节点标识", "node_id"),
    ("nodeid", "node_id"),
    ("单位", "unit"),
    ("描述", "description"),
    ("说明", "description"),
    ("备注", "description"),
    ("remark", "description"),
    ("comment", "description"),
];

const FORMAT: &str = "the header is 测点名,点号,值类型,点类型,系数,基值,别名 \
     or name,number,value type,point type,coefficient,base value,alias";

/// What a header says.
pub struct Header {
    /// Index of each of the seven columns, from 0.
    seven: [Option<usize>; 7],
    /// Index and canonical name of each extra column.
    extra: Vec<(usize, String)>,
    /// Columns that are there twice.
    surplus: Vec<usize>,
    /// Cells of the header, without empty ones at its end.
    pub len: usize,
}

impl Header {
    /// Reads the first row. Faults: a needed column is missing, a column is there twice.
    pub fn read(row: Row<'_>, faults: &mut Faults) -> Header {
        let mut header = Header { seven: [None; 7], extra: Vec::new(), surplus: Vec::new(), len: 0 };
        for index in 0..row.len() {
            let text = row.cell(index);
            if text.is_empty() {
                continue;
            }
            header.len = index + 1;
            header.column(index, text, row.line, faults);
        }
        header.refuse_missing(row, faults);
        header
    }

    fn column(&mut self, index: usize, text: &str, line: u32, faults: &mut Faults) {
        let squeezed = squeeze(text);
        let first = match NAMES.iter().position(|words| words.contains(&squeezed.as_str())) {
            Some(which) => {
                let first = self.seven[which];
                self.seven[which] = first.or(Some(index));
                first
            }
            None => self.extra_column(index, canonical(text, &squeezed)),
        };
        if let Some(first) = first {
            self.surplus.push(index);
            let problem = format!("column \"{text}\" is there twice; the first is column {}", first + 1);
            faults.error(line, number(index), problem, "remove one of them");
        }
    }

    /// Takes an extra column; answers the index of an earlier one with the same name.
    fn extra_column(&mut self, index: usize, name: String) -> Option<usize> {
        let first = self.extra.iter().find(|(_, other)| *other == name).map(|(at, _)| *at);
        if first.is_none() {
            self.extra.push((index, name));
        }
        first
    }

    fn refuse_missing(&self, row: Row<'_>, faults: &mut Faults) {
        if self.seven[..NEEDED].iter().all(Option::is_none) {
            let help = if row.len() == 1 && row.cell(0).contains(['，', '；', '、']) {
                "the columns are parted by a full-width sign: write , or ; with the input method set to half-width"
            } else {
                FORMAT
            };
            return faults.error(
                row.line,
                0,
                "the first line is no header of a point table",
                format!("{help}; delete what stands above it"),
            );
        }
        for which in (0..NEEDED).filter(|which| self.seven[*which].is_none()) {
            let wanted = SEVEN[which];
            let (column, help) = match self.similar(wanted, row) {
                Some(index) => (number(index), format!("rename column \"{}\" to \"{wanted}\"", row.cell(index))),
                None => (0, FORMAT.to_owned()),
            };
            faults.error(row.line, column, format!("column \"{wanted}\" ({}) is missing", NAMES[which][0]), help);
        }
    }

    /// An extra column that was probably meant.
    fn similar(&self, wanted: &str, row: Row<'_>) -> Option<usize> {
        self.extra
            .iter()
            .map(|(index, _)| *index)
            .find(|index| did_you_mean(row.cell(*index), [wanted]).starts_with("did you mean"))
    }

    /// Index of one of the seven columns.
    pub fn index(&self, which: usize) -> Option<usize> {
        self.seven[which]
    }

    /// Cell numbers, from 1, of the seven columns; 0 for an absent one.
    pub fn cells(&self) -> [u32; 7] {
        self.seven.map(|index| index.map_or(0, number))
    }

    pub fn extra(&self) -> &[(usize, String)] {
        &self.extra
    }

    /// Canonical names of the extra columns with their cell numbers.
    pub fn extra_cells(&self) -> Vec<(String, u32)> {
        self.extra.iter().map(|(index, name)| (name.clone(), number(*index))).collect()
    }

    /// The first cell with text that stands under no column.
    pub fn stray(&self, row: Row<'_>) -> Option<usize> {
        (0..row.len()).find(|index| !self.has(*index) && !row.cell(*index).is_empty())
    }

    /// True when every cell of the header is a column.
    pub fn is_full(&self) -> bool {
        (0..self.len).all(|index| self.has(index))
    }

    fn has(&self, index: usize) -> bool {
        self.seven.contains(&Some(index))
            || self.surplus.contains(&index)
            || self.extra.iter().any(|(at, _)| *at == index)
    }
}

fn canonical(text: &str, squeezed: &str) -> String {
    EXTRA.iter().find(|(word, _)| *word == squeezed).map_or_else(|| snake(text), |(_, name)| (*name).to_owned())
}

/// A cell number, from 1.
pub fn number(index: usize) -> u32 {
    u32::try_from(index + 1).expect("rows are narrow")
}

/// A header text without case, blanks, dashes and brackets.
fn squeeze(text: &str) -> String {
    let keep = |c: &char| !c.is_whitespace() && !"_-()（）[]【】.:：\u{200b}\u{feff}*".contains(*c);
    text.chars().filter(keep).flat_map(char::to_lowercase).collect()
}

/// A column's canonical name: lower case, words joined by `_`.
fn snake(text: &str) -> String {
    let mut name = String::new();
    let mut after_lower = false;
    for c in text.chars() {
        let word_ends = !c.is_alphanumeric() || (c.is_uppercase() && after_lower);
        if word_ends && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if c.is_alphanumeric() {
            name.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    name.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_texts_are_compared_without_case_blanks_and_brackets() {
        assert_eq!(squeeze(" Value_Type "), "valuetype");
        assert_eq!(squeeze("采集周期（ms）"), "采集周期ms");
    }

    #[test]
    fn unknown_columns_get_a_name_in_snake_case() {
        for (text, name) in [
            ("Sampling Interval", "sampling_interval"),
            ("NodeId", "node_id"),
            ("queue-size", "queue_size"),
            ("IOA", "ioa"),
            ("x (y)", "x_y"),
        ] {
            assert_eq!(snake(text), name);
        }
    }
}
