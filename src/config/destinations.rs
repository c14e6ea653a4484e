//! `destinations:` of `edge.yaml`: plain MQTT brokers that get readings beside the EnOS Cloud.

use super::address::{self, Address};
use super::numbers::{millis, seconds, whole};
use super::subscribe::{self, Subscription};
use super::template::{self, Template, Word};
use super::{ClientFiles, Secret, TlsConfig, client_files, neighbours, secret, selection};
use crate::diagnostic::Diagnostic;
use crate::model::{Selection, TopicFilter};
use crate::yaml::fields::{Faults, Fields, misfit};
use driver::Text;
use std::path::Path;
use std::time::Duration;

/// One broker: where it is, what it gets and in which form.
#[derive(Clone, Debug)]
pub struct DestinationConfig {
    /// The outbox keeps its cursor under this name.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsConfig>,
    /// Mutual TLS.
    pub client_files: Option<ClientFiles>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub client_id: String,
    pub clean_session: bool,
    /// The broker keeps the newest message of each topic for those who subscribe later.
    pub retain: bool,
    pub keep_alive: Duration,
    /// How long a PUBACK may take before the connection is given up.
    pub reply_timeout: Duration,
    pub linger: Duration,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    pub max_message_bytes: usize,
    pub topic: Template,
    pub payload: Payload,
    pub join: Join,
    pub gzip: bool,
    pub subscribe: Vec<Subscription>,
    /// Commands are taken below this topic; `None`: none are.
    pub commands: Option<String>,
    /// Which readings it wants at all.
    pub selection: Selection,
    /// Disk its waiting readings may take; `None` for no limit but the outbox's.
    pub quota_bytes: Option<u64>,
    pub max_age: Option<Duration>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The batch of EnOS.
    Enos,
    /// An array of single readings.
    Json,
    /// One object for a device and a time.
    JsonDevice,
    /// The value alone.
    Value,
    Template(Template),
}

/// How several objects or rendered templates share a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// They do not.
    None,
    Lines,
    Array,
}

