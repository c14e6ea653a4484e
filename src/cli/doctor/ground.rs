//! What every probe stands on: the configuration as far as it can be read, the running gateway's word, and the time.

use super::holders;
use crate::config::{self, Config};
use crate::diagnostic::Diagnostic;
use crate::doors::local::{Refused, Visitor};
use crate::model::Timestamp;
use crate::outbox;
use serde_json::{Value as Json, json};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// A stuck disk holds the configuration back.
const READ_PATIENCE: Duration = Duration::from_secs(4);
/// The local door answers at once, or the gateway hangs.
const DOOR_PATIENCE: Duration = Duration::from_secs(4);

/// What the probes stand on.
pub struct Ground {
    pub config_path: PathBuf,
    /// As far as it can be read: secrets may be missing.
    pub config: Option<Config>,
    pub faults: Vec<Diagnostic>,
    pub gateway: Gateway,
    /// Milliseconds UTC, as this machine's clock says.
    pub now: i64,
    /// Where `/proc`, `/sys`, `/run` and `/dev` are found: `/` but in tests.
    pub root: PathBuf,
    /// The effective user.
    pub user: u32,
}

/// Whether the gateway runs.
#[derive(Clone, Debug)]
pub enum Gateway {
    /// Its status.
    Running(Json),
    /// Nobody holds the door nor the outbox.
    Stopped,
    /// It is there and does not answer.
    Silent(String),
    /// This user can not tell, and why.
    Unknown(String),
}

impl Gateway {
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Gateway::Running(_) => "running",
            Gateway::Stopped => "stopped",
            Gateway::Silent(_) => "silent",
            Gateway::Unknown(_) => "unknown",
        }
    }
}

impl Ground {
    /// Reads the configuration and knocks at the door. Ends within 8 s whatever is dead.
    pub async fn survey(path: &Path) -> Ground {
        let file = path.to_owned();
        let read = tokio::task::spawn_blocking(move || config::look(&file));
        let (config, faults) = match timeout(READ_PATIENCE, read).await {
            Ok(Ok(looked)) => looked,
            _ => (None, vec![whole(path, format!("can not be read within {READ_PATIENCE:?}: the disk may be stuck"))]),
        };
        let gateway = gateway(path, config.as_ref()).await;
        Ground {
            config_path: path.to_owned(),
            config,
            faults,
            gateway,
            now: Timestamp::now().0,
            root: PathBuf::from("/"),
            user: rustix::process::geteuid().as_raw(),
        }
    }

    /// The status of the gateway when it runs.
    #[must_use]
    pub fn status(&self) -> Option<&Json> {
        match &self.gateway {
            Gateway::Running(status) => Some(status),
            _ => None,
        }
    }

    /// Who the daemon is: the user that the package makes, where the state lies where the package has it; elsewhere the
    /// owner of the state folder.
    #[must_use]
    pub fn daemon(&self) -> Option<u32> {
        let packaged = || super::people::user_id(&self.path("etc/passwd"), "enos-edge");
        let folder = self.config.as_ref().map(|config| config.state_dir.as_path());
        let owner = folder.and_then(|folder| std::fs::metadata(folder).ok()).map(|found| found.uid());
        let usual = folder == Some(Path::new(config::STATE_DIR));
        if usual { packaged().or(owner) } else { owner.or_else(packaged) }
    }

    /// A path of the system.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Text of a small file of the system; nothing when there is none.
    #[must_use]
    pub fn text(&self, below: &str) -> Option<String> {
        std::fs::read_to_string(self.path(below)).ok()
    }
}

fn whole(path: &Path, problem: String) -> Diagnostic {
    Diagnostic::error(driver::Place::new(&path.display().to_string().into(), 0, 0), problem)
}

