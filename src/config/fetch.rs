//! `fetch:` of `edge.yaml`: where packages are fetched, how often, and as whom.

use super::fetch_address::{Address, Scheme};
use super::numbers::{seconds, whole};
use super::{ClientFiles, Secret, client_files, secret};
use crate::diagnostic::Diagnostic;
use crate::model::Glob;
use crate::yaml::fields::{self, Faults, Fields};
use driver::Text;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One source of packages.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Letters, digits, `-` and `_`; also the name of its files in the state folder.
    pub name: String,
    pub address: Address,
    pub when: When,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Private key of ssh.
    pub key_file: Option<PathBuf>,
    /// Host keys of ssh that are trusted.
    pub known_hosts_file: Option<PathBuf>,
    pub trust: Trust,
    /// Of HTTP and HTTPS; perhaps with user and password, so it is not shown.
    pub proxy: Option<Secret>,
    /// FTP that is encrypted from the first byte on.
    pub implicit_tls: bool,
    /// Where a redirect may lead beside the own host; no account goes there.
    pub redirect_hosts: Vec<String>,
    pub checksum: Checksum,
    /// A larger archive is refused before it fills the disk.
    pub max_bytes: u64,
    pub connect_timeout: Duration,
    /// In each span of this length something must come, 100 bytes a second at least.
    pub stall: Duration,
    /// For a whole attempt.
    pub deadline: Duration,
    pub places: Places,
    /// What a half-fetched archive is remembered by, where the address itself is another one each time.
    pub known_as: Option<String>,
    /// Whoever fetches holds the whole against a digest that was told before.
    pub vouched: bool,
}

/// Where an address may lead, redirects included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Places {
    /// Whoever wrote the configuration wrote the address.
    #[default]
    Anywhere,
    /// Somebody else wrote it: to one of these hosts (none: any), and never to this machine or its link unless the host is
    /// among them by its full name.
    Told(Vec<Glob>),
}

impl Places {
    /// # Errors
    /// Why not, in words.
    pub fn allow_host(&self, host: &str) -> Result<(), String> {
        match self {
            Places::Told(hosts) if !hosts.is_empty() && !hosts.iter().any(|glob| glob.matches(host)) => {
                Err(format!("host {host} is not one that files may come from"))
            }
            Places::Anywhere | Places::Told(_) => Ok(()),
        }
    }

    /// # Errors
    /// Why not, in words.
    pub fn allow_address(&self, host: &str, address: IpAddr) -> Result<(), String> {
        match self {
            Places::Told(hosts) if is_inside(address) && !hosts.iter().any(|glob| glob.as_str() == host) => {
                Err(format!("{host} is {address}, an address of this machine or its own link"))
            }
            Places::Anywhere | Places::Told(_) => Ok(()),
        }
    }
}

fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_inside(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
        },
    }
}

/// When a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After each such period, and on notice.
    Every(Duration),
    /// When the cloud or a person says so.
    OnNotice,
    /// When a person says so.
    Manual,
}

/// What the server must show in TLS.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// PEM; `None` trusts the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the server's certificate; then no authority is asked.
    pub pin: Option<[u8; 32]>,
    pub client: Option<ClientFiles>,
}

/// Whether `ADDRESS.sha256` beside the archive is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Compared when it is there.
    Optional,
    /// Without it the archive is not taken.
    Required,
    /// Not asked for.
    Ignore,
}

pub(super) const KEYS: &[&str] = &[
    "name",
    "url",
    "when",
    "every_s",
    "user",
    "password",
    "password_file",
    "password_credential",
    "cleartext",
    "key_file",
    "known_hosts_file",
    "ca_file",
    "certificate_sha256",
    "client_cert_file",
    "client_key_file",
    "proxy",
    "redirect_hosts",
    "implicit_tls",
    "active",
    "checksum",
    "max_mb",
    "connect_timeout_s",
    "stall_s",
    "deadline_s",
];

const CHECKSUMS: &[(&str, Checksum)] =
    &[("optional", Checksum::Optional), ("required", Checksum::Required), ("ignore", Checksum::Ignore)];
