//! The gateway as its .deb leaves it: everything in edge.yaml is commented, no package has come yet.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value as Json;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

#[test]
fn a_gateway_without_package_says_so_listens_to_nobody_and_takes_the_first_one() {
    let mut gateway = Gateway::start();
    let told = "no package yet";
    assert!(gateway.said.iter().any(|line| line.contains(told)), "{:?}", gateway.said);
    let page = String::from_utf8(gateway.ask(&["status"]).stdout).unwrap();
    assert!(page.contains("no package yet"), "{page}");
    assert_eq!(listeners(gateway.child.id()), 0, "something listens");

    let installed = gateway.ask(&["package", "install", root().join("examples/quickstart/site").to_str().unwrap()]);
    assert!(installed.status.success(), "{installed:?}");
    let status: Json = serde_json::from_slice(&gateway.ask(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["package"]["generation"], 1, "{status}");
    assert!(status["south"]["connections"].as_array().is_some_and(|lines| !lines.is_empty()), "{status}");

    gateway.stop_kindly();
    // What was installed is what the next start runs, with the same empty configuration.
    let again = Gateway::start_in(gateway.folder.take().unwrap());
    assert!(again.said.iter().any(|line| line.contains("running")), "{:?}", again.said);
}

struct Gateway {
    child: Child,
    said: Vec<String>,
    socket: PathBuf,
    folder: Option<tempfile::TempDir>,
}

impl Gateway {
    fn start() -> Gateway {
        Gateway::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(folder: tempfile::TempDir) -> Gateway {
        let state = folder.path().join("state");
        std::fs::create_dir_all(state.join("secrets")).unwrap();
        for device in ["meter-1", "machine-1"] {
            std::fs::write(state.join("secrets").join(device), "secret").unwrap();
        }
        let config = root().join("packaging/deb/edge.yaml");
        let mut run = program();
        run.args(["run", "--log-format", "text", "--config"]).arg(config).arg("--state-dir").arg(&state);
        let mut child = run.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let is_up = |line: String| ["running", "no package yet"].iter().any(|words| line.contains(words));
        let ready = lines.by_ref().inspect(|line| said.push(line.clone())).any(is_up);
        assert!(ready, "the gateway did not start: {said:?}");
        // Somebody has to read on, or it would wait for room one day.
        std::thread::spawn(move || lines.for_each(drop));
        Gateway { child, said, socket: state.join("control.sock"), folder: Some(folder) }
    }

    fn ask(&self, words: &[&str]) -> Output {
        program().args(words).arg("--socket").arg(&self.socket).output().unwrap()
    }

    fn stop_kindly(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sockets of the process that take connections over TCP, from its open files and the kernel's table.
fn listeners(pid: u32) -> usize {
    let open: HashSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    assert!(!open.is_empty(), "the control socket is not among the open files");
    let listens = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(3) == Some(&"0A") && columns.get(9).is_some_and(|inode| open.contains(*inode))
    };
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    ["tcp", "tcp6"].iter().map(|name| table(name).lines().filter(listens).count()).sum()
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_enos-edge"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