async fn gateway(path: &Path, config: Option<&Config>) -> Gateway {
    let socket = config.map(|config| config.control_socket.clone());
    let Some(socket) = socket.or_else(|| config::control_socket(path).ok()) else {
        return Gateway::Unknown("the configuration does not say where its door is".to_owned());
    };
    let outbox = config.map(|config| config.state_dir.join("outbox"));
    let asked = tokio::task::spawn_blocking(move || knock(&socket, outbox.as_deref()));
    match timeout(DOOR_PATIENCE, asked).await {
        Ok(Ok(Gateway::Stopped)) if is_starting(path) => {
            Gateway::Unknown("the gateway is just starting or stopping".to_owned())
        }
        Ok(Ok(gateway)) => gateway,
        _ => Gateway::Silent(format!("no answer at the local door within {DOOR_PATIENCE:?}")),
    }
}

/// A process that runs, or will run, this very configuration, and has not opened its door yet.
fn is_starting(path: &Path) -> bool {
    let Ok(ours) = std::fs::canonicalize(path) else { return false };
    holders::processes(Path::new("/")).into_iter().filter(|process| *process != std::process::id()).any(|process| {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let Ok(line) = std::fs::read(folder.join("cmdline")) else { return false };
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
        let named = words.iter().position(|word| ["--config", "-c"].contains(&word.as_str()));
        let file = match named {
            Some(at) => words.get(at + 1).cloned(),
            None => words.iter().find_map(|word| word.strip_prefix("--config=")).map(str::to_owned),
        };
        let file = folder.join("cwd").join(file.as_deref().unwrap_or(crate::cli::DEFAULT_CONFIG));
        let is_gateway = words.first().is_some_and(|word| word.contains("enos-edge"))
            && words.iter().any(|word| word == "run" || word == "launch");
        is_gateway && std::fs::canonicalize(file).is_ok_and(|theirs| theirs == ours)
    })
}

fn knock(socket: &Path, outbox: Option<&Path>) -> Gateway {
    let held = outbox.map_or(Ok(true), outbox::in_use);
    // systemd holds the door too, and starts a gateway that was stopped when somebody knocks: look before.
    if matches!(held, Ok(false)) {
        return Gateway::Stopped;
    }
    let asked = Visitor::connect(socket).and_then(|mut visitor| visitor.ask("status", &json!({})));
    let error = match asked {
        Ok(status) => return Gateway::Running(status),
        Err(error) => error,
    };
    if error.is::<Refused>() {
        return Gateway::Silent(format!("{error:#}"));
    }
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match (kind, held) {
        (Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused), Ok(true)) if outbox.is_none() => Gateway::Stopped,
        (Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused), Ok(true)) => {
            Gateway::Silent("a process holds the outbox, and no door is open".to_owned())
        }
        (Some(ErrorKind::PermissionDenied), _) | (_, Err(_)) => {
            Gateway::Unknown("this user may not open the local door; run it as root".to_owned())
        }
        _ => Gateway::Silent(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A folder that was given to root by mistake makes no daemon of root.
    #[test]
    fn the_daemon_is_the_packages_user_where_the_package_has_the_state() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "enos-edge:x:71001:71001::/:/\n").unwrap();
        std::fs::write(root.path().join("edge.yaml"), "").unwrap();
        let (config, _) = config::look(&root.path().join("edge.yaml"));
        assert!(config.is_some(), "an empty file is a configuration");
        let of = |state_dir: &Path| Ground {
            config_path: PathBuf::new(),
            config: config.clone().map(|config| Config { state_dir: state_dir.to_owned(), ..config }),
            faults: Vec::new(),
            gateway: Gateway::Stopped,
            now: 0,
            root: root.path().to_owned(),
            user: 0,
        };
        assert_eq!(of(Path::new(config::STATE_DIR)).daemon(), Some(71001));
        let own = std::fs::metadata(root.path()).unwrap().uid();
        assert_eq!(of(root.path()).daemon(), Some(own), "elsewhere its owner");
        assert_eq!(of(&root.path().join("none")).daemon(), Some(71001));
    }
}
