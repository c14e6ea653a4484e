//! `update:` of `edge.yaml`: whose updates are taken, when they may run, and where they come from.

use super::fetch::Trust;
use super::numbers::{seconds, whole};
use super::{ClientFiles, Secret, client_files};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::Kind;
use crate::yaml::fields::{Faults, Fields, misfit, place, scalar, word};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How updates over the air are taken.
#[derive(Clone, Debug)]
pub struct UpdateConfig {
    /// Public keys, or folders of `*.pub`. Without one no update is ever taken.
    pub keys: Vec<PathBuf>,
    /// Who owns `edge.yaml`: key files belong to this user or to root.
    pub owner: Option<u32>,
    /// When an update may be installed; none: at any time.
    pub windows: Vec<Window>,
    /// Name of a time zone for the windows; `None`: the machine's.
    pub timezone: Option<String>,
    /// Programs that are asked before an update is installed.
    pub conditions: PathBuf,
    pub condition_timeout: Duration,
    /// How long a new engine may take to show that it works.
    pub trial: Duration,
    pub allow_downgrade: bool,
    pub pull: Pull,
    /// Hosts that files may come from, `*` for any letters; none: any.
    pub hosts: Vec<String>,
    /// `http://` is taken too: the signature still says whose the file is.
    pub cleartext: bool,
    pub trust: Trust,
    pub proxy: Option<Secret>,
    /// Where `enos-connect://` files are read.
    pub http_broker: Option<String>,
    /// What a path without a host is put behind.
    pub base_url: Option<String>,
    pub max_bytes: u64,
    pub connect_timeout: Duration,
    pub stall: Duration,
    /// For the download, with all its attempts.
    pub deadline: Duration,
    /// How long an update waits for its window and conditions before it is given up.
    pub wait: Duration,
    /// Programs that take firmware.
    pub firmware_dir: PathBuf,
    /// Free disk that no update may take.
    pub reserve_bytes: u64,
}

/// When the cloud is asked for updates that wait for the gateway to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    Off,
    /// Once, after each start.
    AtStart,
    /// After each start, and then at this pace.
    Every(Duration),
}

/// A span of local time on some days of the week. One that ends before it begins goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins: bit 0 is Monday.
    pub days: u8,
    /// Minutes since midnight.
    pub from: u16,
    pub to: u16,
}

/// Where zones of the machine lie.
pub const ZONES: &str = "/usr/share/zoneinfo";
pub const CONDITIONS: &str = "/etc/enos-edge/update-conditions.d";
pub const FIRMWARE: &str = "/etc/enos-edge/firmware.d";

