//! `doors:` of `edge.yaml`: connections that the gateway opens to the cloud's side, ports 8043 and 8099 by custom, through
//! which it is commanded, tested and watched. Nothing listens here for them.

use super::address::{self, Address};
use super::{ClientFiles, Secret, TlsConfig, client_files, secret};
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields, misfit, scalar, word};
use std::path::Path;

/// One connection that is kept open.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// The audit names it.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsConfig>,
    pub client_files: Option<ClientFiles>,
    /// Who asks proves with it that he may, line by line.
    pub key: Option<Secret>,
    pub allow: Vec<Right>,
}

/// What may be asked at a door; each is given by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// What the gateway knows already.
    Look,
    /// What makes it ask devices, and raw messages.
    Test,
    /// What changes something in a device.
    Control,
    /// Packages, updates, certificates.
    Manage,
}

impl Right {
    #[must_use]
    pub fn word(self) -> &'static str {
        RIGHTS.iter().find(|(_, right)| *right == self).map_or("", |(word, _)| word)
    }
}

const RIGHTS: &[(&str, Right)] =
    &[("look", Right::Look), ("test", Right::Test), ("control", Right::Control), ("manage", Right::Manage)];

pub(super) const KEYS: &[&str] =
    &["name", "url", "ca_file", "client_cert_file", "client_key_file", "key", "key_file", "key_credential", "allow"];

/// Without encryption and with it: the ports that the vendor's product uses.
const PORTS: [u16; 2] = [8099, 8043];
/// 96 bits in base64; shorter ones are guessed.
const SHORTEST_KEY: usize = 16;
const MOST: usize = 4;
/// Names that the audit uses for others.
const RESERVED: &[&str] = &["enos", "integration", "local"];

/// `taken`: names of brokers, which are doors too.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, taken: &[&str], faults: &mut Faults) -> Vec<DoorConfig> {
    let mut all: Vec<DoorConfig> = Vec::new();
    for (at, node) in fields.list("doors", faults).iter().enumerate() {
        let Some(own) = Fields::open(fields.file, node, "door", KEYS, faults) else { continue };
        if at == MOST {
            faults.push(Diagnostic::error(own.place.clone(), format!("more than {MOST} doors")).help("remove some"));
        }
        let Some(door) = door(&own, folder, faults) else { continue };
        if all.iter().any(|other| other.name == door.name) || taken.contains(&door.name.as_str()) {
            let problem = format!("the name \"{}\" is taken by another door or destination", door.name);
            faults.push(Diagnostic::error(own.place.clone(), problem).help("the audit tells doors by their names"));
        }
        all.push(door);
    }
    all
}

fn door(own: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<DoorConfig> {
    let name = own.required("name", faults).filter(|text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let fits = (1..=40).contains(&text.text.len()) && text.text.chars().all(plain);
        let free = fits && !RESERVED.contains(&text.text.as_str());
        if !free {
            faults.push(misfit("name", text, "1 to 40 letters, digits, - or _, and not enos, integration or local"));
        }
        free
    });
    let address = own.required("url", faults).and_then(|url| address::mqtt_with(&url, PORTS, faults));
    let secure = address.as_ref().is_none_or(|address| address.secure);
    let ca_file = own.text("ca_file", faults);
    if let (false, Some(ca)) = (secure, &ca_file) {
        let fault = Diagnostic::error(ca.place.clone(), "ca_file has no use with tcp://");
        faults.push(fault.help("write ssl:// in url to encrypt"));
    }
    let client_files = client_files::read(own, folder, secure, faults);
    let named = ["key", "key_file", "key_credential"].iter().any(|key| own.node(key).is_some());
    let key = secret::read(own, "key", folder, faults);
    if key.as_ref().is_some_and(|key| key.reveal().len() < SHORTEST_KEY) {
        let fault = Diagnostic::error(own.place.clone(), "the door's key has fewer than 16 characters");
        faults.push(fault.help("make one with `openssl rand -base64 24`"));
    }
    if !secure && !named {
        // Without encryption anybody on the way could speak for the cloud.
        let fault = Diagnostic::error(own.place.clone(), "a door with tcp:// would obey anybody on the way");
        faults.push(fault.help("write ssl:// in url, or name a key with `key_file: …`"));
    }
    let allow = allow(own, faults);
    let Address { host, port, secure } = address?;
    Some(DoorConfig {
        name: name?.text,
        host,
        port,
        tls: secure.then(|| TlsConfig { ca_file: ca_file.map(|ca| folder.join(ca.text)) }),
        client_files,
        key,
        allow,
    })
}

/// Looking and testing, unless it says otherwise.
fn allow(own: &Fields<'_, '_>, faults: &mut Faults) -> Vec<Right> {
    if own.node("allow").is_none() {
        return vec![Right::Look, Right::Test];
    }
    let nodes = own.list("allow", faults);
    let texts: Vec<_> = nodes.iter().filter_map(|node| scalar(own.file, node, "allow", faults)).collect();
    texts.iter().filter_map(|text| word("allow", text, RIGHTS, faults)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<Vec<DoorConfig>, String> {
        let file = "edge.yaml".into();
        let text = format!("doors:\n{text}");
        let (node, found) = crate::yaml::parse(&file, &text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "configuration", &["doors"], &mut faults).unwrap();
        let doors = read(&fields, Path::new("/etc"), &["scada"], &mut faults);
        if faults.errors() == 0 { Ok(doors) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn the_customary_ports_are_the_defaults_and_only_looking_and_testing_is_allowed() {
        let doors =
            parse("- { name: a, url: \"ssl://c\" }\n- { name: b, url: \"tcp://c\", key: 0123456789abcdef }").unwrap();
        assert_eq!(doors.iter().map(|door| door.port).collect::<Vec<_>>(), [8043, 8099]);
        assert!(doors[0].tls.is_some() && doors[1].tls.is_none());
        assert_eq!(doors[0].allow, [Right::Look, Right::Test]);
        let all = parse("- { name: a, url: \"ssl://c:1\", allow: [control, manage] }").unwrap();
        assert_eq!((all[0].port, &all[0].allow[..]), (1, &[Right::Control, Right::Manage][..]));
    }

    #[test]
    fn what_anybody_could_use_is_refused_with_its_place() {
        for (text, word) in [
            ("- { name: a, url: \"tcp://c:8099\" }", "2:3: a door with tcp:// would obey anybody"),
            ("- { name: a, url: \"tcp://c:8099\", key: short }", "fewer than 16"),
            ("- { name: local, url: \"ssl://c\" }", "2:11: name"),
            ("- { name: scada, url: \"ssl://c\" }", "is taken"),
            ("- { name: a, url: \"ssl://c\" }\n- { name: a, url: \"ssl://d\" }", "3:3: the name \"a\" is taken"),
            ("- { name: a, url: \"http://c\" }", "scheme \"http\""),
            ("- { name: a, url: \"ssl://::1\" }", "stands in brackets: [::1]"),
            ("- { name: a, url: \"ssl://c\", allow: [contrl] }", "did you mean control?"),
            ("- { name: a, url: \"ssl://c\", alow: [look] }", "did you mean allow?"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(word), "{word} is missing in\n{told}");
        }
    }
}
