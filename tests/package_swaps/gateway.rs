//! The gateway's own binary, with its door.

use enos_edge::doors::local::Visitor;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_enos-edge");
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Running {
    child: Child,
    config: PathBuf,
    socket: PathBuf,
}

impl Running {
    pub fn start(home: &Path, seed: &Path) -> Running {
        Running::start_with(home, &format!("package: {}\n", seed.display()))
    }

    fn start_with(home: &Path, more: &str) -> Running {
        let config = home.join("edge.yaml");
        let text = format!("state_dir: {}\npackage_watch: {{ window_s: 5 }}\n{more}", home.join("state").display());
        std::fs::write(&config, text).unwrap();
        let child = Command::new(BINARY)
            .args(["run", "--log-level", "error", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let running = Running { child, config, socket: home.join("state/control.sock") };
        running.until("it runs", |_| true);
        running
    }

    /// As a power cut of the process; the same configuration again.
    pub fn killed_and_started(mut self, home: &Path, seed: &Path) -> Running {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Running::start(home, seed)
    }

    /// As a power cut of the process, and the folder it was seeded from is named no more.
    pub fn killed_and_started_without_seed(mut self, home: &Path) -> Running {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Running::start_with(home, "")
    }

    fn status(&self) -> Option<Json> {
        let mut visitor = Visitor::connect(&self.socket).ok()?;
        visitor.ask("status", &json!({ "listings": false })).ok()
    }

    pub fn package(&self) -> Json {
        self.status().unwrap()["package"].clone()
    }

    pub fn until(&self, what: &str, happened: impl Fn(&Json) -> bool) {
        let began = Instant::now();
        while !self.status().is_some_and(|status| happened(&status["package"])) {
            assert!(
                began.elapsed() < PATIENCE,
                "{what} never happened: {:?}",
                self.status().map(|s| s["package"].clone())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `enos-edge package …`; an error is what it says.
    pub fn package_command(&self, words: &[&str]) -> Result<Json, String> {
        let mut command = Command::new(BINARY);
        command.arg("package").args(words).arg("--json").arg("--config").arg(&self.config);
        let done = command.output().unwrap();
        if done.status.success() {
            return Ok(serde_json::from_slice(&done.stdout).unwrap());
        }
        Err(String::from_utf8(done.stderr).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