impl Default for UpdateConfig {
    fn default() -> UpdateConfig {
        UpdateConfig {
            keys: Vec::new(),
            owner: None,
            windows: Vec::new(),
            timezone: None,
            conditions: PathBuf::from(CONDITIONS),
            condition_timeout: Duration::from_secs(30),
            trial: Duration::from_secs(600),
            allow_downgrade: false,
            pull: Pull::Off,
            hosts: Vec::new(),
            cleartext: false,
            trust: Trust::default(),
            proxy: None,
            http_broker: None,
            base_url: None,
            max_bytes: 256 << 20,
            connect_timeout: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            deadline: Duration::from_secs(86_400),
            wait: Duration::from_secs(7 * 86_400),
            firmware_dir: PathBuf::from(FIRMWARE),
            reserve_bytes: 64 << 20,
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "keys",
    "window",
    "timezone",
    "conditions_dir",
    "condition_timeout_s",
    "trial_min",
    "allow_downgrade",
    "pull",
    "pull_every_h",
    "hosts",
    "cleartext",
    "ca_file",
    "certificate_sha256",
    "client_cert_file",
    "client_key_file",
    "proxy",
    "http_broker",
    "base_url",
    "max_mb",
    "connect_timeout_s",
    "stall_s",
    "deadline_h",
    "wait_h",
    "firmware_dir",
    "disk_reserve_mb",
];
pub(super) const WINDOW_KEYS: &[&str] = &["days", "from", "to"];

const PULLS: &[(&str, Pull)] =
    &[("off", Pull::Off), ("no", Pull::Off), ("start", Pull::AtStart), ("every", Pull::Every(Duration::ZERO))];

const DAYS: &[(&str, u8)] = &[
    ("mon", 1),
    ("tue", 1 << 1),
    ("wed", 1 << 2),
    ("thu", 1 << 3),
    ("fri", 1 << 4),
    ("sat", 1 << 5),
    ("sun", 1 << 6),
    ("weekdays", 0b001_1111),
    ("weekend", 0b110_0000),
    ("daily", 0b111_1111),
];

pub(super) fn read(own: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> UpdateConfig {
    let texts = |key: &str, faults: &mut Faults| {
        let nodes = own.list(key, faults).iter();
        nodes.filter_map(|node| scalar(own.file, node, key, faults)).map(|text| text.text).collect::<Vec<_>>()
    };
    let keys = texts("keys", faults).into_iter().map(|key| folder.join(key)).collect();
    let hosts = texts("hosts", faults);
    let path = |key: &str, faults: &mut Faults| own.text(key, faults).map(|text| folder.join(text.text));
    let every = Duration::from_secs(3600 * whole(own, "pull_every_h", 24, 1..=744, faults));
    let base =
        |key: &str, faults: &mut Faults| own.text(key, faults).and_then(|text| super::rest::base(&text, key, faults));
    let config = UpdateConfig {
        keys,
        owner: owner(own.file),
        windows: own.list("window", faults).iter().filter_map(|node| window(own, node, faults)).collect(),
        timezone: timezone(own, Path::new(ZONES), faults),
        conditions: path("conditions_dir", faults).unwrap_or_else(|| CONDITIONS.into()),
        condition_timeout: seconds(own, "condition_timeout_s", 30, 1..=3600, faults),
        trial: Duration::from_secs(60 * whole(own, "trial_min", 10, 1..=1440, faults)),
        allow_downgrade: own.flag("allow_downgrade", false, faults),
        pull: match own.word("pull", PULLS, faults) {
            Some(Pull::Every(_)) => Pull::Every(every),
            other => other.unwrap_or(Pull::Off),
        },
        hosts,
        cleartext: own.flag("cleartext", false, faults),
        trust: Trust {
            ca_file: path("ca_file", faults),
            pin: own.text("certificate_sha256", faults).and_then(|text| super::fetch::pin(&text, faults)),
            client: client(own, folder, faults),
        },
        proxy: own.text("proxy", faults).and_then(|text| super::rest::proxy(&text, faults)),
        http_broker: base("http_broker", faults),
        base_url: base("base_url", faults),
        max_bytes: whole(own, "max_mb", 256, 1..=4096, faults) << 20,
        connect_timeout: seconds(own, "connect_timeout_s", 10, 1..=120, faults),
        stall: seconds(own, "stall_s", 30, 1..=600, faults),
        deadline: Duration::from_secs(3600 * whole(own, "deadline_h", 24, 1..=744, faults)),
        wait: Duration::from_secs(3600 * whole(own, "wait_h", 168, 1..=2160, faults)),
        firmware_dir: path("firmware_dir", faults).unwrap_or_else(|| FIRMWARE.into()),
        reserve_bytes: whole(own, "disk_reserve_mb", 64, 0..=65_536, faults) << 20,
    };
    fit(own, &config, faults);
    config
}

fn client(own: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<ClientFiles> {
    client_files::read(own, folder, true, faults)
}

fn fit(own: &Fields<'_, '_>, config: &UpdateConfig, faults: &mut Faults) {
    let mut complain = |problem: &str, help: &str| {
        faults.push(Diagnostic::error(own.place.clone(), format!("update: {problem}")).help(help));
    };
    if config.trust.pin.is_some() && config.trust.ca_file.is_some() {
        complain("ca_file and certificate_sha256 exclude each other", "keep one of them");
    }
    for (key, url) in [("http_broker", &config.http_broker), ("base_url", &config.base_url)] {
        if !config.cleartext && url.as_ref().is_some_and(|url| url.starts_with("http://")) {
            complain(
                &format!("{key} goes without encryption"),
                "write https://, or `cleartext: true` if the network is yours alone",
            );
        }
    }
}

fn window(own: &Fields<'_, '_>, node: &crate::yaml::Node<'_>, faults: &mut Faults) -> Option<Window> {
    let fields = Fields::open(own.file, node, "window of update", WINDOW_KEYS, faults)?;
    let days = days(&fields, faults);
    let mut time = |key: &str| {
        let text = fields.required(key, faults)?;
        let minutes = minutes(&text.text);
        if minutes.is_none() {
            faults.push(misfit(key, &text, "write hours and minutes in quotes, for example \"22:30\""));
        }
        minutes
    };
    let (from, to) = (time("from"), time("to"));
    let window = Window { days, from: from?, to: to? };
    let mut refuse = |problem: &str, help: &str| {
        faults.push(Diagnostic::error(place(own.file, node), problem).help(help));
        None
    };
    match (window.from, window.to) {
        (from, to) if from == to => refuse(
            "the window of update begins when it ends",
            "for the whole day write from: \"00:00\" and to: \"24:00\"",
        ),
        // No day has a minute of that name that is not the next day's.
        (MIDNIGHT, _) => refuse(
            "the window of update begins when its day is over",
            "write from: \"00:00\", and the day after in days",
        ),
        _ => Some(window),
    }
}

/// 24:00, which only ends a day.
const MIDNIGHT: u16 = 24 * 60;

/// Without the key: every day. An empty list would be a window that never opens.
fn days(window: &Fields<'_, '_>, faults: &mut Faults) -> u8 {
    let Some(node) = window.node("days") else { return 0b111_1111 };
    let list = window.list("days", faults);
    if list.is_empty() && matches!(node.kind, Kind::List(_)) {
        let fault = Diagnostic::error(place(window.file, node), "days: the window has no day, so it would never open");
        faults.push(fault.help("name the days, or leave `days` out for every day"));
    }
    let mut days = 0;
    for day in list {
        let text = scalar(window.file, day, "days", faults);
        days |= text.and_then(|text| word("days", &text, DAYS, faults)).unwrap_or(0);
    }
    days
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let good = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        good.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    ((hours < 24 && minutes < 60) || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
}

/// A name below the zones' folder, never a way out of it. One that is not there is a warning: a gateway that does not
/// start because the system's package of zones has changed would lose data. Its windows stay closed.
fn timezone(own: &Fields<'_, '_>, zones: &Path, faults: &mut Faults) -> Option<String> {
    let text = own.text("timezone", faults)?;
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    if text.text.split('/').all(good) {
        if text.text != UTC && !zones.join(&text.text).is_file() {
            let problem = format!("timezone: this machine knows no zone \"{}\"; its windows stay closed", text.text);
            faults.push(Diagnostic::warning(text.place.clone(), problem).help(known_zones(zones, &text.text)));
        }
        return Some(text.text);
    }
    faults.push(misfit("timezone", &text, "write a region and city, for example Asia/Shanghai, or UTC"));
    None
}

/// Known without any file of zones.
pub const UTC: &str = "UTC";

/// What was meant, of the same region, or how zones come here.
fn known_zones(zones: &Path, name: &str) -> String {
    let region = name.rsplit_once('/').map_or("", |(region, _)| region);
    let mut known: Vec<String> = std::fs::read_dir(zones.join(region))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .map(|city| if region.is_empty() { city } else { format!("{region}/{city}") })
        .filter(|known| zones.join(known).is_file() && known.starts_with(|c: char| c.is_ascii_uppercase()))
        .collect();
    known.sort();
    if known.is_empty() {
        return "write a region and city, for example Asia/Shanghai; zones come with the package tzdata, old names with \
                tzdata-legacy"
            .to_owned();
    }
    did_you_mean(name, known.iter().map(String::as_str))
}

/// `None` when the configuration is no file, as in tests.
pub(super) fn owner(file: &str) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).ok().map(|found| found.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<UpdateConfig, String> {
        let file = "edge.yaml".into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "update", KEYS, &mut faults).unwrap();
        let config = read(&fields, Path::new("/etc"), &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn everything_has_a_default_and_says_what_it_says() {
        assert_eq!(format!("{:?}", parse("{}").unwrap()), format!("{:?}", UpdateConfig::default()));
        let config = parse(
            "keys: [ k ]\nwindow:\n- { days: [ sat, weekdays ], from: \"22:00\", to: \"04:00\" }\n- { from: \"00:00\", to: \"24:00\" }\n\
             pull: every\npull_every_h: 6\ntrial_min: 3\nhttp_broker: iot-http.example.com\n",
        )
        .unwrap();
        assert_eq!(config.keys, [Path::new("/etc/k")]);
        assert_eq!(config.windows[0], Window { days: 0b011_1111, from: 1320, to: 240 });
        assert_eq!(config.windows[1], Window { days: 0b111_1111, from: 0, to: 1440 });
        assert_eq!((config.pull, config.trial), (Pull::Every(Duration::from_secs(21_600)), Duration::from_secs(180)));
        assert_eq!(config.http_broker.as_deref(), Some("https://iot-http.example.com"));
    }

    #[test]
    fn a_window_that_would_never_open_is_a_fault() {
        for (window, words) in [
            ("{ days: [], from: \"22:00\", to: \"04:00\" }", "edge.yaml:2:11: days: the window has no day"),
            ("{ from: \"24:00\", to: \"00:00\" }", "edge.yaml:2:3: the window of update begins when its day is over"),
            ("{ from: \"24:00\", to: \"04:00\" }", "begins when its day is over"),
            ("{ from: \"7:5\", to: \"08:00\" }", "from: \"7:5\""),
            ("{ from: \"00:00\", to: \"24:01\" }", "to: \"24:01\""),
        ] {
            let told = parse(&format!("window:\n- {window}\n")).unwrap_err();
            assert!(told.contains(words), "{window}: {told}");
        }
        assert_eq!(
            parse("window:\n- { days: , from: \"22:00\", to: \"24:00\" }\n").unwrap().windows[0].days,
            0b111_1111
        );
    }

    #[test]
    fn a_zone_that_this_machine_does_not_know_is_a_warning_with_its_place_and_what_was_meant() {
        let home = tempfile::tempdir().unwrap();
        let of = |text: &str, zones: &Path| {
            let file = "edge.yaml".into();
            let (node, found) = crate::yaml::parse(&file, text);
            let mut faults = Faults::from(found);
            let fields = Fields::open(&file, node.as_ref().unwrap(), "update", KEYS, &mut faults).unwrap();
            let zone = timezone(&fields, zones, &mut faults);
            (zone, faults.errors(), joined(&faults.finish()))
        };
        let (zone, errors, told) = of("timezone: Asia/Shangai", home.path());
        assert_eq!((zone.as_deref(), errors), (Some("Asia/Shangai"), 0), "the gateway starts");
        assert!(told.contains("edge.yaml:1:11") && told.contains("tzdata"), "{told}");
        std::fs::create_dir(home.path().join("Asia")).unwrap();
        std::fs::write(home.path().join("Asia/Shanghai"), "TZif").unwrap();
        let (_, errors, told) = of("timezone: Asia/Shangai", home.path());
        assert!(errors == 0 && told.contains("did you mean Asia/Shanghai?"), "{told}");
        for good in ["timezone: Asia/Shanghai", "timezone: UTC"] {
            assert_eq!(of(good, home.path()).2, "");
        }
        assert!(of("timezone: Asia", home.path()).2.contains("no zone"), "a folder is no zone");
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let told = parse(
            "window:\n- { days: [ mondey ], from: 25:00, to: \"04:00\" }\n- { from: \"04:00\", to: \"04:00\" }\ntimezone: ../../etc/passwd\n\
             pull: somtimes\nhttp_broker: http://h\nkey: x\nmax_mb: 0\n",
        )
        .unwrap_err();
        for expected in [
            "days \"mondey\" is not known",
            "from: \"25:00\"",
            "begins when it ends",
            "timezone: \"../../etc/passwd\"",
            "pull \"somtimes\"",
            "http_broker goes without encryption",
            "did you mean keys?",
            "max_mb: \"0\"",
        ] {
            assert!(told.contains(expected), "{expected} is missing in\n{told}");
        }
    }
}
