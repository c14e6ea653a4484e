//! A support bundle tells what is needed and holds no secret: unique marks are planted wherever the project knows a secret,
//! and every byte of the bundle is searched for each of them, in every form.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Bench {
    folder: tempfile::TempDir,
    /// Place -> what was planted there.
    planted: BTreeMap<&'static str, String>,
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Without letters that only occur in words, and with what is written differently in addresses and in JSON.
fn mark(place: &str) -> String {
    let number: u64 =
        place.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("Zq7{number:x}!x&ö")
}

fn plain(place: &str) -> String {
    mark(place).replace(['!', '&', 'ö'], "")
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = char::from(LETTERS[(word >> (18 - 6 * at) & 63) as usize]);
            text.push(if at <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Shapes in which a secret that this gateway does not know may stand in a log: the place alone tells that it is one.
const FOREIGN: &[&str] = &[
    "GET https://u:{}@h.example/a refused",
    "connect mqtt u:{}@h.example:1883",
    "GET /auth/p/d?token={}&sign={} HTTP/1.1",
    "https://h.example/f.bin?X-Amz-Signature={}",
    "2026-11-22T10:00:00Z gw sent Bearer {} to h",
    "Authorization: Basic {}",
    "passwd={} user=u",
    "x pwd: {}, y",
    "{\"token\":\"{}\",\"n\":1}",
    "{\"api_key\": \"{}\"}",
    "secret_key='{}'",
    "device_secret: {} # old",
    "productSecret=\"{}\"",
    "access-key: {}",
    "run: tool --password {} --user u",
    "run: curl -u u:{} http://h.example",
    "Login { password: Some(\"{}\"), user: \"u\" }",
    "{\"said\":\"{\\\"pwd\\\":\\\"{}\\\"}\"}",
    "tokens: [\"x\", \"{}\"]",
    "密码：{}",
];

fn foreign(number: usize) -> String {
    plain(&format!("foreign {number}"))
}

/// One that it does know, in shapes that no place tells.
fn odd_shapes(secret: &str) -> String {
    let json = serde_json::json!(secret).to_string();
    let mut shapes = vec![
        secret.to_owned(),
        json.clone(),
        serde_json::json!(json).to_string(),
        format!("{secret:?}"),
        percent(secret),
        percent(&percent(secret)),
        percent(&base64(secret.as_bytes())),
        base64(format!("{{\"x\":\"{secret}\"}}").as_bytes()),
        secret.bytes().map(|byte| format!("{byte:02x} ")).collect(),
        secret.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        secret.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
    ];
    // What an address of a browser leaves as it is.
    shapes.push(secret.replace('&', "%26").replace('ö', "%C3%B6"));
    shapes.iter().map(|shape| format!("odd {shape} end\n")).collect()
}

impl Bench {
    fn new() -> Bench {
        let places = [
            "device secret",
            "product secret",
            "rest secret",
            "password in edge.yaml",
            "proxy",
            "bearer token",
            "sub-device secret",
            "activated secret",
            "opc ua password",
            "source password",
            "environment",
            "environment proxy",
        ];
        let mut planted: BTreeMap<&str, String> = places.into_iter().map(|place| (place, mark(place))).collect();
        // In an address, letters that an address can hold.
        for place in ["proxy", "environment proxy", "bearer token"] {
            planted.insert(place, plain(place));
        }
        let mut bench = Bench { folder: tempfile::tempdir().unwrap(), planted };
        bench.plant();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plant(&mut self) {
        let planted = self.planted.clone();
        let at = |place: &str| planted[place].clone();
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["gw".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let pem = key.serialize_pem();
        write(&self.path("client.pem"), &format!("{own}{pem}"), 0o600);
        write(&self.path("client.key"), &pem, 0o600);
        write(&self.path("product"), &at("product secret"), 0o600);
        write(&self.path("state/secrets/meter-1"), &at("sub-device secret"), 0o600);
        write(&self.path("state/secrets/machine-1"), "s", 0o600);
        let record = serde_json::json!({ "format": 1, "device_secret": at("activated secret"), "key": pem });
        write(&self.path("state/identity/p.gw"), &record.to_string(), 0o600);
        let inner = pem.lines().nth(1).unwrap()[..40].to_owned();
        let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/site");
        copy(&site, &self.path("site"));
        let connections = self.path("site/connections/machine-line.yaml");
        let text = std::fs::read_to_string(&connections).unwrap();
        let line = text.lines().find(|line| line.contains("opc.tcp")).unwrap().to_owned();
        let blanks: String = line.chars().take_while(|c| *c == ' ').collect();
        let more = format!("{line}\n{blanks}user: u\n{blanks}password: {}", serde_json::json!(at("opc ua password")));
        std::fs::write(&connections, text.replace(&line, &more)).unwrap();
        let values = serde_json::json!({ "seq": 1, "time": 1, "event": "done", "device": "Meter 1", "message": format!("wrote {}", mark("audit")),
            "what": { "set": { "setpoint": mark("audit") } } });
        write(&self.path("state/audit/1.jsonl"), &format!("{values}\n"), 0o600);
        std::fs::set_permissions(self.path("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let quoted = |place: &str| serde_json::json!(at(place)).to_string();
        let text = format!(
            "# a comment with the old secret {comment}\nstate_dir: state\npackage: site\ncloud:\n  url: ssl://127.0.0.1:1\n  product_key: p\n  \
             device_key: gw\n  device_secret: {device}\n  product_secret_file: product\n  client_cert_file: client.pem\n  \
             client_key_file: client.key\nrest:\n  url: https://127.0.0.1:1\n  access_key: a\n  secret_key: {rest}\n  org_id: o\n  \
             proxy: http://u:{proxy}@127.0.0.1:1\ndestinations:\n  - name: plant\n    url: tcp://127.0.0.1:1\n    user: u\n    \
             password: {password}\n    topic: t\nfetch:\n  - name: office\n    url: http://127.0.0.1:1/p.zip\n    user: u\n    \
             password: {source}\npush:\n  listen: 127.0.0.1:0\n  token: {token}\n",
            comment = mark("comment"),
            device = quoted("device secret"),
            rest = quoted("rest secret"),
            proxy = at("proxy"),
            password = quoted("password in edge.yaml"),
            source = quoted("source password"),
            token = at("bearer token"),
        );
        write(&self.path("edge.yaml"), &text, 0o600);
        self.planted.insert("private key", inner);
        self.planted.insert("audit", mark("audit"));
        self.planted.insert("comment", mark("comment"));
        // As if everything had been logged, in every form; what only a place makes a secret is not known there.
        let known: Vec<&String> = self
            .planted
            .iter()
            .filter(|(place, _)| !["audit", "comment", "private key", "header"].contains(*place))
            .map(|(_, mark)| mark)
            .collect();
        let mut log = String::from("2026 starting\n");
        for mark in known {
            let account = base64(format!("u:{mark}").as_bytes());
            let shifted = base64(format!("us:{mark}").as_bytes());
            for form in [
                mark.clone(),
                base64(mark.as_bytes()),
                account,
                shifted,
                hex(mark.as_bytes()),
                hex(mark.as_bytes()).to_uppercase(),
                percent(mark),
                serde_json::json!(mark).to_string(),
            ] {
                log.push_str(&format!("said {form} and more\n"));
            }
        }
        log.push_str(&odd_shapes(&at("device secret")));
        for (number, shape) in FOREIGN.iter().enumerate() {
            self.planted.insert(shape, foreign(number));
            let line = shape.replace("{}", &foreign(number));
            log.push_str(&format!("{line}\n"));
            write(&self.path(&format!("state/update/note-{}.txt", number % 8)), &format!("{line}\nkept\n"), 0o600);
        }
        log.push_str(&format!("{pem}Authorization: Basic {}\nlast line\n", mark("header")));
        self.planted.insert("header", mark("header"));
        write(&self.path("daemon.log"), &log, 0o600);
        // A system whose programs tell everything too.
        let said = format!("usb 1-1 ttyUSB0 {}\n", at("device secret"));
        write(&self.path("said"), &(said.clone() + &said), 0o600);
        for program in ["journalctl", "systemctl", "dmesg", "ip"] {
            write(
                &self.path(&format!("bin/{program}")),
                &format!("#!/bin/sh\ncat {}\n", self.path("said").display()),
                0o755,
            );
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        Command::new(env!("CARGO_BIN_EXE_enos-edge"))
            .args(["support-bundle", "--config"])
            .arg(self.path("edge.yaml"))
            .args(arguments)
            .env("PATH", path)
            .env("PLANT_TOKEN", &self.planted["environment"])
            .env("HTTPS_PROXY", format!("http://u:{}@127.0.0.1:1", self.planted["environment proxy"]))
            .output()
            .unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            std::fs::copy(entry.path(), to).map(drop).unwrap()
        }
    }
}

fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().display().to_string();
        files.insert(name.strip_prefix("enos-edge-support/").unwrap().to_owned(), bytes);
    }
    files
}

fn holds(bytes: &[u8], form: &str) -> bool {
    bytes.windows(form.len()).any(|window| window == form.as_bytes())
}

/// What of the base64 of something longer is made of this alone.
fn inner_base64(mark: &str, before: usize) -> String {
    let all = base64(&[vec![0; before], mark.as_bytes().to_vec()].concat());
    let from = (before * 8).div_ceil(6);
    all[from..(before + mark.len()) * 8 / 6].to_owned()
}

#[test]
fn no_planted_secret_leaves_the_gateway_in_any_form() {
    let bench = Bench::new();
    let file = bench.path("b.tar.gz");
    let log = bench.path("daemon.log");
    let ran = bench.run(&["-o", file.to_str().unwrap(), "--log", log.to_str().unwrap(), "--json"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&std::fs::read(&file).unwrap());
    for (place, mark) in &bench.planted {
        let mut forms = vec![
            mark.clone(),
            hex(mark.as_bytes()),
            hex(mark.as_bytes()).to_uppercase(),
            percent(mark),
            percent(mark).to_lowercase(),
        ];
        forms.extend((0..3).map(|before| inner_base64(mark, before)));
        forms.extend((0..3).map(|before| inner_base64(mark, before).replace('+', "-").replace('/', "_")));
        for (name, bytes) in &files {
            for form in &forms {
                assert!(!holds(bytes, form), "{name} holds the {place} as {form}");
            }
        }
    }
    // And it tells what is needed.
    let text = |name: &str| {
        String::from_utf8_lossy(files.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", files.keys())))
            .into_owned()
    };
    assert!(text("doctor.txt").contains("FAULT"));
    let log = text("log.txt");
    let odd: Vec<&str> = log.lines().filter(|line| line.starts_with("odd ")).collect();
    assert_eq!(odd.len(), 12);
    for line in odd {
        assert!(line.contains("(removed)") && line.len() < 40, "{line}");
    }
    assert_eq!(log.matches("h.example").count(), 4, "hosts stay");
    assert!((0..8).all(|number| text(&format!("state/update/note-{number}.txt.txt")).ends_with("kept\n")));
    let configuration = text("configuration/edge.yaml");
    assert!(
        configuration.contains("product_key: p") && configuration.contains("device_secret: (removed)"),
        "{configuration}"
    );
    assert!(text("log.txt").contains("starting") && text("log.txt").ends_with("last line\n"), "{}", text("log.txt"));
    assert!(text("certificates/cloud.client_cert_file.txt").contains("BEGIN CERTIFICATE"));
    assert!(text("package/package.yaml").contains("name: "));
    assert!(text("audit.jsonl").contains("Meter 1"));
    assert!(text("kernel.txt").contains("ttyUSB0"));
    for name in
        ["README.txt", "doctor.json", "outbox.json", "state.txt", "system.txt", "service.txt", "package/files.txt"]
    {
        text(name);
    }
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["parts"].as_array().unwrap().len(), files.len());
}

#[test]
fn a_bundle_is_bounded_goes_to_a_pipe_and_leaves_nothing_half() {
    let bench = Bench::new();
    let noise: String =
        (0..3_000_000u32).map(|i| char::from(b' ' + (i.wrapping_mul(2_654_435_761) >> 25) as u8 % 90)).collect();
    let log = bench.path("daemon.log");
    write(&log, &(noise + "\nthe end\n"), 0o600);
    let ran = bench.run(&["-o", "-", "--log", log.to_str().unwrap(), "--max-mb", "1"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.stdout.len() <= 1_000_000, "{}", ran.stdout.len());
    assert!(unpacked(&ran.stdout)["log.txt"].ends_with(b"the end\n"));
    // Onto a disk without room: told, and nothing stays.
    let script = format!(
        "mkdir -p {0}/full && mount -t tmpfs -o size=4k none {0}/full && {1} support-bundle --config {0}/edge.yaml -o {0}/full/b.tar.gz; \
         status=$?; ls {0}/full; exit $status",
        bench.folder.path().display(),
        env!("CARGO_BIN_EXE_enos-edge"),
    );
    let ran = Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{told}");
    assert!(told.contains("No space left"), "{told}");
    assert!(ran.stdout.is_empty(), "{}", String::from_utf8_lossy(&ran.stdout));
}