impl DestinationConfig {
    /// All defaults: JSON arrays on one topic, without TLS and without a user.
    #[must_use]
    pub fn new(name: &str, host: &str, port: u16) -> DestinationConfig {
        DestinationConfig {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
            tls: None,
            client_files: None,
            user: None,
            password: None,
            client_id: format!("enos-edge-{name}"),
            clean_session: false,
            retain: false,
            keep_alive: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(30),
            linger: Duration::from_millis(20),
            in_flight: 100,
            max_message_bytes: 128 << 10,
            topic: Template(vec![template::Part::Literal(format!("enos-edge/{name}"))]),
            payload: Payload::Json,
            join: Join::None,
            gzip: false,
            subscribe: Vec::new(),
            commands: None,
            selection: Selection::default(),
            quota_bytes: None,
            max_age: None,
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "name",
    "url",
    "user",
    "password",
    "password_file",
    "password_credential",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "client_id",
    "clean_session",
    "qos",
    "retain",
    "keep_alive_s",
    "reply_timeout_ms",
    "linger_ms",
    "in_flight",
    "max_message_kb",
    "topic",
    "payload",
    "join",
    "compress",
    "subscribe",
    "commands_topic",
    "filter",
    "quota_mb",
    "max_age_h",
];

const PAYLOADS: &[(&str, Payload)] = &[
    ("enos", Payload::Enos),
    ("json", Payload::Json),
    ("json-device", Payload::JsonDevice),
    ("value", Payload::Value),
];
const JOINS: &[(&str, Join)] = &[("none", Join::None), ("lines", Join::Lines), ("array", Join::Array)];
const COMPRESS: &[(&str, bool)] = &[("none", false), ("gzip", true)];
/// Names the outbox and commands use for others.
const RESERVED: &[&str] = &["enos", "integration", "local"];
/// More than a gateway should serve; each has a task and a cursor.
const MOST: usize = 16;

/// `gateway`: its device key, if there is a cloud.
pub(super) fn read(
    fields: &Fields<'_, '_>,
    folder: &Path,
    gateway: Option<&str>,
    faults: &mut Faults,
) -> Vec<DestinationConfig> {
    let nodes = fields.list("destinations", faults);
    let mut all: Vec<DestinationConfig> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let Some(fields) = Fields::open(fields.file, node, "destination", KEYS, faults) else { continue };
        if at == MOST {
            let problem = format!("{} destinations are more than {MOST}", nodes.len());
            faults.push(Diagnostic::error(fields.place.clone(), problem).help("let a broker pass readings on"));
        }
        let Some(one) = destination(&fields, folder, gateway, faults) else { continue };
        if all.iter().any(|other| other.name == one.name) {
            let problem = format!("destination \"{}\" occurs twice", one.name);
            faults.push(Diagnostic::error(fields.place.clone(), problem).help("give each a name of its own"));
        }
        faults.extend(neighbours::faults(&all, &one, &fields.place));
        all.push(one);
    }
    all
}

fn destination(
    fields: &Fields<'_, '_>,
    folder: &Path,
    gateway: Option<&str>,
    faults: &mut Faults,
) -> Option<DestinationConfig> {
    let cloud = gateway.is_some();
    let name = fields.required("name", faults).and_then(|text| name(text, faults));
    let address = fields.required("url", faults).and_then(|url| address::mqtt_with(&url, [1883, 8883], faults));
    let tls = tls(fields, folder, address.as_ref(), faults);
    let secure = address.as_ref().is_none_or(|address| address.secure);
    let client_files = client_files::read(fields, folder, secure, faults);
    let user = fields.text("user", faults);
    let password = secret::read(fields, "password", folder, faults);
    if let (None, Some(_)) = (&user, &password) {
        // MQTT 3.1.1, 3.1.2.9: no password without a user name.
        faults.push(Diagnostic::error(fields.place.clone(), "destination has a password and no user"));
    }
    let topic = topic(fields, cloud, faults);
    let payload = payload(fields, cloud, faults);
    let join = fields.word("join", JOINS, faults).unwrap_or(Join::None);
    if let (Some((place, topic)), Some(Payload::Value)) = (&topic, &payload)
        && !topic.holds(Word::Point)
    {
        let problem = "payload value says nothing but the value, and topic does not name the point";
        faults.push(Diagnostic::error(place.place.clone(), problem).help("add {point} to topic"));
    }
    quality_of_service(fields, faults);
    let shape = topic.as_ref().map(|(_, topic)| topic.shape());
    let subscribe = subscribe::read(fields, shape.as_deref(), faults);
    let commands = commands_topic(fields, shape.as_deref(), faults);
    let client_id = client_id(fields, cloud, faults);
    let defaults = DestinationConfig::new("", "", 0);
    let clean_session = fields.flag("clean_session", defaults.clean_session, faults);
    let retain = fields.flag("retain", defaults.retain, faults);
    let keep_alive = seconds(fields, "keep_alive_s", 60, 5..=1800, faults);
    let reply_timeout = millis(fields, "reply_timeout_ms", 30_000, 500..=600_000, faults);
    let linger = millis(fields, "linger_ms", 20, 0..=60_000, faults);
    let in_flight = whole(fields, "in_flight", 100, 1..=1000, faults) as usize;
    let max_message_bytes = whole(fields, "max_message_kb", 128, 1..=4096, faults) as usize * 1024;
    let gzip = fields.word("compress", COMPRESS, faults).unwrap_or(false);
    let selection = selection::read(fields, faults);
    let limited = |key| fields.node(key).is_some();
    let (has_quota, has_age) = (limited("quota_mb"), limited("max_age_h"));
    let quota = whole(fields, "quota_mb", 1024, 1..=1 << 20, faults) << 20;
    let max_age = Duration::from_secs(3600 * whole(fields, "max_age_h", 720, 1..=87_600, faults));
    // Every key has been looked at; only now may a missing one end it.
    let (name, Address { host, port, .. }) = (name?, address?);
    Some(DestinationConfig {
        client_id: client_id.unwrap_or_else(|| format!("enos-edge-{}-{name}", gateway.unwrap_or_default())),
        name,
        host,
        port,
        tls,
        client_files,
        user: user.map(|text| text.text),
        password,
        clean_session,
        retain,
        keep_alive,
        reply_timeout,
        linger,
        in_flight,
        max_message_bytes,
        topic: topic?.1,
        payload: payload?,
        join,
        gzip,
        subscribe,
        commands,
        selection,
        quota_bytes: has_quota.then_some(quota),
        max_age: has_age.then_some(max_age),
    })
}

/// It names files, counters and doors.
fn name(text: Text, faults: &mut Faults) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.text.is_empty() || text.text.len() > 40 || !text.text.chars().all(plain) {
        faults.push(misfit("name", &text, "write 1 to 40 letters, digits, - or _"));
        return None;
    }
    if RESERVED.contains(&text.text.as_str()) {
        faults.push(misfit(
            "name",
            &text,
            "enos and integration are the cloud and local is this machine; choose another name",
        ));
        return None;
    }
    Some(text.text)
}