const WHENS: &[(&str, When)] =
    &[("every", When::Every(Duration::ZERO)), ("on_notice", When::OnNotice), ("manual", When::Manual)];

/// More sources than any site has.
const MOST: usize = 32;

pub(super) fn read(config: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Vec<SourceConfig> {
    let nodes = config.list("fetch", faults);
    if let Some(node) = nodes.get(MOST) {
        let fault = Diagnostic::error(fields::place(config.file, node), format!("fetch has more than {MOST} sources"));
        faults.push(fault.help("leave out those nobody needs"));
    }
    let mut sources: Vec<SourceConfig> = Vec::new();
    for node in nodes.iter().take(MOST) {
        let Some(own) = Fields::open(config.file, node, "source of fetch", KEYS, faults) else { continue };
        let Some(source) = source(&own, folder, faults) else { continue };
        if sources.iter().any(|other| other.name == source.name) {
            let fault = Diagnostic::error(own.place.clone(), format!("name \"{}\" is taken", source.name));
            faults.push(fault.help("give each source a name of its own"));
        }
        sources.push(source);
    }
    sources
}

fn source(own: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<SourceConfig> {
    let name = own.required("name", faults).and_then(|text| name(text, faults));
    let url = own.required("url", faults);
    let address = url.as_ref().and_then(|text| {
        let complain = |problem| Diagnostic::error(text.place.clone(), format!("url: {problem}"));
        Address::parse(&text.text).map_err(|problem| faults.push(complain(problem))).ok()
    });
    let every = seconds(own, "every_s", 3600, 10..=2_678_400, faults);
    let when = match own.word("when", WHENS, faults) {
        None | Some(When::Every(_)) => When::Every(every),
        Some(other) => other,
    };
    let user = own.text("user", faults).and_then(|text| harmless("user", text, faults));
    let password = secret::read(own, "password", folder, faults);
    let file = |key: &str, faults: &mut Faults| own.text(key, faults).map(|text| folder.join(text.text));
    let key_file = file("key_file", faults);
    let known_hosts_file = file("known_hosts_file", faults);
    let ca_file = file("ca_file", faults);
    let pin = own.text("certificate_sha256", faults).and_then(|text| pin(&text, faults));
    let tls = address.as_ref().is_none_or(|address| address.scheme.is_tls());
    let client = client_files::read(own, folder, tls, faults);
    let proxy = own.text("proxy", faults).and_then(|text| super::rest::proxy(&text, faults));
    if own.flag("active", false, faults) {
        let fault = Diagnostic::error(own.place.clone(), "active: true would open a port of the gateway to the server");
        faults.push(fault.help("leave it out: ftp is spoken passively"));
    }
    let mut address = address;
    let implicit_tls = implicit_tls(own, address.as_mut(), faults);
    let cleartext = own.flag("cleartext", false, faults);
    let checksum = own.word("checksum", CHECKSUMS, faults).unwrap_or(Checksum::Optional);
    let source = SourceConfig {
        name: name?,
        address: address?,
        when,
        user,
        password,
        key_file,
        known_hosts_file,
        trust: Trust { ca_file, pin, client },
        proxy,
        implicit_tls,
        redirect_hosts: redirect_hosts(own, faults),
        checksum,
        max_bytes: whole(own, "max_mb", 256, 1..=4096, faults) << 20,
        connect_timeout: seconds(own, "connect_timeout_s", 10, 1..=120, faults),
        stall: seconds(own, "stall_s", 30, 1..=600, faults),
        deadline: seconds(own, "deadline_s", 3600, 5..=604_800, faults),
        places: Places::Anywhere,
        known_as: None,
        vouched: false,
    };
    fit(own, &source, cleartext, faults);
    Some(source)
}

/// Keys that do not go with the scheme, and those that it needs.
fn fit(own: &Fields<'_, '_>, source: &SourceConfig, cleartext: bool, faults: &mut Faults) {
    let scheme = source.address.scheme;
    let mut complain = |problem: String, help: &str| {
        faults.push(Diagnostic::error(own.place.clone(), format!("source {}: {problem}", source.name)).help(help));
    };
    let word = scheme.word();
    let useless = |key: &str, fits: bool| own.node(key).is_some() && !fits;
    for (key, fits) in [
        ("proxy", scheme.is_http()),
        ("redirect_hosts", scheme.is_http()),
        ("implicit_tls", scheme == Scheme::Ftps),
        ("ca_file", scheme.is_tls()),
        ("certificate_sha256", scheme.is_tls()),
        ("key_file", scheme == Scheme::Sftp),
        ("known_hosts_file", scheme == Scheme::Sftp),
        ("user", scheme != Scheme::File),
    ] {
        if useless(key, fits) {
            complain(format!("{key} has no use with {word}://"), "leave it out, or write another scheme in url");
        }
    }
    if source.trust.pin.is_some() && source.trust.ca_file.is_some() {
        complain("ca_file and certificate_sha256 exclude each other".to_owned(), "keep one of them");
    }
    if source.password.is_some() {
        match scheme {
            Scheme::Sftp => complain("sftp takes a key, not a password".to_owned(), "name a private key in key_file"),
            Scheme::File => complain("password has no use with file://".to_owned(), "leave it out"),
            Scheme::Http | Scheme::Ftp if !cleartext => complain(
                format!("{word}:// would send the password for everybody to read"),
                "use an encrypted scheme, or write `cleartext: true` if the network is yours alone",
            ),
            _ if source.user.is_none() => complain("password without user".to_owned(), "write `user: …`"),
            _ => {}
        }
    }
    if scheme == Scheme::Sftp {
        if source.user.is_none() || source.key_file.is_none() || source.known_hosts_file.is_none() {
            complain(
                "sftp needs user, key_file and known_hosts_file".to_owned(),
                "known_hosts_file: what `ssh-keyscan HOST` prints, compared with what the server's owner says",
            );
        }
        if source.address.host.starts_with('-') {
            complain("the host begins with a dash".to_owned(), "write its name");
        }
    }
}

/// The port for it says so, and it says the port.
fn implicit_tls(own: &Fields<'_, '_>, address: Option<&mut Address>, faults: &mut Faults) -> bool {
    const PORT: u16 = 990;
    let Some(address) = address.filter(|address| address.scheme == Scheme::Ftps) else { return false };
    let implicit = own.flag("implicit_tls", address.port == PORT, faults);
    if implicit && address.port == Scheme::Ftps.default_port() {
        address.port = PORT;
    }
    implicit
}

/// Names of hosts, without port.
fn redirect_hosts(own: &Fields<'_, '_>, faults: &mut Faults) -> Vec<String> {
    let mut hosts = Vec::new();
    for node in own.list("redirect_hosts", faults) {
        let Some(text) = fields::scalar(own.file, node, "redirect_hosts", faults) else { continue };
        let lower = text.text.to_ascii_lowercase();
        let fits = !lower.is_empty() && !lower.contains(['/', '@', '*', ' ']) && !lower.contains("://");
        if fits {
            hosts.push(lower.trim_start_matches('[').trim_end_matches(']').to_owned());
        } else {
            faults.push(fields::misfit("redirect_hosts", &text, "names of hosts, without scheme, port and wildcards"));
        }
    }
    hosts
}

fn name(text: Text, faults: &mut Faults) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = !text.text.is_empty() && text.text.len() <= 64 && text.text.chars().all(good) && text.text != "push";
    if !fits {
        faults.push(fields::misfit("name", &text, "up to 64 letters, digits, - and _; not `push`"));
    }
    fits.then_some(text.text)
}

/// It becomes a line of a protocol, or a word of a command.
fn harmless(key: &str, text: Text, faults: &mut Faults) -> Option<String> {
    let bad = text.text.starts_with('-') || text.text.chars().any(|c| c.is_control() || c.is_whitespace());
    if bad {
        faults.push(fields::misfit(key, &text, "no blanks, no control characters, no dash in front"));
    }
    (!bad).then_some(text.text)
}

pub(super) fn pin(text: &Text, faults: &mut Faults) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.text.bytes().filter(|byte| *byte != b':').collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    let pin = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if pin.is_none() {
        let help = "64 hex digits, as `openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE` prints them";
        faults.push(fields::misfit("certificate_sha256", text, help));
    }
    pin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<Vec<SourceConfig>, String> {
        let file = "edge.yaml".into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "configuration", &["fetch"], &mut faults).unwrap();
        let sources = read(&fields, Path::new("/etc"), &mut faults);
        if faults.is_empty() { Ok(sources) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn a_source_needs_a_name_and_an_address_only() {
        let source = &parse("fetch: [{ name: site, url: https://h/site.zip }]").unwrap()[0];
        assert_eq!(source.when, When::Every(Duration::from_secs(3600)));
        assert_eq!((source.max_bytes, source.checksum), (256 << 20, Checksum::Optional));
        let pinned = format!(
            "fetch: {{ name: a, url: ftps://h/, when: manual, certificate_sha256: \"{}\" }}",
            "aB:".repeat(31) + "00"
        );
        let source = &parse(&pinned).unwrap()[0];
        assert_eq!((source.when, source.trust.pin.unwrap()[..2].to_vec()), (When::Manual, vec![0xab, 0xab]));
    }

    #[test]
    fn ftp_is_encrypted_from_the_first_byte_at_its_port_or_when_said() {
        let of = |more: &str| {
            let source = parse(&format!("fetch: {{ name: a, {more} }}")).unwrap().remove(0);
            (source.implicit_tls, source.address.port)
        };
        assert_eq!(of("url: ftps://h/"), (false, 21));
        assert_eq!(of("url: ftps://h:990/"), (true, 990));
        assert_eq!(of("url: ftps://h/, implicit_tls: true"), (true, 990));
        assert_eq!(of("url: ftps://h:2121/, implicit_tls: true"), (true, 2121));
        assert_eq!(of("url: ftps://h:990/, implicit_tls: false"), (false, 990));
        assert!(parse("fetch: { name: a, url: ftp://h/, implicit_tls: true }").unwrap_err().contains("has no use"));
        assert!(parse("fetch: { name: a, url: http://h/, redirect_hosts: [\"*\"] }").unwrap_err().contains("hosts"));
    }

    #[test]
    fn a_told_address_leads_out_of_this_machine_unless_its_host_is_named() {
        let places = |hosts: &[&str]| Places::Told(hosts.iter().map(|host| Glob::new(host)).collect());
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
        ] {
            let address = inside.parse().unwrap();
            assert!(places(&[]).allow_address("h", address).is_err(), "{inside}");
            assert!(places(&["*"]).allow_address("h", address).is_err(), "{inside}");
            assert!(
                places(&["h"]).allow_address("h", address).is_ok()
                    && Places::Anywhere.allow_address("h", address).is_ok()
            );
        }
        assert!(places(&[]).allow_address("h", "10.0.0.1".parse().unwrap()).is_ok());
        assert!(places(&["*.example.com"]).allow_host("files.example.com").is_ok());
        assert!(
            places(&["*.example.com"]).allow_host("example.com.evil").is_err() && places(&[]).allow_host("any").is_ok()
        );
    }

    #[test]
    fn every_fault_of_every_source_is_told() {
        let faults = parse(
            "fetch:\n- { name: a b, url: https://u:hunter2@h/x }\n- { name: c, url: ftp://h/, user: u, password: hunter2, proxy: http://p }\n\
             - { name: d, url: sftp://h/x, user: u, password: x }\n- { name: e, url: https://h/, certificate_sha256: abc, active: true }\n\
             - { name: f, url: http://h/, user: \"-oProxyCommand=x\", every_s: 1 }\n- { name: c, url: ftp://h/ }\n",
        )
        .unwrap_err();
        for word in [
            "edge.yaml:2:11: name: \"a b\"",
            "account has no place",
            "for everybody to read",
            "proxy has no use with ftp",
            "takes a key",
            "sftp needs user",
            "64 hex digits",
            "active: true",
            "no dash in front",
            "every_s: \"1\"",
            "name \"c\" is taken",
        ] {
            assert!(faults.contains(word), "{word} is missing in\n{faults}");
        }
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}
