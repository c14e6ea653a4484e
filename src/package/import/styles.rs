//! PURE. Which formats of a workbook show a number as a date or a time. Excel turns `1-2` and `3/4` into one by itself.

use quick_xml::events::BytesStart;
use std::collections::HashSet;

/// Formats every workbook has (ECMA-376 part 1, 18.8.30), those of East Asian languages included.
fn is_built_in(id: u32) -> bool {
    matches!(id, 14..=22 | 27..=36 | 45..=47 | 50..=58)
}

/// Most formats a workbook may have; Excel stops at 65,490.
const FORMATS: usize = 65_536;

#[derive(Default)]
pub(super) struct Styles {
    /// Numbers of formats of the workbook's own that show a date.
    own: HashSet<u32>,
    /// By style of a cell: whether it shows a date.
    cells: Vec<bool>,
    in_cells: bool,
}

impl Styles {
    /// Takes an element of styles.xml.
    pub fn start(&mut self, element: &BytesStart<'_>, empty: bool) -> Result<(), String> {
        let number = |name: &[u8]| -> Result<Option<u32>, String> {
            Ok(super::xlsx::attribute(element, name)?.and_then(|text| text.parse().ok()))
        };
        match element.local_name().as_ref() {
            b"numFmt" => {
                let code = super::xlsx::attribute(element, b"formatCode")?.unwrap_or_default();
                if let Some(id) = number(b"numFmtId")?.filter(|_| shows_a_date(&code) && self.own.len() < FORMATS) {
                    self.own.insert(id);
                }
            }
            b"cellXfs" => self.in_cells = !empty,
            b"xf" if self.in_cells && self.cells.len() < FORMATS => {
                let id = number(b"numFmtId")?.unwrap_or(0);
                self.cells.push(is_built_in(id) || self.own.contains(&id));
            }
            _ => {}
        }
        Ok(())
    }

    pub fn end(&mut self, name: &[u8]) {
        if name == b"cellXfs" {
            self.in_cells = false;
        }
    }

    pub fn is_date(&self, style: usize) -> bool {
        self.cells.get(style).copied().unwrap_or(false)
    }
}

/// Letters of dates and times outside of quotes, escapes and brackets; `[h]` counts hours.
fn shows_a_date(code: &str) -> bool {
    let mut chars = code.chars();
    let mut bracket = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => drop(chars.by_ref().find(|c| *c == '"')),
            '\\' | '_' | '*' => drop(chars.next()),
            '[' => {
                bracket.clear();
                bracket.extend(chars.by_ref().take_while(|c| *c != ']'));
                let letters = bracket.to_ascii_lowercase();
                if !letters.is_empty() && letters.bytes().all(|b| b"hms".contains(&b)) {
                    return true;
                }
            }
            'y' | 'Y' | 'm' | 'M' | 'd' | 'D' | 'h' | 'H' | 's' | 'S' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_dates_are_told_from_those_of_numbers() {
        for code in ["yyyy-mm-dd", "d mmm", "[h]:mm", "[$-409]m/d/yy h:mm AM/PM", "mm:ss.0", "yyyy\"年\"m\"月\""] {
            assert!(shows_a_date(code), "{code}");
        }
        for code in ["General", "0.00", "#,##0", "00000", "0.0\" days\"", "[Red]0", "0\\d", "0%", "_-* #,##0_-", "@"] {
            assert!(!shows_a_date(code), "{code}");
        }
    }
}
