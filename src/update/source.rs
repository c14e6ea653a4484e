//! PURE. What the address of an offer means: which server it leads to, and whether it may.

use super::job::Origin;
use crate::config::{Address, Checksum, Places, Scheme, SourceConfig, UpdateConfig, When};
use crate::model::Glob;
use crate::model::update::Offer;
use reqwest::Url;
use std::time::Duration;

/// Schemes of files that the cloud keeps itself, and what its HTTP broker gives for them.
const KEPT: &[(&str, Gives)] = &[("enos-connect", Gives::File), ("enos-lark", Gives::Link)];

/// What the broker is asked for, as the vendor's SDK does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    File,
    /// An address at the store behind it.
    Link,
}

impl Gives {
    fn path(self) -> &'static [&'static str] {
        match self {
            Gives::File => &["file", "download"],
            Gives::Link => &["file", "download", "url"],
        }
    }
}

/// Where the file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// On a server that gives it to whoever knows the address.
    Web(Address),
    /// At the cloud's HTTP broker, which wants a login first.
    Broker { base: String, uri: String, gives: Gives },
}

/// # Errors
/// Why the address can not be taken, in words.
pub fn way(offer: &Offer, config: &UpdateConfig) -> Result<Way, String> {
    let Some((scheme, file)) = offer.url.split_once("://") else {
        let Some(base) = &config.base_url else {
            return Err("fileUrl is a path without a server; update.base_url says what it is put behind".to_owned());
        };
        return web(&format!("{base}/{}", offer.url.trim_start_matches('/')), config);
    };
    if let Some((kept, gives)) = KEPT.iter().find(|(kept, _)| kept.eq_ignore_ascii_case(scheme)) {
        if file.chars().all(|c| c == '/' || c.is_whitespace()) {
            return Err(format!("fileUrl {kept}:// names no file; upload the firmware to the cloud again"));
        }
        let Some(base) = &config.http_broker else {
            return Err(format!(
                "fileUrl {scheme}:// is a file at the HTTP broker; update.http_broker says where that is"
            ));
        };
        return Ok(Way::Broker { base: base.clone(), uri: offer.url.clone(), gives: *gives });
    }
    web(&offer.url, config)
}

/// Where the broker says that the file lies.
///
/// # Errors
/// As for an address of the cloud's.
pub fn linked(url: &str, config: &UpdateConfig) -> Result<Address, String> {
    match web(url, config)? {
        Way::Web(address) => Ok(address),
        Way::Broker { .. } => Err("the HTTP broker points to itself".to_owned()),
    }
}

fn web(url: &str, config: &UpdateConfig) -> Result<Way, String> {
    let address = Address::parse(url).map_err(|problem| format!("fileUrl: {problem}"))?;
    match address.scheme {
        Scheme::Http if !config.cleartext => {
            Err("fileUrl goes without encryption; offer https://, or write cleartext: true below update:".to_owned())
        }
        Scheme::Http | Scheme::Https => {
            let barred = |problem| format!("fileUrl: {problem}; update.hosts names those that are taken");
            allowed(&address.host, &places(config)).map_err(barred)?;
            Ok(Way::Web(address))
        }
        other => Err(format!("fileUrl: {}:// is not fetched for updates; offer https://", other.word())),
    }
}

/// The cloud shows a line of 256 letters, and the reason has to have room in it.
const SHOWN: usize = 120;

/// The file as whoever offered it knows it: an address without account and query, which may hold keys.
#[must_use]
pub fn shown(origin: &Origin) -> String {
    let url = match origin {
        Origin::File(path) => return path.clone(),
        Origin::Cloud(offer) => offer.url.split(['?', '#']).next().unwrap_or_default(),
    };
    let plain = match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
        }
        None => url.to_owned(),
    };
    let plain: Vec<char> = plain.chars().filter(|c| !c.is_control()).collect();
    let over = plain.len().saturating_sub(SHOWN);
    if over == 0 { plain.into_iter().collect() } else { format!("…{}", plain[over..].iter().collect::<String>()) }
}

/// As far as it can be told before the name is resolved.
fn allowed(host: &str, places: &Places) -> Result<(), String> {
    places.allow_host(host)?;
    match host.parse() {
        Ok(address) => places.allow_address(host, address),
        Err(_) => Ok(()),
    }
}

fn places(config: &UpdateConfig) -> Places {
    Places::Told(config.hosts.iter().map(|host| Glob::new(host)).collect())
}

/// The address of a file at the HTTP broker, for a session and the gateway that has it: firmware of sub-devices too is read
/// by the one that logged in, as the vendor's SDK does.
///
/// # Errors
/// When the configured broker is no address.
pub fn at_broker(
    base: &str,
    (product_key, device_key): (&str, &str),
    (uri, gives): (&str, Gives),
    session: &str,
) -> Result<Url, String> {
    let mut url = Url::parse(base).map_err(|error| format!("update.http_broker: {error}"))?;
    url.path_segments_mut()
        .map_err(|()| "update.http_broker is no base".to_owned())?
        .pop_if_empty()
        .extend(["multipart", "sys", product_key, device_key])
        .extend(gives.path());
    url.query_pairs_mut().append_pair("sessionId", session).append_pair("fileUri", uri).append_pair("category", "ota");
    Ok(url)
}

