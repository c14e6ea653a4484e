//! Walks `testcases/package-check`: each folder holds a package and the report it must give. There protocols are
//! played; in `testcases/package-check-protocols` they are those of the gateway.
//!
//! `UPDATE_EXPECTED=1 cargo test --test package_check` writes the reports anew; read the difference before committing it.

use driver::{
    Answer, ConnectionText, Diagnostic, FrameTap, Plan, Protocol, Resource, ScanGroup, Session, SessionError,
    TransferShape,
};
use enos_edge::package::check::report::{to_json, write_text};
use enos_edge::package::{Checked, check};
use enos_edge::south::protocols::Protocols;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Understands a few parameters, and refuses numbers that start with a letter.
struct Fake(&'static str);

struct FakePlan(Vec<Resource>, Vec<bool>);

impl Protocol for Fake {
    fn name(&self) -> &'static str {
        self.0
    }

    fn plan(&self, connection: &ConnectionText<'_>) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        connection
            .parameters
            .refuse_unknown(&["host", "port", "serial_port", "endpoint", "scan_period_ms", "timeout_ms"], &mut faults);
        connection.parameters.parse_or("port", 502u16, "a number from 1 to 65535", &mut faults);
        for row in connection.devices.iter().flat_map(|device| device.table.rows()) {
            if self.0.starts_with("modbus") && row.number().starts_with(char::is_alphabetic) {
                let problem = format!("register \"{}\" is no number", row.number());
                faults.push(Diagnostic::error(row.number_place(), problem));
            }
        }
        let serial = connection.parameters.get("serial_port");
        let claim = |text: &driver::Text| Resource { name: format!("serial:{}", text.text), place: text.place.clone() };
        let files = connection.devices.iter().map(|device| device.transfer.is_some()).collect();
        let plan = FakePlan(serial.map(claim).into_iter().collect(), files);
        if faults.is_empty() { Ok(Arc::new(plan)) } else { Err(faults) }
    }
}

impl Plan for FakePlan {
    fn scan_groups(&self) -> &[ScanGroup] {
        &[]
    }

    fn resources(&self) -> &[Resource] {
        &self.0
    }

    fn transfer(&self, index: usize) -> Option<TransferShape> {
        let shape =
            TransferShape { most: 1 << 20, piece: 200, patience: std::time::Duration::from_secs(1), resumes: false };
        self.1.get(index)?.then_some(shape)
    }

    fn endpoint(&self) -> String {
        "fake".to_owned()
    }

    fn connect(&self, _: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>> {
        Box::pin(async { Err(SessionError::Disconnected("a fake has no peer".to_owned())) })
    }
}

fn checked(package: &Path) -> Checked {
    check(package, &[&Fake("modbus-tcp"), &Fake("modbus-rtu"), &Fake("opcua"), &Fake("virtual")])
}

fn report(checked: &Checked) -> String {
    let mut out = Vec::new();
    write_text(&mut out, Path::new("package"), checked, false).expect("memory takes everything");
    let text = String::from_utf8(out).expect("reports are text");
    // The cases are about faults; forecasts have tests of their own.
    text.split_once("forecast, ").map_or(text.clone(), |(report, _)| report.to_owned())
}

fn cases() -> Vec<PathBuf> {
    folders("testcases/package-check")
}

fn folders(home: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(home);
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).expect("the cases are there").map(|entry| entry.expect("is readable").path()).collect();
    all.sort();
    all
}

#[test]
fn package_check_reports_what_each_case_expects() {
    let cases = cases();
    assert!(cases.len() > 30, "found {} cases", cases.len());
    compare(cases, checked);
}

#[test]
fn the_gateways_own_protocols_report_what_each_case_expects() {
    let protocols = Protocols::new(Path::new("state"));
    compare(folders("testcases/package-check-protocols"), |package| check(package, &protocols.list()));
}

#[test]
fn the_quickstart_site_is_sound() {
    let protocols = Protocols::new(Path::new("state"));
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/site");
    let checked = check(&site, &protocols.list());
    assert_eq!(checked.errors(), 0, "{}", report(&checked));
    assert_eq!(checked.warnings(), 1, "a working copy is not sealed: {}", report(&checked));
}