fn tls(fields: &Fields<'_, '_>, folder: &Path, address: Option<&Address>, faults: &mut Faults) -> Option<TlsConfig> {
    let ca_file = fields.text("ca_file", faults);
    let secure = address.is_some_and(|address| address.secure);
    if let (Some(_), false, Some(ca)) = (address, secure, &ca_file) {
        faults.push(
            Diagnostic::error(ca.place.clone(), "ca_file has no use with tcp://")
                .help("write ssl:// in url to encrypt"),
        );
    }
    secure.then(|| TlsConfig { ca_file: ca_file.map(|ca| folder.join(ca.text)) })
}

fn topic(fields: &Fields<'_, '_>, cloud: bool, faults: &mut Faults) -> Option<(Text, Template)> {
    let text = fields.required("topic", faults)?;
    let topic = template::topic(&text, faults)?;
    gateway_is_known(&topic, "topic", &text, cloud, faults);
    Some((text, topic))
}

fn payload(fields: &Fields<'_, '_>, cloud: bool, faults: &mut Faults) -> Option<Payload> {
    let Some(text) = fields.text("payload", faults) else { return Some(Payload::Json) };
    if !text.text.contains('{') {
        let found = PAYLOADS.iter().find(|(word, _)| *word == text.text).map(|(_, payload)| payload.clone());
        if found.is_none() {
            faults.push(misfit("payload", &text, "write enos, json, json-device, value, or a template with {value}"));
        }
        return found;
    }
    let template = template::payload(&text, faults)?;
    if !template.holds(Word::Value) && !template.holds(Word::ValueText) {
        faults.push(misfit("payload", &text, "a template without {value} loses what was read"));
        return None;
    }
    gateway_is_known(&template, "payload", &text, cloud, faults);
    Some(Payload::Template(template))
}

fn gateway_is_known(template: &Template, key: &str, text: &Text, cloud: bool, faults: &mut Faults) {
    if template.holds(Word::Gateway) && !cloud {
        let problem = format!("{key}: {{gateway}} is cloud.device_key, and there is no cloud");
        faults.push(Diagnostic::error(text.place.clone(), problem).help("write a name of your own instead"));
    }
}

/// The topic below which commands are taken.
fn commands_topic(fields: &Fields<'_, '_>, shape: Option<&[Option<String>]>, faults: &mut Faults) -> Option<String> {
    let text = fields.text("commands_topic", faults)?;
    let wrong = text.text.is_empty() || text.text.ends_with('/') || text.text.starts_with('$');
    if wrong || text.text.contains(['+', '#', '{']) || text.text.contains(char::is_control) {
        faults.push(misfit(
            "commands_topic",
            &text,
            "write a topic without wildcards or placeholders, as cmd/gateway-1",
        ));
        return None;
    }
    let below = TopicFilter::parse(&format!("{}/#", text.text)).ok()?;
    if shape.is_some_and(|shape| below.may_cover(shape)) {
        let help = "the gateway would take its own readings for commands; give commands a topic of their own";
        faults.push(misfit("commands_topic", &text, help));
        return None;
    }
    Some(text.text)
}

/// Two clients with one id throw each other out, so without a key of its own the gateway must be given one.
fn client_id(fields: &Fields<'_, '_>, cloud: bool, faults: &mut Faults) -> Option<String> {
    let text = fields.text("client_id", faults);
    if text.is_none() && !cloud {
        faults.push(
            Diagnostic::error(fields.place.clone(), "destination has no client_id")
                .help("write `client_id: …`, different for each gateway: a broker knows clients by it"),
        );
    }
    text.map(|text| text.text)
}

