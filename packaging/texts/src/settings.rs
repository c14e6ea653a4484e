//! edge.yaml(5): the explained settings as the package installs them.

use crate::man::escaped;
use std::fmt::Write;

/// The page. Lines of the file with `##` alone are words; the others are shown as they stand.
pub(crate) fn page(file: &str, version: &str, date: &str) -> String {
    let mut page = format!(
        ".TH EDGE.YAML 5 \"{date}\" \"enos-edge {version}\" \"File Formats\"\n.nh\n.SH NAME\nedge.yaml \\- settings of the gateway enos\\-edge\n\
         .SH SYNOPSIS\n.I /etc/enos\\-edge/edge.yaml\n.SH DESCRIPTION\n"
    );
    let (head, sections) = file.split_once("\n\n").unwrap_or((file, ""));
    for line in head.lines() {
        match line.trim_start_matches('#').trim() {
            "" => page.push_str(".PP\n"),
            words => drop(writeln!(page, "{}", escaped(words))),
        }
    }
    page.push_str(".SH SETTINGS\n");
    for section in sections.split("\n\n") {
        let (words, settings): (Vec<&str>, Vec<&str>) = section.lines().partition(|line| line.starts_with("## "));
        // Alternatives are words among settings: they stay where they are.
        let (intro, settings) = match settings.first().and_then(|first| section.find(first)) {
            Some(at) => (section.get(..at).unwrap_or_default(), section.get(at..).unwrap_or_default()),
            None => (section, ""),
        };
        let name =
            settings.lines().next().and_then(|line| line.trim_start_matches("# ").split(':').next()).unwrap_or("");
        let title = if words.is_empty() && name == "state_dir" { "State and package" } else { name };
        let _ = writeln!(page, ".SS {}", escaped(title));
        for line in intro.lines() {
            let _ = writeln!(page, "{}", escaped(line.trim_start_matches('#').trim()));
        }
        page.push_str(if intro.is_empty() { ".nf\n" } else { ".PP\n.nf\n" });
        for line in settings.lines() {
            let _ = writeln!(page, "{}", escaped(line.strip_prefix("# ").unwrap_or(line)));
        }
        page.push_str(".fi\n");
    }
    page.push_str(".SH SEE ALSO\n.BR enos\\-edge (1)\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_every_line_of_the_file() {
        let page = page(crate::SETTINGS, "1", "2026-11-22");
        for line in crate::SETTINGS.lines() {
            let words = escaped(line.strip_prefix("# ").unwrap_or(line.trim_start_matches('#').trim()));
            assert!(line.starts_with("## ") || page.contains(&words), "{line}");
        }
        assert!(page.matches(".SS ").count() >= 12, "{page}");
    }
}
