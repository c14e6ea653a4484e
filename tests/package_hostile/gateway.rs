//! The gateway's own binary, its local door, and its door for pushed packages.

use enos_edge::doors::local::Visitor;
use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const TOKEN: &str = "a-token-of-the-story-0123456789";
/// Debug builds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Running {
    child: Child,
    socket: PathBuf,
    port: u16,
}

impl Running {
    pub fn start(home: &Path, seed: &Path) -> Running {
        let (config, state) = (home.join("edge.yaml"), home.join("state"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "state_dir: {}\npackage: {}\npackage_watch: {{ window_s: 0 }}\npush: {{ listen: \"127.0.0.1:{port}\", token: {TOKEN} }}\n",
            state.display(),
            seed.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_enos-edge"));
        command.args(["run", "--log-level", "error", "--config"]).arg(&config).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let running = Running { child, socket: state.join("control.sock"), port };
        let began = Instant::now();
        while running.values() == 0 || TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "the gateway never ran");
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }

    pub fn status(&self) -> Option<Json> {
        Visitor::connect(&self.socket).ok()?.ask("status", &json!({ "listings": false })).ok()
    }

    /// Values read since the start.
    pub fn values(&self) -> u64 {
        let status = self.status().unwrap_or_default();
        status["counters"]["samples_good"].as_u64().unwrap_or(0)
    }

    pub fn reads_on(&self) -> bool {
        let (before, began) = (self.values(), Instant::now());
        while self.values() <= before {
            if began.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// As `enos-edge package install` asks; an error is what it says.
    pub fn install(&self, path: &Path) -> Result<Json, String> {
        let mut visitor = Visitor::connect(&self.socket).unwrap();
        let mut answer = visitor.ask("package_install", &json!({ "path": path, "force": false }));
        while let Some(job) =
            answer.as_ref().ok().filter(|answer| answer["under_way"] == true).map(|a| a["job"].clone())
        {
            answer = visitor.ask("package_job", &json!({ "job": job }));
        }
        answer.map_err(|error| format!("{error:#}"))
    }

    /// Status and body of a push.
    pub fn put(&self, body: &[u8], token: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "PUT /package HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        // A door that has seen enough closes before all was sent.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    /// Most memory the process ever had, in bytes.
    pub fn peak(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Bytes the process has written so far.
    pub fn written(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        text.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
