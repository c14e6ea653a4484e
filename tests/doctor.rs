//! `enos-edge doctor` on gateways that are broken on purpose: each trouble is found, with its remedy, and nothing is changed.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value as Json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Bench {
    folder: tempfile::TempDir,
}

struct Look {
    status: i32,
    report: Json,
}

impl Look {
    /// The findings of a probe, as `level what -> remedy`.
    fn of(&self, probe: &str) -> String {
        let text = |row: &Json, key: &str| row[key].as_str().unwrap().to_owned();
        let rows = self.report["findings"].as_array().unwrap().iter().filter(|row| row["probe"] == probe);
        let line = |row: &Json| ["level", "where", "what", "remedy"].map(|key| text(row, key)).join(" | ");
        rows.map(line).collect::<Vec<_>>().join("\n")
    }

    fn has(&self, probe: &str, level: &str, words: &str) {
        let found = self.of(probe);
        let fits = |line: &str| line.starts_with(level) && line.contains(words);
        assert!(found.lines().any(fits), "no {level} with \"{words}\" in\n{found}");
        let helpless = |line: &&str| (line.starts_with("fault") || line.starts_with("warning")) && line.ends_with("| ");
        assert_eq!(found.lines().find(helpless), None, "a fault without a remedy");
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Bench {
    fn new(more: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/site");
        for device in ["meter-1", "machine-1"] {
            write(&bench.path(&format!("state/secrets/{device}")), "s", 0o600);
        }
        std::fs::set_permissions(bench.path("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let text = format!("state_dir: state\npackage: {}\n{more}", site.display());
        write(&bench.path("edge.yaml"), &text, 0o600);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enos-edge"));
        command.arg("doctor").arg("--json").arg("--config").arg(self.path("edge.yaml"));
        command
    }

    fn look(&self) -> Look {
        Bench::ran(&mut self.command())
    }

    fn only(&self, probes: &[&str]) -> Look {
        let mut command = self.command();
        command.args(probes.iter().flat_map(|probe| ["--only", probe]));
        Bench::ran(&mut command)
    }

    fn ran(command: &mut Command) -> Look {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        Look { status: output.status.code().unwrap(), report }
    }

    /// With the state folder on a disk of its own, in a mount namespace of its own.
    fn on_a_disk(&self, options: &str, before: &str) -> Look {
        let script = format!(
            "mkdir -p {0}/disk && mount -t tmpfs -o {options} none {0}/disk && cd {0}/disk && {before} && exec {1} doctor --json --only disk --config {0}/edge.yaml",
            self.folder.path().display(),
            env!("CARGO_BIN_EXE_enos-edge"),
        );
        let text = std::fs::read_to_string(self.path("edge.yaml")).unwrap();
        write(&self.path("edge.yaml"), &text.replace("state_dir: state", "state_dir: disk/state"), 0o600);
        Bench::ran(Command::new("unshare").args(["-rm", "sh", "-c", &script]))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn broker(url: &str, more: &str) -> String {
    format!("cloud:\n  url: {url}\n  product_key: pk\n  device_key: gw\n  device_secret: wrong\n{more}")
}

/// Every file below with its bytes: a look changes nothing.
fn all(folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            into.push((entry.path(), Vec::new()));
            all(&entry.path(), into);
        } else {
            into.push((entry.path(), std::fs::read(entry.path()).unwrap_or_default()));
        }
    }
}

#[test]
fn everything_dead_is_told_in_time_and_nothing_is_changed() {
    // A port that takes connections and never says a word; one that nobody has.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, dead) = (silent.local_addr().unwrap().port(), (silent, free_port()));
    let more = broker(&format!("ssl://127.0.0.1:{silent}"), "")
        + &format!("rest: {{ url: \"http://127.0.0.1:{}\", access_key: a, secret_key: b, org_id: o }}\n", dead.1)
        + &format!("destinations:\n  - name: plant\n    url: tcp://127.0.0.1:{}\n    topic: t\n", dead.1)
        + &format!("fetch:\n  - name: office\n    url: http://127.0.0.1:{}/p.zip\n", dead.1);
    let bench = Bench::new(&more);
    let mut before = Vec::new();
    all(bench.folder.path(), &mut before);
    let begun = Instant::now();
    let look = bench.look();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((look.status, look.report["gateway"].as_str()), (1, Some("stopped")));
    look.has("network", "fault", "tls: connected, but no answer");
    look.has("network", "fault", &format!("port {} of 127.0.0.1 is closed", dead.1));
    look.has("network", "fault", "office");
    look.has("login", "fault", "cloud, 127.0.0.1");
    look.has("login", "fault", "plant");
    look.has("package", "ok", "without a fault");
    look.has("devices", "fault", "closed");
    look.has("outbox", "note", "not there yet");
    let mut after = Vec::new();
    all(bench.folder.path(), &mut after);
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    assert!(before == after, "a file was changed");
}

/// A broker that takes connections and says nothing, and one that is not there: neither was asked for a secret.
#[test]
fn a_login_that_nobody_heard_puts_no_blame_on_the_secret() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let begun = Instant::now();
    let look = Bench::new(&broker(&format!("tcp://127.0.0.1:{port}"), "")).only(&["login", "network"]);
    look.has("login", "fault", "port for MQTT");
    look.has("network", "ok", "");
    assert!(begun.elapsed() < Duration::from_secs(20) && look.status == 1, "{:?}", begun.elapsed());
    for url in [format!("tcp://127.0.0.1:{}", free_port()), "tcp://no-such-host.invalid:1883".to_owned()] {
        let look = Bench::new(&broker(&url, "")).only(&["login"]);
        look.has("login", "fault", "see the findings of names and network");
        assert!(!look.of("login").contains("device secret"), "{}", look.of("login"));
    }
}

#[test]
fn a_door_that_can_not_be_opened_is_told_before_the_gateway_fails_at_it() {
    let bench = Bench::new("");
    let door = bench.path("state/control.sock");
    std::fs::write(&door, "mine").unwrap();
    bench.only(&["ports"]).has("ports", "fault", "is no socket");
    // And the gateway leaves alone what is no door.
    let mut run = Command::new(env!("CARGO_BIN_EXE_enos-edge"));
    run.args(["run", "--config"]).arg(bench.path("edge.yaml"));
    let ran = run.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains("is no socket; move it away"), "{said}");
    assert_eq!(std::fs::read_to_string(&door).unwrap(), "mine");
    std::fs::remove_file(&door).unwrap();
    // Somebody else's process, this one, with a door of its own in the place of ours.
    let listener = std::os::unix::net::UnixListener::bind(&door).unwrap();
    let words = format!("(process {}) listens there", std::process::id());
    bench.only(&["ports"]).has("ports", "fault", &words);
    drop(listener);
    bench.only(&["ports"]).has("ports", "note", "the local door is shut");
}

#[test]
fn a_state_folder_that_its_owner_may_not_write_is_told() {
    let bench = Bench::new("");
    let chmod = |mode| std::fs::set_permissions(bench.path("state"), std::fs::Permissions::from_mode(mode)).unwrap();
    // Root may write everywhere: the daemon is somebody else. A plain user is himself.
    if std::os::unix::fs::chown(bench.path("state"), Some(65534), None).is_ok() {
        chmod(0o555);
        bench.only(&["rights"]).has("rights", "fault", "may not write its state (mode 555)");
    }
    chmod(0o700);
    let missing = bench.path("edge.yaml");
    write(&missing, "state_dir: state\npackage: none\n", 0o600);
    bench.only(&["package"]).has("package", "fault", "that edge.yaml names is not there");
}

#[test]
fn a_missing_and_a_broken_configuration_are_told_with_their_place() {
    let bench = Bench::new("cloud: { url: http://a }\n");
    let look = bench.only(&["configuration"]);
    look.has("configuration", "fault", "edge.yaml:3:15");
    std::fs::remove_file(bench.path("edge.yaml")).unwrap();
    let look = bench.look();
    assert_eq!(look.status, 1);
    look.has("configuration", "fault", "can not be read");
    let unknown = bench.command().args(["--only", "disks"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean disk?"));
}

#[test]
fn open_secrets_and_foreign_files_are_told() {
    let bench = Bench::new("");
    bench.only(&["rights"]).has("rights", "ok", "owns the state");
    write(&bench.path("state/identity/key"), "k", 0o644);
    bench.only(&["rights"]).has("rights", "fault", "identity/key hold secrets and can be read by others");
    std::fs::set_permissions(bench.path("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    bench.only(&["rights"]).has("rights", "warning", "others may look into the state folder");
    let one_owner = std::os::unix::fs::chown(bench.path("state/identity/key"), Some(54_321), None);
    if one_owner.is_ok() {
        // Only root can give a file away; the daemon could not write it any more.
        bench.only(&["rights"]).has("rights", "fault", "belong to somebody else");
        std::os::unix::fs::chown(bench.path("state"), Some(54_321), None).unwrap();
        bench.only(&["rights"]).has("rights", "fault", "may not read it");
    }
}

#[test]
fn a_full_disk_one_without_inodes_and_one_that_is_read_only_are_told() {
    let quota = "outbox: { quota_mb: 8, disk_reserve_mb: 1 }\n";
    let look = Bench::new(quota).on_a_disk("size=8m", "mkdir state && head -c 7900k /dev/zero > state/fill");
    look.has("disk", "fault", "drops the oldest readings");
    let look = Bench::new(quota).on_a_disk("size=8m", "mkdir state && head -c 8300k /dev/zero > state/fill || true");
    look.has("disk", "fault", "No space left");
    let look = Bench::new(quota).on_a_disk("size=64m,nr_inodes=20", "mkdir state");
    look.has("disk", "warning", "more files");
    let look = Bench::new(quota).on_a_disk("size=64m", "mkdir state && mount -o remount,ro none .");
    look.has("disk", "fault", "can only be read");
    let look = Bench::new(quota).on_a_disk("size=64m", "mkdir state");
    look.has("disk", "ok", "are free, as quota and reserve want");
    assert_eq!(look.status, 0);
}

/// A server that proves itself with a certificate for these names and dates, signed by the authority whose PEM it gives.
fn tls_server(names: &[&str], years: (i32, i32)) -> (u16, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    (own.not_before, own.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    let certificate: CertificateDer<'static> = own.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            std::thread::spawn(move || converse(stream, config));
        }
    });
    (port, pem)
}

/// TLS, and to any CONNECT the answer of who does not know the secret.
fn converse(mut stream: TcpStream, config: Arc<ServerConfig>) {
    let mut server = rustls::ServerConnection::new(config).unwrap();
    let mut tls = rustls::Stream::new(&mut server, &mut stream);
    let mut bytes = [0; 512];
    if tls.read(&mut bytes).is_ok_and(|n| n > 0) {
        // CONNACK, code 5 (MQTT 3.1.1, 3.2).
        let _ = tls.write_all(&[0x20, 2, 0, 5]).and_then(|()| tls.flush());
    }
}

#[test]
fn what_is_wrong_with_a_servers_certificate_is_told_in_words() {
    let cases = [
        (&["127.0.0.1"][..], (2020, 2021), true, "ended on 2021-01-01"),
        (&["127.0.0.1"][..], (2090, 2091), true, "counts from 2090-01-01"),
        (
            &["broker.plant.example", "10.0.0.1"][..],
            (2020, 2091),
            true,
            "is for broker.plant.example, 10.0.0.1, not for 127.0.0.1",
        ),
        (&["127.0.0.1"][..], (2020, 2091), false, "whom nobody here trusts"),
    ];
    for (names, years, trusted, words) in cases {
        let (port, pem) = tls_server(names, years);
        let other = KeyPair::generate().unwrap();
        let mut stranger = CertificateParams::new(Vec::new()).unwrap();
        stranger.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = if trusted { pem } else { stranger.self_signed(&other).unwrap().pem() };
        let bench = Bench::new(&broker(&format!("ssl://127.0.0.1:{port}"), "  ca_file: ca.pem\n"));
        write(&bench.path("ca.pem"), &pem, 0o644);
        bench.only(&["network"]).has("network", "fault", words);
    }
}

#[test]
fn a_wrong_secret_is_told_as_such_behind_a_good_connection() {
    let (port, pem) = tls_server(&["127.0.0.1"], (2020, 2091));
    let bench = Bench::new(&broker(&format!("ssl://127.0.0.1:{port}"), "  ca_file: ca.pem\n"));
    write(&bench.path("ca.pem"), &pem, 0o644);
    let look = bench.only(&["network", "login"]);
    look.has("network", "ok", "proved who it is");
    look.has("login", "fault", "not authorized");
    assert!(look.of("login").contains("does the secret belong to these keys"), "{}", look.of("login"));
    assert!(!look.report.to_string().contains("wrong"), "the secret is shown");
}

#[test]
fn a_client_pair_that_does_not_fit_or_has_ended_is_told() {
    let make = |years: (i32, i32)| {
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(vec!["gw".to_owned()]).unwrap();
        (own.not_before, own.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        (own.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let more = broker("ssl://127.0.0.1:1", "  client_cert_file: c.pem\n  client_key_file: k.pem\n");
    let bench = Bench::new(&more);
    let (certificate, key) = make((2020, 2021));
    write(&bench.path("c.pem"), &certificate, 0o644);
    write(&bench.path("k.pem"), &key, 0o600);
    bench.only(&["certificate"]).has("certificate", "fault", "ended on 2021-01-01");
    write(&bench.path("k.pem"), &make((2020, 2021)).1, 0o600);
    bench.only(&["certificate"]).has("certificate", "fault", "does not belong to the client certificate");
}

#[test]
fn a_port_that_somebody_else_has_is_told_with_his_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let push = format!(
        "push: {{ listen: \"127.0.0.1:{port}\", cert_file: c.pem, key_file: k.pem, token: tttttttttttttttttttttttttttttttt }}\n"
    );
    let bench = Bench::new(&push);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["gw".to_owned()]).unwrap();
    write(&bench.path("c.pem"), &own.self_signed(&key).unwrap().pem(), 0o644);
    write(&bench.path("k.pem"), &key.serialize_pem(), 0o600);
    let look = bench.only(&["ports"]);
    look.has("ports", "fault", "listens there");
    assert!(look.of("ports").contains(&format!("(process {})", std::process::id())), "{}", look.of("ports"));
}

/// A gateway that runs.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_running_gateway_is_asked_and_no_second_login_is_made() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = broker.local_addr().unwrap().port();
    let logins = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    std::thread::spawn(move || {
        for stream in broker.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || refuse(stream, &counted));
        }
    });
    let bench = Bench::new(&self::broker(&format!("tcp://127.0.0.1:{port}"), ""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_enos-edge"));
    let child = command.arg("run").arg("--config").arg(bench.path("edge.yaml")).stderr(Stdio::null()).spawn().unwrap();
    let gateway = Running(child);
    let begun = Instant::now();
    let look = loop {
        let look = bench.look();
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", look.report);
        // While it starts nobody answers for it, and nobody logs in in its place.
        assert_ne!(look.report["gateway"], "stopped");
        if look.report["gateway"] == "running" && look.of("login").contains("refused") {
            break look;
        }
    };
    look.has("login", "fault", "not authorized (code 5)");
    look.has("devices", "fault", "no connection");
    look.has("ports", "ok", "the local door answers");
    // The first attempt of the gateway itself, and no other: its next comes after half a minute.
    assert_eq!(logins.load(std::sync::atomic::Ordering::SeqCst), 1);
    drop(gateway);
    bench.only(&["outbox"]).has("outbox", "ok", "the file is whole");
}

fn refuse(mut stream: TcpStream, counted: &std::sync::atomic::AtomicUsize) {
    let mut bytes = [0; 512];
    if stream.read(&mut bytes).is_ok_and(|n| n > 0) {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _ = stream.write_all(&[0x20, 2, 0, 5]);
    }
}

#[test]
fn a_door_that_systemd_holds_is_not_knocked_at_while_nobody_is_behind_it() {
    let bench = Bench::new("");
    let door = std::os::unix::net::UnixListener::bind(bench.path("state/control.sock")).unwrap();
    door.set_nonblocking(true).unwrap();
    let look = bench.only(&["ports"]);
    assert_eq!(look.report["gateway"], "stopped");
    // A knock would have started the gateway that somebody stopped.
    assert_eq!(door.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_gateway_that_hangs_is_told_in_time() {
    let bench = Bench::new(&broker("tcp://127.0.0.1:1", ""));
    write(&bench.path("state/outbox/outbox.lock"), "", 0o600);
    let lock = std::fs::File::open(bench.path("state/outbox/outbox.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let _door = std::os::unix::net::UnixListener::bind(bench.path("state/control.sock")).unwrap();
    let begun = Instant::now();
    let look = bench.look();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(look.report["gateway"], "silent");
    look.has("ports", "fault", "the gateway hangs");
    look.has("login", "note", "not looked at");
    drop(lock);
}
