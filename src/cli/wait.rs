//! `enos-edge package wait`: until a running gateway has applied a package to all its parts, for scripts and local
//! applications.

use super::terminal::say;
use super::{DoorArguments, failed};
use crate::{app, config, diagnostic};
use serde_json::{Value as Json, json};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Only this version counts
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// Wait so many seconds at most; 0 only looks
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u64,
    /// One JSON object for a script
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    door: DoorArguments,
}

/// Between two looks at the flag.
const LOOK: Duration = Duration::from_millis(200);

/// Exit status 0: it runs; 1: not in time; 2: nobody can tell.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let places = places(arguments);
    let (state_dir, socket) = match places {
        Ok(places) => places,
        Err(error) => return failed(&error),
    };
    let begun = Instant::now();
    loop {
        let found = ready(&state_dir, &socket);
        let wanted = |found: &Json| arguments.version.as_ref().is_none_or(|version| found["version"] == **version);
        match found {
            Ok(found) if wanted(&found) => {
                say(&shown(arguments.json, true, &found));
                return ExitCode::SUCCESS;
            }
            Ok(_) | Err(NotReady::Nothing) if begun.elapsed().as_secs() < arguments.timeout => {}
            Ok(found) => return not_in_time(arguments, &found),
            Err(NotReady::Nothing) => return not_in_time(arguments, &Json::Null),
            Err(NotReady::Broken(error)) => return failed(&error),
        }
        std::thread::sleep(LOOK);
    }
}

fn places(arguments: &Arguments) -> anyhow::Result<(PathBuf, PathBuf)> {
    let config = config::state_dir(&arguments.door.config);
    let state_dir = config.map_err(|faults| anyhow::anyhow!(diagnostic::joined(&faults)))?;
    Ok((state_dir, arguments.door.path()?))
}

enum NotReady {
    /// No package, or no gateway.
    Nothing,
    Broken(anyhow::Error),
}

/// What the flag says, as long as somebody stands behind it: a gateway that was killed leaves it.
fn ready(state_dir: &Path, socket: &Path) -> Result<Json, NotReady> {
    let found = app::ready_package(state_dir).map_err(NotReady::Broken)?.ok_or(NotReady::Nothing)?;
    match UnixStream::connect(socket) {
        Ok(_) => Ok(found),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(NotReady::Broken(
            anyhow::Error::new(error).context(format!("open {}; is this the user of the gateway?", socket.display())),
        )),
        Err(_) => Err(NotReady::Nothing),
    }
}

fn not_in_time(arguments: &Arguments, found: &Json) -> ExitCode {
    if arguments.json {
        say(&shown(true, false, found));
    } else {
        let what = arguments.version.as_ref().map_or(String::new(), |version| format!(" of version {version}"));
        let now = match found["version"].as_str() {
            Some(version) => format!("; {} {version} runs", found["name"].as_str().unwrap_or_default()),
            None => "; no gateway runs one".to_owned(),
        };
        eprintln!("no package{what} was ready within {} s{now}", arguments.timeout);
    }
    ExitCode::FAILURE
}

fn shown(as_json: bool, ready: bool, found: &Json) -> String {
    if as_json {
        return format!(
            "{}\n",
            json!({ "ready": ready, "generation": found["generation"], "name": found["name"], "version": found["version"] })
        );
    }
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    format!("{} {} runs as generation {}\n", text("name"), text("version"), found["generation"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_flag_that_a_killed_gateway_left_is_no_package() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let is_ready = || ready(folder.path(), &socket).is_ok_and(|found| found["version"] == "1.2.0");
        assert!(!is_ready(), "neither flag nor gateway");
        std::fs::create_dir(folder.path().join("packages")).unwrap();
        let flag = json!({ "generation": 3, "name": "site", "version": "1.2.0" });
        std::fs::write(folder.path().join("packages/ready"), format!("{flag}\n")).unwrap();
        assert!(!is_ready(), "nobody behind it");
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(is_ready());
        drop(listener);
        assert!(!is_ready(), "the socket is there still");
    }
}
