//! What `enos-edge status --json` says of a running gateway, and the page that explains it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Keys that only a site in trouble shows.
const IN_TROUBLE: &[&str] = &[
    "file",
    "problem",
    "segments_saved",
    "readings_saved", // quarantine
    "until",
    "reason",
    "code",
    "message", // a cloud that refuses
    "destination",
    "first",
    "last",
    "from",
    "to",
    "readings", // a gap
    "seq",
    "point",
    "time",
    "value",
    "quality",
    "at", // a refused value
];

#[test]
fn the_reference_explains_every_key_of_the_status() {
    let gateway = Gateway::start();
    let output = gateway.ask(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let status: Json = serde_json::from_slice(&output.stdout).unwrap();
    let mut keys: BTreeSet<String> = IN_TROUBLE.iter().map(|key| (*key).to_owned()).collect();
    collect(&status, &mut keys);
    for expected in ["endpoint", "learned", "gaps", "set_aside_rows", "login", "last_scan_ms"] {
        assert!(keys.contains(expected), "{expected} is missing in {status}");
    }
    let page = std::fs::read_to_string(root().join("docs/reference/status.md")).unwrap();
    let unexplained: Vec<_> = keys.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(unexplained.is_empty(), "docs/reference/status.md does not name {unexplained:?}");
}

#[test]
fn a_gateway_without_its_peers_says_so_in_words() {
    let gateway = Gateway::start();
    let page = String::from_utf8(gateway.ask(&["status"]).stdout).unwrap();
    assert!(page.contains("connect") && page.contains("tcp://127.0.0.1:1"), "{page}");
    assert!(page.contains("readings wait"), "{page}");
    let values = gateway.ask(&["monitor", "--once", "--json"]);
    let values: Json = serde_json::from_slice(&values.stdout).unwrap();
    let quality = |value: &Json| value["quality"].as_str().unwrap().to_owned();
    let qualities: Vec<_> = values.as_array().unwrap().iter().map(quality).collect();
    assert!(!qualities.is_empty() && qualities.iter().all(|quality| quality.starts_with("bad: ")), "{values}");
}

/// Names of fields; counters have a page of their own.
fn collect(json: &Json, keys: &mut BTreeSet<String>) {
    match json {
        Json::Object(fields) => {
            for (key, value) in fields {
                keys.insert(key.clone());
                if key != "counters" {
                    collect(value, keys);
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, keys)),
        _ => {}
    }
}

/// The quickstart's site, without anybody at the other ends.
struct Gateway {
    child: Child,
    config: PathBuf,
    _folder: tempfile::TempDir,
}

impl Gateway {
    fn start() -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("edge.yaml");
        let (state, site) = (folder.path().join("state"), root().join("examples/quickstart/site"));
        let text = format!(
            "state_dir: {}\npackage: {}\ncloud:\n  url: tcp://127.0.0.1:1\n  product_key: pk\n  device_key: dk\n  device_secret: s\n",
            state.display(),
            site.display()
        );
        std::fs::write(&config, text).unwrap();
        std::fs::create_dir_all(state.join("secrets")).unwrap();
        for device in ["meter-1", "machine-1"] {
            std::fs::write(state.join("secrets").join(device), "secret").unwrap();
        }
        let mut child = program().arg("run").arg("--config").arg(&config).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("running"));
        assert!(ready, "the gateway did not start");
        // Somebody has to read on, or it would wait for room one day.
        std::thread::spawn(move || lines.for_each(drop));
        Gateway { child, config, _folder: folder }
    }

    fn ask(&self, words: &[&str]) -> Output {
        program().args(words).arg("--config").arg(&self.config).output().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_enos-edge"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
