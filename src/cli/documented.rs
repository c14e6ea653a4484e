//! Holds docs/reference/commands.md to the program: every command has its row, every option a place, and every operation of the
//! local door is listed.

use std::path::{Path, PathBuf};

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(reference().join(name)).unwrap()
}

/// Commands that do something, with the words that lead to them.
fn leaves(command: &clap::Command, path: &[String], found: &mut Vec<(Vec<String>, clap::Command)>) {
    let below: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").collect();
    if below.is_empty() {
        found.push((path.to_vec(), command.clone()));
    }
    for one in below {
        leaves(one, &[path, &[one.get_name().to_owned()]].concat(), found);
    }
}

/// The rows that tell of a command: they begin with its first word and name the last one.
fn rows<'p>(page: &'p str, path: &[String]) -> Vec<&'p str> {
    let begins = format!("| `enos-edge {}", path[0]);
    let fits = |line: &&str| {
        let first = line.replace("\\|", " ");
        let told = first.trim_start_matches('|').split('|').next().unwrap_or_default().to_owned();
        let mut words = told.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        line.starts_with(&begins) && words.any(|word| Some(word) == path.last().map(String::as_str))
    };
    page.lines().filter(fits).collect()
}

/// Pages that a row leads to.
fn linked(row: &str) -> String {
    let targets = row.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter_map(|target| target.split('#').next()).filter(|target| target.ends_with(".md")).map(page).collect()
}

#[test]
fn every_command_and_option_is_in_the_reference() {
    let commands = page("commands.md");
    let mut found = Vec::new();
    leaves(&super::command(), &[], &mut found);
    assert!(found.len() > 30, "{} commands", found.len());
    let mut missing = Vec::new();
    for (path, command) in found {
        let rows = rows(&commands, &path);
        if rows.is_empty() {
            missing.push(format!("`{}` has no row", path.join(" ")));
        }
        let told: String = rows.iter().map(|row| format!("{row}\n{}", linked(row))).collect();
        for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
            let Some(long) = option.get_long() else { continue };
            // Said once for all of them, below the table.
            let of_all = ["help", "version", "config", "socket", "state-dir"].contains(&long);
            let short = option
                .get_short()
                .is_some_and(|short| [" -", "[-", "`-"].iter().any(|at| told.contains(&format!("{at}{short}"))));
            if !of_all && !short && !told.contains(&format!("--{long}")) {
                missing.push(format!("`{}`: --{long}", path.join(" ")));
            }
        }
    }
    assert!(missing.is_empty(), "docs/reference/commands.md lacks\n{}", missing.join("\n"));
}

#[test]
fn every_operation_of_the_door_is_in_the_reference() {
    let commands = page("commands.md");
    let (_, door) = commands.split_once("## The local door").unwrap();
    let missing: Vec<_> = crate::operate::OPERATIONS
        .iter()
        .map(|operation| operation.name)
        .filter(|name| !door.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/reference/commands.md lacks {missing:?}");
}

/// Every text file that speaks of the program.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            texts(&path, found);
        } else if ["rs", "md", "yaml"].iter().any(|kind| path.extension().is_some_and(|ending| ending == *kind)) {
            found.push(path);
        }
    }
}

/// The words behind each `` `enos-edge `` of a text, as far as they can be names of commands.
fn advised(text: &str) -> Vec<Vec<&str>> {
    let rest = text.split("`enos-edge ").skip(1);
    let words = rest.map(|rest| rest.split(['`', '\n']).next().unwrap_or_default().split(' '));
    let is_name = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    words.map(|words| words.take_while(is_name).take_while(|word| !word.starts_with('-')).collect()).collect()
}

/// How the text begins that a signature of a package is of.
const NO_COMMAND: [&str; 2] = ["package", "signature"];

#[test]
fn every_command_that_somebody_is_told_to_type_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    ["src", "docs", "packaging"].iter().for_each(|folder| texts(&root.join(folder), &mut files));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for words in advised(&text).into_iter().filter(|words| *words != NO_COMMAND) {
            seen += 1;
            let mut at = super::command();
            for word in &words {
                match at.find_subcommand(word) {
                    Some(below) => at = below.clone(),
                    // Its arguments begin here.
                    None if at.get_subcommands().next().is_none() => break,
                    None => {
                        wrong.push(format!("{}: `enos-edge {}`", file.display(), words.join(" ")));
                        break;
                    }
                }
            }
        }
    }
    assert!(seen > 100, "{seen} commands were found");
    assert!(wrong.is_empty(), "no such command:\n{}", wrong.join("\n"));
}
