//! One fault in a file, where the engineer's finger can land.

use std::fmt;
use std::sync::Arc;

/// Where in a file: line and column count from 1; 0 means "the whole file" or "the whole line".
///
/// In YAML the column counts characters; in a CSV table it is the number of the cell in its row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl Place {
    #[must_use]
    pub fn new(file: &Arc<str>, line: u32, column: u32) -> Place {
        Place { file: Arc::clone(file), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// An error keeps a package from being used; a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

/// One fault: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    pub place: Place,
    pub severity: Severity,
    pub problem: String,
    pub help: Option<String>,
    /// Not what was read is at fault but the machine that reads it, its disk mostly: the same may pass later.
    pub machine: bool,
}

impl Diagnostic {
    #[must_use]
    pub fn error(place: Place, problem: impl Into<String>) -> Diagnostic {
        Diagnostic {
            place,
            severity: Severity::Error,
            problem: presentable(problem.into()),
            help: None,
            machine: false,
        }
    }

    #[must_use]
    pub fn warning(place: Place, problem: impl Into<String>) -> Diagnostic {
        Diagnostic {
            place,
            severity: Severity::Warning,
            problem: presentable(problem.into()),
            help: None,
            machine: false,
        }
    }

    /// The machine is at fault, and not what was read.
    #[must_use]
    pub fn of_machine(mut self) -> Diagnostic {
        self.machine = true;
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(presentable(help.into()));
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{}: {kind}{}", self.place, self.problem)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// Longest problem or help. What a file quotes into it may have megabytes.
const TEXT_MAX: usize = 1024;

/// Text of a file ends up on terminals and in logs: what would steer them is shown as an escape, and the middle of very long ones is cut out.
fn presentable(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        // What is wrong with a long word often stands behind it.
        let end = text.split_off(text.ceil_char_boundary(text.len() - TEXT_MAX / 4));
        text.truncate(text.floor_char_boundary(TEXT_MAX / 2));
        text.push('…');
        text.push_str(&end);
    }
    let steers = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(steers) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// No known word is longer; comparing takes the product of both lengths.
const WORD_MAX: usize = 128;

/// "did you mean float? known: byte short …", or only the known words when none is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let word = if word.len() > WORD_MAX { word.to_owned() } else { word.to_lowercase() };
    let comparable = word.len() <= WORD_MAX;
    let nearest = known
        .iter()
        .filter(|k| comparable && k.len() <= WORD_MAX)
        .map(|k| (strsim::damerau_levenshtein(&word, &k.to_lowercase()), *k))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, k)| *distance <= 1 + k.chars().count() / 4);
    let mut shown = known.iter().take(24).copied().collect::<Vec<_>>().join(" ");
    if known.len() > 24 {
        shown.push_str(" …");
    }
    match nearest {
        Some((_, k)) => format!("did you mean {k}? known: {shown}"),
        None if known.is_empty() => "none is defined".to_owned(),
        None => format!("known: {shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_file_line_column_problem_and_help() {
        let file: Arc<str> = "point.csv".into();
        let fault = Diagnostic::error(Place::new(&file, 14, 3), "value type \"flaot\" is not known")
            .help(did_you_mean("flaot", ["byte", "float", "double"]));
        assert_eq!(
            fault.to_string(),
            "point.csv:14:3: value type \"flaot\" is not known\n  help: did you mean float? known: byte float double"
        );
    }

    #[test]
    fn texts_of_a_file_do_not_steer_the_terminal_and_have_an_end() {
        let file: Arc<str> = "a.yaml".into();
        let fault =
            Diagnostic::error(Place::new(&file, 1, 1), "name \"\u{1b}[2J\u{7}\u{202e}x\" is not known").help("a\tb");
        assert_eq!(fault.problem, "name \"\\u{1b}[2J\\u{7}\\u{202e}x\" is not known");
        assert_eq!(fault.help.as_deref(), Some("a\\tb"));
        let long = Diagnostic::error(Place::new(&file, 1, 1), "电".repeat(1_000_000)).problem;
        assert!(long.len() <= TEXT_MAX && long.contains("电…电"), "{}", long.len());
    }

    #[test]
    fn a_word_of_megabytes_is_compared_with_nothing() {
        // The comparison keeps a table of both lengths: this would take 16 GB.
        let word = "x".repeat(50 << 20);
        assert_eq!(did_you_mean(&word, ["float", &"y".repeat(40)]), format!("known: float {}", "y".repeat(40)));
    }
}
