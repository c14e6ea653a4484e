//! enos-edge(1): every command with its arguments and options, as the command line itself explains them.

use clap::{Arg, Command};
use std::fmt::Write;

/// The page.
pub(crate) fn page(mut program: Command, date: &str) -> String {
    program.build();
    let version = program.get_version().unwrap_or_default().to_owned();
    let mut page = format!(
        ".TH ENOS\\-EDGE 1 \"{date}\" \"enos-edge {version}\" \"User Commands\"\n.nh\n.SH NAME\nenos\\-edge \\- run and ask an industrial gateway\n\
         .SH SYNOPSIS\n.B enos\\-edge\n.I COMMAND\n.RI [ OPTION ...]\n.SH DESCRIPTION\n"
    );
    paragraphs(&mut page, &said(&program));
    page.push_str(
        ".PP\nThe service runs\n.B enos\\-edge\nin the background; the other commands ask it over its control socket, or work on files.\n\
         Every command and its options:\n.SH COMMANDS\n",
    );
    commands(&mut page, &program, "enos-edge");
    page.push_str(
        ".SH EXIT STATUS\n.TP\n.B 0\nDone.\n.TP\n.B 1\nDone, and something is wrong.\n.TP\n.B 2\nCould not be done.\n",
    );
    page.push_str(
        ".SH FILES\n.TP\n.I /etc/enos\\-edge/edge.yaml\nSettings.\n.TP\n.I /var/lib/enos\\-edge\nState: readings that wait, packages, certificates.\n\
         .TP\n.I /usr/share/doc/enos\\-edge\nLicences and the list of everything that is built in.\n",
    );
    page.push_str(".SH SEE ALSO\n.BR edge.yaml (5),\n.BR systemctl (1),\n.BR journalctl (1)\n");
    page
}

/// All commands below this one, depth first; those that only hold others are not shown themselves.
fn commands(page: &mut String, above: &Command, path: &str) {
    for command in above.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            commands(page, command, &path);
        }
        if !command.is_subcommand_required_set() {
            one(page, command, &path);
        }
    }
}

fn one(page: &mut String, command: &Command, path: &str) {
    let _ = writeln!(page, ".SS {}", escaped(path));
    let (places, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(shown).partition(|a| a.is_positional());
    let _ = writeln!(page, ".B {}", escaped(path));
    for place in &places {
        let _ = writeln!(page, ".I {}", escaped(&place_name(place)));
    }
    if !options.is_empty() {
        page.push_str(".RI [ OPTION ...]\n");
    }
    page.push_str(".PP\n");
    paragraphs(page, &said(command));
    for place in places {
        let _ = writeln!(page, ".TP\n.I {}", escaped(&place_name(place)));
        explained(page, place);
    }
    for option in options {
        let _ = writeln!(page, ".TP\n{}", option_name(option));
        explained(page, option);
    }
}

/// `--help` and `--version` are the same everywhere.
fn shown(argument: &&Arg) -> bool {
    !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
}

fn place_name(place: &Arg) -> String {
    let name = value_name(place);
    if place.is_required_set() { name } else { format!("[{name}]") }
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

fn option_name(option: &Arg) -> String {
    let short = option.get_short().map(|c| format!("\\-{c}"));
    let long = option.get_long().map(|name| format!("\\-\\-{}", escaped(name)));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let value = option.get_action().takes_values().then(|| format!(" \\fI{}\\fR", escaped(&value_name(option))));
    format!("\\fB{}\\fR{}", names.join("\\fR, \\fB"), value.unwrap_or_default())
}

fn explained(page: &mut String, argument: &Arg) {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    paragraphs(page, &help);
    let values = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let names: Vec<&str> =
            values.iter().filter(|v| !v.is_hide_set()).map(clap::builder::PossibleValue::get_name).collect();
        let _ = writeln!(page, "One of: {}.", escaped(&names.join(", ")));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let _ = writeln!(page, "Default: {}.", escaped(&defaults.join(" ")));
    }
}

fn said(command: &Command) -> String {
    command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
}

/// Text as it is, a sentence a line; empty lines part paragraphs.
fn paragraphs(page: &mut String, text: &str) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    let end = if text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    for (n, paragraph) in format!("{text}{end}").split("\n\n").enumerate() {
        if n > 0 {
            page.push_str(".IP\n");
        }
        for line in paragraph.lines() {
            page.push_str(&escaped(line.trim()));
            page.push('\n');
        }
    }
}

/// What roff takes for itself; a hyphen of an option has to be copied as one.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_option_of_the_program_is_on_the_page() {
        let mut program = enos_edge::cli::command();
        let page = page(program.clone(), "2026-11-22");
        program.build();
        let (mut commands, mut options) = (0, 0);
        let mut left = vec![(program, "enos-edge".to_owned())];
        while let Some((command, path)) = left.pop() {
            for below in command.get_subcommands().filter(|c| c.get_name() != "help" && !c.is_hide_set()) {
                left.push((below.clone(), format!("{path} {}", below.get_name())));
            }
            if command.has_subcommands() {
                continue;
            }
            commands += 1;
            let section = page.split(&format!(".SS {}\n", escaped(&path))).nth(1).unwrap_or_else(|| panic!("{path}"));
            let section = section.split(".SS ").next().unwrap_or_default();
            for option in command.get_arguments().filter(shown).filter_map(Arg::get_long) {
                options += 1;
                assert!(section.contains(&format!("\\-\\-{}\\fR", escaped(option))), "{path} --{option}");
            }
        }
        assert!(commands > 20 && options > 60, "{commands} commands, {options} options");
    }

    #[test]
    fn what_roff_takes_for_itself_is_written_as_text() {
        assert_eq!(escaped(".a\\b-c"), "\\&.a\\eb\\-c");
    }
}
