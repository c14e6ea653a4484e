//! `push:` of `edge.yaml`: the gateway listens for packages that a person or a tool sends to it. Off until configured.

use super::numbers::{seconds, whole};
use super::{Secret, secret};
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{self, Faults, Fields};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The listener for packages.
#[derive(Clone, Debug)]
pub struct PushConfig {
    pub listen: SocketAddr,
    /// Certificate and key as PEM; `None` only on the loopback interface.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may send shows a certificate of this authority.
    pub client_ca_file: Option<PathBuf>,
    /// Who may send knows this.
    pub token: Option<Secret>,
    pub max_bytes: u64,
    /// In each span of this length something must come.
    pub stall: Duration,
    /// For a whole upload.
    pub deadline: Duration,
}

pub(super) const KEYS: &[&str] = &[
    "listen",
    "cert_file",
    "key_file",
    "client_ca_file",
    "token",
    "token_file",
    "token_credential",
    "max_mb",
    "stall_s",
    "deadline_s",
];

/// 96 bits in base64; shorter ones are guessed.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn read(own: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<PushConfig> {
    let listen = own.required("listen", faults).and_then(|text| {
        let address = text.text.parse::<SocketAddr>().ok();
        if address.is_none() {
            faults.push(fields::misfit(
                "listen",
                &text,
                "an address with its port: 0.0.0.0:8443, [::]:8443, 10.0.0.5:8443",
            ));
        }
        address
    });
    let file = |key: &str, faults: &mut Faults| own.text(key, faults).map(|text| folder.join(text.text));
    let (certificate, key) = (file("cert_file", faults), file("key_file", faults));
    let client_ca_file = file("client_ca_file", faults);
    let token = secret::read(own, "token", folder, faults);
    let mut complain = |problem: &str, help: &str| {
        faults.push(Diagnostic::error(own.place.clone(), format!("push {problem}")).help(help));
    };
    if certificate.is_some() != key.is_some() {
        complain("needs cert_file and key_file together", "name both files");
    }
    let tls = certificate.zip(key);
    if tls.is_none() && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        complain("listens without encryption only at 127.0.0.1 or [::1]", "name cert_file and key_file");
    }
    if client_ca_file.is_some() && tls.is_none() {
        complain("has client_ca_file and no certificate of its own", "name cert_file and key_file");
    }
    let named = ["token", "token_file", "token_credential"].iter().any(|key| own.node(key).is_some());
    if client_ca_file.is_none() && !named {
        complain("would take packages from anybody", "name client_ca_file, or a token with `token_file: …`");
    }
    if token.as_ref().is_some_and(|token| token.reveal().len() < SHORTEST_TOKEN) {
        complain("has a token of fewer than 16 characters", "make one with `openssl rand -base64 24`");
    }
    Some(PushConfig {
        listen: listen?,
        tls,
        client_ca_file,
        token,
        max_bytes: whole(own, "max_mb", 256, 1..=4096, faults) << 20,
        stall: seconds(own, "stall_s", 30, 1..=600, faults),
        deadline: seconds(own, "deadline_s", 3600, 5..=604_800, faults),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<PushConfig, String> {
        let file = "edge.yaml".into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "push", KEYS, &mut faults).unwrap();
        let config = read(&fields, Path::new("/etc"), &mut faults);
        if faults.is_empty() { Ok(config.unwrap()) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn nothing_listens_beyond_this_machine_in_plain_text_or_for_anybody() {
        let token = "token: 0123456789abcdef";
        parse(&format!("{{ listen: \"127.0.0.1:0\", {token} }}")).unwrap();
        parse("{ listen: \"0.0.0.0:8443\", cert_file: c, key_file: k, client_ca_file: a }").unwrap();
        for (text, word) in [
            (format!("{{ listen: \"0.0.0.0:8443\", {token} }}"), "without encryption only"),
            ("{ listen: \"0.0.0.0:8443\", cert_file: c, key_file: k }".to_owned(), "from anybody"),
            (format!("{{ listen: \"0.0.0.0:8443\", cert_file: c, {token} }}"), "together"),
            ("{ listen: \"127.0.0.1:1\", token: short }".to_owned(), "fewer than 16"),
            (format!("{{ listen: here, {token} }}"), "an address with its port"),
        ] {
            let told = parse(&text).unwrap_err();
            assert!(told.contains(word), "{word} is missing in\n{told}");
        }
    }
}