/// How long one attempt may take before the next goes on where it ended.
const ATTEMPT: Duration = Duration::from_secs(3600);

/// Where one attempt asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub address: Address,
    /// The file's name at the broker, where the address is another one each time.
    pub known_as: Option<String>,
    /// The address is of the configuration, not of the cloud.
    pub own: bool,
}

/// As the fetcher takes it.
#[must_use]
pub fn config(name: &str, found: Found, size: u64, config: &UpdateConfig) -> SourceConfig {
    let Found { address, known_as, own } = found;
    SourceConfig {
        name: name.to_owned(),
        address,
        when: When::Manual,
        user: None,
        password: None,
        key_file: None,
        known_hosts_file: None,
        trust: config.trust.clone(),
        proxy: config.proxy.clone(),
        checksum: Checksum::Ignore,
        implicit_tls: false,
        redirect_hosts: config.hosts.clone(),
        max_bytes: size,
        connect_timeout: config.connect_timeout,
        stall: config.stall,
        deadline: config.deadline.min(ATTEMPT),
        places: if own { Places::Anywhere } else { places(config) },
        known_as,
        vouched: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::job::tests::offer;

    fn of(url: &str, config: &UpdateConfig) -> Result<Way, String> {
        way(&Offer { url: url.into(), ..offer("1.0.0") }, config)
    }

    #[test]
    fn only_addresses_that_lead_somewhere_allowed_are_taken() {
        let bare = UpdateConfig::default();
        assert!(matches!(of("https://h/f?t=1", &bare), Ok(Way::Web(_))));
        for (url, words) in [
            ("http://h/f", "without encryption"),
            ("/files/f.bin", "base_url"),
            ("enos-connect://f.zip", "http_broker"),
            ("enos-lark://f.zip", "http_broker"),
            ("ENOS-Connect://f.zip", "http_broker"),
            ("enos-connect://", "names no file"),
            ("enos-lark:/// /", "names no file"),
            ("ftp://h/f", "not fetched for updates"),
            ("file:///etc/shadow", "not fetched for updates"),
            ("https://u:p@h/f", "account"),
            ("gopher://h/f", "not known"),
            ("https://127.0.0.1/f", "address of this machine"),
            ("https://169.254.169.254/latest", "address of this machine"),
            ("https://[::1]/f", "address of this machine"),
        ] {
            let told = of(url, &bare).unwrap_err();
            assert!(told.contains(words), "{url}: {told}");
        }
        let some = UpdateConfig {
            cleartext: true,
            hosts: vec!["*.example.com".into()],
            base_url: Some("https://files.example.com/x".into()),
            http_broker: Some("https://broker".into()),
            ..UpdateConfig::default()
        };
        assert!(of("http://a.example.com/f", &some).is_ok());
        assert!(of("https://evil.com/f", &some).unwrap_err().contains("host evil.com"));
        let Ok(Way::Web(address)) = of("/a/f.bin", &some) else { panic!("a path has a base") };
        assert_eq!(address.to_string(), "https://files.example.com/x/a/f.bin");
        assert!(matches!(of("enos-connect://f", &some), Ok(Way::Broker { .. })));
    }

    #[test]
    fn a_file_is_shown_as_it_was_offered_and_without_keys() {
        let shown = |url: &str| shown(&Origin::Cloud(Offer { url: url.into(), ..offer("1.0.0") }));
        assert_eq!(shown("https://u:p@h:8443/a/f.bin?sign=x&token=y#z"), "https://h:8443/a/f.bin");
        assert_eq!(shown("enos-connect://abc/f.zip"), "enos-connect://abc/f.zip");
        assert_eq!(shown("/files/f\u{1b}.bin?sign=x"), "/files/f.bin");
        let long = shown(&format!("https://h/{}/f.bin", "a".repeat(500)));
        assert!(long.chars().count() == SHOWN + 1 && long.ends_with("/f.bin"), "{long}");
    }

    #[test]
    fn a_file_of_the_broker_is_asked_for_as_the_sdk_does() {
        let address = at_broker("https://b:8443", ("产品", "gw.1"), ("enos-connect://a b/c.zip?x", Gives::File), "s&1");
        assert_eq!(
            address.unwrap().as_str(),
            "https://b:8443/multipart/sys/%E4%BA%A7%E5%93%81/gw.1/file/download?sessionId=s%261&fileUri=enos-connect%3A%2F%2Fa+b%2Fc.zip%3Fx&category=ota"
        );
    }
}