fn quality_of_service(fields: &Fields<'_, '_>, faults: &mut Faults) {
    if let Some(text) = fields.text("qos", faults)
        && text.text != "1"
    {
        let help = "write 1: with 0 nobody would know what arrived, and 2 gains nothing over the outbox";
        faults.push(misfit("qos", &text, help));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DestinationConfig, Join, Overrides, Payload, Pick};

    fn read(text: &str) -> Result<Vec<DestinationConfig>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.yaml");
        std::fs::write(&file, format!("state_dir: s\ndestinations:\n{text}")).unwrap();
        crate::config::read_with(&file, Overrides::default())
            .map(|Config { destinations, .. }| destinations)
            .map_err(|faults| crate::diagnostic::joined(&faults))
    }

    #[test]
    fn four_lines_are_a_destination() {
        let all = read("  - { name: scada, url: tcp://broker, client_id: g1, topic: \"plant/{device}\" }\n").unwrap();
        let one = &all[0];
        assert_eq!(
            (one.name.as_str(), one.host.as_str(), one.port, one.tls.is_some()),
            ("scada", "broker", 1883, false)
        );
        assert_eq!(
            (&one.payload, one.join, one.in_flight, one.clean_session),
            (&Payload::Json, Join::None, 100, false)
        );
    }

    #[test]
    fn a_whole_destination_is_understood() {
        let all = read(
            "  - name: b\n    url: ssl://h\n    client_id: g\n    user: u\n    password: secret-word\n    topic: a/{point}\n    payload: '{\"v\":{value}}'\n    join: lines\n    compress: gzip\n    subscribe:\n      - { filter: in/+/#, device: \"{1}\", point: \"{2}\", value: /v }\n",
        )
        .unwrap();
        let one = &all[0];
        assert_eq!((one.port, one.tls.is_some(), one.gzip), (8883, true, true));
        assert_eq!(one.subscribe[0].device, Pick::Wildcard(0));
        assert!(!format!("{one:?}").contains("secret-word"));
    }

    #[test]
    fn gateways_with_equal_destinations_are_different_clients() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.yaml");
        let text = "state_dir: s\ncloud: { url: tcp://c, product_key: p, device_key: gw-7, acknowledge: puback }\n\
            destinations: [ { name: scada, url: tcp://b, topic: t } ]\n";
        std::fs::write(&file, text).unwrap();
        let config = crate::config::read_with(&file, Overrides::default()).unwrap();
        assert_eq!(config.destinations[0].client_id, "enos-edge-gw-7-scada");
    }

    #[test]
    fn two_destinations_on_one_broker_neither_feed_nor_end_each_other() {
        let two = |second: &str| {
            let reader = "subscribe: [ { filter: \"b/+\", device: d, point: p } ]";
            read(&format!(
                "  - {{ name: a, url: tcp://h, client_id: c1, topic: \"a/{{device}}\", {reader} }}\n  - {{ name: b, {second} }}\n"
            ))
        };
        let loops = two("url: \"tcp://h:1883\", client_id: c2, topic: \"b/{device}\"").unwrap_err();
        assert!(loops.contains("filter \"b/+\" of \"a\" covers topics \"b\" publishes to"), "{loops}");
        let backwards =
            two("url: tcp://h, client_id: c2, topic: c, subscribe: [ { filter: \"a/#\", device: d, point: p } ]");
        assert!(backwards.unwrap_err().contains("filter \"a/#\" of \"b\" covers topics \"a\""));
        let twice = two("url: tcp://h, client_id: c1, topic: c").unwrap_err();
        assert!(twice.contains("\"a\" and \"b\" have one client_id"), "{twice}");
        two("url: tcp://other, client_id: c1, topic: \"b/{device}\"").unwrap();
        two("url: tcp://h, client_id: c2, topic: \"b/x/{device}\"").unwrap();
    }

    #[test]
    fn every_fault_of_a_destination_is_told_with_its_remedy() {
        let faults = read(
            "  - { name: enos, url: http://x, topic: \"a/#\", qos: 0 }\n  - { name: x, url: tcp://h, client_id: c, topic: \"a/{gateway}\", payload: value, pasword: 1, password: p, ca_file: f }\n  - { name: y, url: tcp://h, client_id: c, topic: \"a/{device}\", payload: \"{time}\", subscribe: [ { filter: a/+, device: d, point: \"{3}\" }, { filter: b/+, device: \"{2}\", point: p, value: v } ] }\n  - { name: y, url: tcp://h, client_id: c, topic: t }\n  - { name: y, url: tcp://h, client_id: c, topic: t }\n",
        )
        .unwrap_err();
        for words in [
            "choose another name",
            "scheme \"http\"",
            "holds a wildcard",
            "with 0 nobody would know",
            "has no client_id",
            "there is no cloud",
            "add {point} to topic",
            "did you mean password",
            "a password and no user",
            "ca_file has no use",
            "loses what was read",
            "read its own messages for ever",
            "write a name, or {1}",
            "write a JSON pointer",
            "\"y\" occurs twice",
        ] {
            assert!(faults.contains(words), "{words} is missing in\n{faults}");
        }
    }
}
