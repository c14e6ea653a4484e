//! Every secret this machine's gateway knows, so that none of them leaves it: whoever packs a bundle looks for each.

use super::blank;
use crate::config::Config;
use crate::package::generations;
use crate::package::source::{Limits, Source};
use crate::store::RealDisk;
use crate::yaml::{self, Kind, Node};
use serde_json::Value as Json;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A gateway with more of them is none.
const MOST: usize = 300_000;
/// A secret is a line; a key some of them.
const LARGEST: u64 = 64 << 10;

/// Of the configuration, the state folder, the package and the environment, as far as this user may read them.
pub(super) fn all(config_path: &Path, config: Option<&Config>) -> Vec<String> {
    let mut found = Vec::new();
    configured(config_path, &mut found);
    environment(&mut found);
    if let Some(config) = config {
        for folder in ["secrets", "identity", "pki", "opcua"] {
            below(&config.state_dir.join(folder), 4, &mut found);
        }
        packaged(config, &mut found);
    }
    found.truncate(MOST);
    found
}

fn configured(path: &Path, found: &mut Vec<String>) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let (node, _) = yaml::parse(&"edge.yaml".into(), &text);
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Some(node) = node {
        tree(&node, false, found, &mut |file, found| value_of(&folder.join(file), found));
    }
}

/// Values of keys that name a secret, and all below them; files that such keys name.
fn tree(node: &Node<'_>, secret: bool, found: &mut Vec<String>, file: &mut dyn FnMut(&str, &mut Vec<String>)) {
    match &node.kind {
        Kind::Map(pairs) => {
            for (key, value) in pairs {
                match &value.kind {
                    Kind::Text(text) if key.text.ends_with("_file") => file(text, found),
                    _ => tree(value, secret || blank::is_secret(&key.text), found, file),
                }
            }
        }
        Kind::List(items) => items.iter().for_each(|item| tree(item, secret, found, file)),
        // One of many lines is looked for line by line.
        Kind::Text(text) if secret => found.extend(text.lines().map(|line| line.trim().to_owned())),
        Kind::Text(text) => account(text, found),
        Kind::Null => {}
    }
}

/// `user:password@` of an address.
fn account(text: &str, found: &mut Vec<String>) {
    let Some((_, rest)) = text.split_once("://") else { return };
    let Some((account, _)) = rest.rsplit_once('@') else { return };
    let password = account.split_once(':').map_or(account, |(_, password)| password);
    found.push(password.to_owned());
    if let Ok(url) = reqwest::Url::parse(text) {
        found.extend(url.password().map(str::to_owned));
    }
    found.push(decoded(password));
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A file that holds a secret: text, JSON, or PEM. Certificates are none.
fn value_of(path: &Path, found: &mut Vec<String>) {
    let Some(text) = small(path) else { return };
    if let Ok(json @ (Json::Object(_) | Json::Array(_))) = serde_json::from_str::<Json>(&text) {
        strings(&json, false, found);
        return;
    }
    if text.contains("PRIVATE KEY-----") {
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with("-----") {
                inside = line.contains("BEGIN") && line.contains("PRIVATE KEY");
            } else if inside && line.len() >= 16 {
                found.push(line.trim().to_owned());
            }
        }
        return;
    }
    if text.contains("-----BEGIN") {
        return;
    }
    // A table or a page of text is no secret; its lines are common words.
    if text.lines().count() <= 4 {
        found.extend(text.lines().map(|line| line.trim().to_owned()));
    }
}

fn strings(json: &Json, wanted: bool, found: &mut Vec<String>) {
    match json {
        Json::String(text) if wanted => {
            found.extend(text.lines().filter(|line| !line.starts_with("-----")).map(|line| line.trim().to_owned()));
        }
        Json::Array(items) => items.iter().for_each(|item| strings(item, wanted, found)),
        Json::Object(fields) => {
            fields.iter().for_each(|(key, value)| strings(value, wanted || blank::is_secret(key), found))
        }
        _ => {}
    }
}

fn small(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

fn below(folder: &Path, depth: usize, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    for path in paths {
        if found.len() > MOST {
            return;
        }
        if path.is_dir() && depth > 0 {
            below(&path, depth - 1, found);
        } else {
            value_of(&path, found);
        }
    }
}

/// Passwords of devices in the package that runs and in the one that the configuration names.
fn packaged(config: &Config, found: &mut Vec<String>) {
    let current = generations::current(&RealDisk, &config.state_dir).ok().flatten().map(|(_, path)| path);
    for path in current.into_iter().chain(config.package.clone()) {
        let Ok(source) = Source::open(&path, &Limits::default()) else { continue };
        let names: Vec<String> = source.files().filter(|name| name.ends_with(".yaml")).map(str::to_owned).collect();
        for name in names {
            let mut text = String::new();
            let read =
                source.reader(&name).ok().and_then(|reader| reader.take(64 << 20).read_to_string(&mut text).ok());
            if read.is_some()
                && let (Some(node), _) = yaml::parse(&name.as_str().into(), &text)
            {
                let secrets = config.state_dir.join("secrets");
                tree(&node, false, found, &mut |file, found| value_of(&secrets.join(file), found));
            }
        }
    }
}

/// Variables that name a secret, accounts in proxies, and what systemd hands over.
fn environment(found: &mut Vec<String>) {
    for (name, value) in std::env::vars() {
        if blank::is_secret(&name) || name.to_ascii_lowercase().ends_with("key") {
            found.push(value);
        } else {
            account(&value, found);
        }
    }
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        below(Path::new(&folder), 0, found);
    }
}
