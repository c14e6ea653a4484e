//! Secrets stay where they are: a gateway with planted ones is activated, refused and asked, and nothing that it
//! writes, prints or shows holds them.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PRODUCT: &str = "planted-PRODUCT-4711";
const DEVICE: &str = "planted-DEVICE-0815";
const SUB: &str = "planted-SUB-1234";

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_enos-edge"))
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A cloud that activates the first connection and refuses the second one.
fn cloud(listener: TcpListener) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let first = converse(stream, true);
        let (stream, _) = listener.accept().unwrap();
        vec![first, converse(stream, false)]
    })
}

/// Returns the client id.
fn converse(mut stream: TcpStream, activate: bool) -> String {
    let (mut buffer, mut client) = (BytesMut::new(), String::new());
    loop {
        let mut out = BytesMut::new();
        while let Ok(packet) = Packet::read(&mut buffer, 1 << 20) {
            match packet {
                Packet::Connect(connect) => {
                    client = connect.client_id;
                    let code = if activate { ConnectReturnCode::Success } else { ConnectReturnCode::NotAuthorized };
                    Packet::ConnAck(ConnAck { session_present: false, code }).write(&mut out, 1 << 20).unwrap();
                }
                Packet::Subscribe(subscribe) => {
                    let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
                    let ack = SubAck { pkid: subscribe.pkid, return_codes: codes };
                    Packet::SubAck(ack).write(&mut out, 1 << 20).unwrap();
                    let info = json!({ "id": "1", "params": {
                        "productKey": "pk", "deviceKey": "serial-7", "deviceSecret": DEVICE } });
                    let topic = "/ext/session/pk/serial-7/thing/activate/info";
                    let publish = Publish::new(topic, QoS::AtMostOnce, info.to_string());
                    Packet::Publish(publish).write(&mut out, 1 << 20).unwrap();
                }
                Packet::Publish(publish) => {
                    Packet::PubAck(PubAck { pkid: publish.pkid }).write(&mut out, 1 << 20).unwrap();
                }
                _ => {}
            }
        }
        stream.write_all(&out).unwrap();
        if !activate && !client.is_empty() {
            return client;
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(n) if n > 0 => buffer.extend_from_slice(&bytes[..n]),
            _ => return client,
        }
    }
}

struct Gateway {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Gateway {
    fn start(config: &Path) -> Gateway {
        let mut child = program()
            .args(["run", "--log-format", "json", "--log-level", "trace", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Gateway { child, log }
    }

    fn until_logged(&self, words: &str) {
        let began = Instant::now();
        while !self.log.lock().unwrap().contains(words) {
            assert!(began.elapsed() < Duration::from_secs(20), "{words} is not logged:\n{}", self.log.lock().unwrap());
            std::thread::yield_now();
        }
    }
}

fn clean(what: &str, text: &str) {
    assert!(!text.is_empty(), "{what} is empty");
    assert!(!text.contains("planted"), "{what} holds a secret:\n{text}");
}

#[test]
fn no_log_no_status_no_error_and_no_command_line_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    write(folder.path(), "product", &format!("{PRODUCT}\n"), 0o644);
    write(folder.path(), "serial", "serial-7\0", 0o444);
    for device in ["meter-1", "machine-1"] {
        write(folder.path(), &format!("state/secrets/{device}"), SUB, 0o600);
    }
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/site");
    let cloud_text = format!(
        "state_dir: state\npackage: {}\ncloud:\n  url: tcp://127.0.0.1:{port}\n  product_key: pk\n  \
         device_key_file: serial\n  product_secret_file: product\n",
        site.display()
    );
    write(folder.path(), "edge.yaml", &cloud_text, 0o600);
    let config = folder.path().join("edge.yaml");
    let cloud = cloud(listener);
    let gateway = Gateway::start(&config);
    gateway.until_logged("activated");
    gateway.until_logged("not authorized");
    let clients = cloud.join().unwrap();
    assert!(clients[0].starts_with("serial-7|securemode=3,") && clients[1].starts_with("serial-7|securemode=2,"));

    for words in [&["status"][..], &["status", "--json"], &["identity", "show"], &["identity", "show", "--json"]] {
        let output = program().args(words).arg("--config").arg(&config).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}");
        assert!(text.contains("activated"), "{words:?}: {text}");
        clean(&words.join(" "), &text);
    }
    let process = |name: &str| {
        let bytes = std::fs::read(format!("/proc/{}/{name}", gateway.child.id())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    clean("command line", &process("cmdline"));
    clean("environment", &process("environ"));
    let limits = process("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    let log = gateway.log.lock().unwrap().clone();
    clean("log", &log);
    assert!(log.contains("read by everybody") && log.contains("chmod o= "), "the open file is told:\n{log}");
    drop(gateway);

    // It lies in one folder only, for the owner alone.
    let mut holders = Vec::new();
    search(&folder.path().join("state"), &mut holders);
    assert!(!holders.is_empty());
    for (path, mode) in holders {
        assert!(path.contains("state/identity/") || path.contains("state/secrets/"), "{path}");
        assert_eq!(mode & 0o077, 0, "{path}");
    }
    let forgotten = program().args(["identity", "forget", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&forgotten.stdout).into_owned();
    assert!(said.contains("laid aside"), "{said}");
    clean("forget", &said);
    let shown = program().args(["identity", "show", "--config"]).arg(&config).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("waits for the cloud to activate it"));
}

/// Files that hold a planted secret.
fn search(folder: &Path, holders: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path(), holders);
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            if bytes.windows(8).any(|window| window == b"planted-") {
                holders.push((entry.path().display().to_string(), entry.metadata().unwrap().permissions().mode()));
            }
        }
    }
}