fn compare(cases: Vec<PathBuf>, checked: impl Fn(&Path) -> Checked) {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for case in cases {
        let got = report(&checked(&case.join("package")));
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, &got).expect("the case is writable");
        }
        let want = fs::read_to_string(&expected).unwrap_or_default();
        if got != want {
            let _ = writeln!(wrong, "== {}\n-- want\n{want}-- got\n{got}", case.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn only_a_package_without_errors_becomes_a_site() {
    for case in cases() {
        let checked = checked(&case.join("package"));
        assert_eq!(checked.site.is_some(), checked.errors() == 0, "{}", case.display());
    }
}

fn good() -> Checked {
    checked(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/package-check/good-chinese/package"))
}

#[test]
fn a_good_package_becomes_the_site_it_describes() {
    let site = good().site.expect("is sound");
    assert_eq!((site.package.name.as_str(), site.package.version.as_str()), ("示范厂", "1.2.0"));
    let names: Vec<_> = site.names.devices.iter().map(|d| (d.name.as_str(), d.device_key.as_str())).collect();
    assert_eq!(names, [("一号电表", "电表-1"), ("二号电表", "电表-2"), ("机床", "")]);
    let meter = &site.connections[1];
    assert_eq!((meter.name.as_str(), meter.protocol.as_str()), ("电表线", "modbus-tcp"));
    assert_eq!(meter.devices.iter().map(|d| (d.device, d.first_point)).collect::<Vec<_>>(), [(0, 0), (1, 6)]);
    assert!(Arc::ptr_eq(&meter.devices[0].template, &meter.devices[1].template));
    let template = &meter.devices[0].template;
    let points: Vec<_> = template.model.measurepoints.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(points, ["状态", "voltage", "power", "setpoint", "energy"], "inherited ones stand first");
    assert_eq!(template.rules.iter().map(|r| r.measurepoint).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(template.controls.len(), 1);
    assert_eq!(site.credentials[2], enos_edge::model::Credential::Logic);
}

#[test]
fn the_json_report_says_the_same_as_the_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/package-check/unknown-references/package");
    let checked = checked(&folder);
    let json = to_json(Path::new("p"), &checked);
    assert_eq!(json["package"], "p");
    assert_eq!(json["errors"], checked.errors());
    assert_eq!(json["warnings"], checked.warnings());
    let all = json["diagnostics"].as_array().expect("a list");
    assert_eq!(all.len(), checked.diagnostics.len());
    let first = &checked.diagnostics[0];
    assert_eq!(all[0]["file"], *first.place.file);
    assert_eq!((&all[0]["line"], &all[0]["column"]), (&first.place.line.into(), &first.place.column.into()));
    assert_eq!(all[0]["severity"], "error");
    assert_eq!(all[0]["problem"], *first.problem);
    assert_eq!(json["devices"], checked.counts.devices);
}

/// Copies the good package into a folder that a test may change.
fn copy_of_good() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/package-check/good-chinese/package");
    copy(&from, folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("is writable");
    for entry in fs::read_dir(from).expect("is readable") {
        let entry = entry.expect("is readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(fs::copy(entry.path(), target)) }
    }
}

#[test]
fn a_hundred_thousand_devices_are_checked_quickly() {
    let folder = copy_of_good();
    let mut text = "devices:\n".to_owned();
    // Unoptimised, the same work takes twenty times as long.
    let count = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    for n in 0..count {
        let _ = write!(
            text,
            "  - name: Meter {n}\n    product_key: pk\n    device_key: meter-{n}\n    device_secret: s{n}\n    \
             template: 电表\n    connection: 电表线\n    address: {n}\n    attributes: {{ room: {n} }}\n"
        );
    }
    fs::write(folder.path().join("assets.yaml"), text).expect("is writable");
    fs::remove_file(folder.path().join("triggers.yaml")).expect("is there");
    let started = std::time::Instant::now();
    let checked = checked(folder.path());
    let took = started.elapsed();
    println!("{count} devices: {took:?}");
    assert_eq!(checked.errors(), 0, "{}", report(&checked));
    assert_eq!(checked.counts.devices, count);
    assert_eq!(checked.site.expect("is sound").names.devices.len(), count);
    assert!(took < std::time::Duration::from_secs(60), "{count} devices took {took:?}");
}

#[test]
fn many_faulty_devices_are_reported_quickly() {
    let folder = copy_of_good();
    let mut text = "devices:\n".to_owned();
    for n in 0..20_000 {
        let _ = writeln!(text, "  - {{ name: M{n}, template: nosuch{n}, connection: no{n}, wrong: 1 }}");
    }
    fs::write(folder.path().join("assets.yaml"), text).expect("is writable");
    let started = std::time::Instant::now();
    let checked = checked(folder.path());
    assert!(checked.errors() >= 1000);
    assert!(started.elapsed() < std::time::Duration::from_secs(60));
}

#[test]
fn secrets_are_read_from_the_state_folder_when_the_site_is_loaded() {
    let folder = copy_of_good();
    let path = folder.path().join("assets.yaml");
    let text = fs::read_to_string(&path)
        .expect("is there")
        .replace("device_secret: 秘密1", "device_secret_file: m/1")
        .replace("    device_secret: 秘密2\n", "");
    fs::write(&path, text).expect("is writable");
    let protocols: [&dyn Protocol; 2] = [&Fake("modbus-tcp"), &Fake("opcua")];
    let secrets = tempfile::tempdir().expect("a folder");
    let refused =
        enos_edge::package::load(folder.path(), &protocols, Some(secrets.path())).err().expect("no secret yet");
    assert!(refused[0].problem.contains("can not be read"), "{}", refused[0]);
    fs::create_dir(secrets.path().join("m")).expect("is writable");
    fs::write(secrets.path().join("m/1"), "hush\n").expect("is writable");
    let site = enos_edge::package::load(folder.path(), &protocols, Some(secrets.path())).expect("is sound");
    let secret = enos_edge::config::Secret::new("hush".to_owned());
    assert_eq!(site.credentials[0], enos_edge::model::Credential::Device { secret });
}

/// Every fence of the reference that names a file, as one package.
#[test]
fn the_reference_describes_a_package_that_is_sound() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/package.md"))
        .expect("the reference is there");
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = 0;
    for fence in text.split("\n```").filter(|fence| fence.starts_with("yaml ") || fence.starts_with("text ")) {
        let (head, body) = fence.split_once('\n').expect("a fence has lines");
        let path = folder.path().join(head.split_once(' ').expect("a fence names its file").1);
        fs::create_dir_all(path.parent().expect("is below the folder")).expect("is writable");
        fs::write(path, format!("{body}\n")).expect("is writable");
        files += 1;
    }
    assert!(files >= 10, "found {files} files in the reference");
    let checked = checked(folder.path());
    assert_eq!(checked.errors(), 0, "{}", report(&checked));
    assert!(checked.warnings() <= 1, "only the missing seal: {}", report(&checked));
    assert_eq!((checked.counts.devices, checked.triggers.len()), (3, 1));
}

/// Every file under `folder`, for tests that damage one after the other.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("is readable") {
        let path = entry.expect("is readable").path();
        if path.is_dir() { all.extend(files_below(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// Hand editing loses lines and pastes them twice. Whatever comes of it is reported, never a panic, and a
/// site exists exactly when there is no error.
#[test]
fn a_lost_or_repeated_line_never_breaks_the_check() {
    let folder = copy_of_good();
    let mut damaged = 0;
    for path in files_below(folder.path()) {
        let text = fs::read_to_string(&path).expect("is text");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for at in 0..lines.len() {
            for copies in [0, 2] {
                let mut changed = lines[..at].concat();
                changed.push_str(&lines[at].repeat(copies));
                changed.push_str(&lines[at + 1..].concat());
                fs::write(&path, changed).expect("is writable");
                let checked = checked(folder.path());
                assert_eq!(checked.site.is_some(), checked.errors() == 0, "{}:{}", path.display(), at + 1);
                damaged += 1;
            }
        }
        fs::write(&path, text).expect("is writable");
    }
    assert!(damaged > 100, "damaged {damaged} lines");
    assert!(checked(folder.path()).site.is_some(), "all files are whole again");
}

proptest::proptest! {
    #[test]
    fn no_text_panics_the_yaml_tree(text in "([a-c]: |- |\\[|\\]|\\{|\\}|, |\"|'|&a |\\*a|<<: |\n|\n  |\t|# |---\n|!!str |\\? |\\| ?\n|x){0,40}") {
        let _ = enos_edge::yaml::parse(&"fuzz.yaml".into(), &text);
    }
}
