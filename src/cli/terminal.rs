//! Small things a terminal wants: colour only where a person looks, tables that line up.

use std::io::IsTerminal;

/// True when standard output is a person's screen.
pub(super) fn is_screen() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints an answer. A reader that has gone (`| head`) is nobody's fault, and no panic.
pub(super) fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Lines a table up: every column as wide as its widest cell, two blanks between.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| width(h)).collect();
    for row in rows {
        for (cell, widest) in row.iter().zip(&mut widths) {
            *widest = (*widest).max(width(cell));
        }
    }
    let mut out = String::new();
    let head = header.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', widest - width(cell) + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// As much of a line as fits the columns of a screen.
pub(super) fn cut(line: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = line.char_indices().find(|(_, c)| {
        used += width(c.encode_utf8(&mut [0; 4]));
        used > columns
    });
    end.map_or(line, |(at, _)| &line[..at])
}

/// Columns on screen: Chinese, Japanese and Korean characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if matches!(c as u32, 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60) { 2 } else { 1 }).sum()
}

/// 1234567 -> "1 234 567".
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_keep_the_columns_straight() {
        let shown = table(&["name", "value"], &[vec!["电压".into(), "1".into()], vec!["U".into(), "22".into()]]);
        assert_eq!(shown, "name  value\n电压  1\nU     22\n");
    }

    #[test]
    fn a_line_is_cut_where_the_screen_ends() {
        assert_eq!(["abc", "abcdef", "a电压", "电压表"].map(|line| cut(line, 4)), ["abc", "abcd", "a电", "电压"]);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(["0", "999", "1 000", "1 234 567"].map(String::from), [0, 999, 1000, 1_234_567].map(grouped));
    }
}
