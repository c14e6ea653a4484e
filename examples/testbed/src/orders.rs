//! What can be set beforehand and ordered while the stand-in cloud runs alone.

use crate::cloud::{Change, Cloud, Form, Order, Registry};
use crate::knob_words;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Flags of `testbed cloud` about products, certificates and commands.
#[derive(Debug, Args)]
pub struct Extras {
    /// A product whose devices may be activated with its secret, and whose integration channel it opens: productKey/secret.
    #[arg(long, value_parser = pair)]
    product: Vec<(String, String)>,
    /// A product (of --product) whose devices may not be activated.
    #[arg(long)]
    no_activation: Vec<String>,
    /// A product whose devices must show a client certificate.
    #[arg(long)]
    require_certificate: Vec<String>,
    /// PEM of the authorities whose client certificates are taken on the TLS port.
    #[arg(long)]
    client_ca: Option<PathBuf>,
    /// A command that waits 48 h for its device: `PK DK TOPIC JSON`.
    #[arg(long)]
    command: Vec<String>,
    /// A knob, as the order `knob` takes it: `online_limit 10000`.
    #[arg(long)]
    knob: Vec<String>,
}

impl Extras {
    /// The text of --client-ca.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn client_ca(&self) -> anyhow::Result<Option<String>> {
        let read = |file: &PathBuf| std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()));
        self.client_ca.as_ref().map(read).transpose()
    }

    /// Tells the registry of products.
    pub fn register(&self, registry: &mut Registry) {
        for (key, secret) in &self.product {
            registry.activating_product(key, secret);
        }
        for key in &self.no_activation {
            registry.product(key).dynamic_activation = false;
        }
        for key in &self.require_certificate {
            registry.product(key).needs_certificate = true;
        }
    }

    /// Turns the knobs and lets the commands wait.
    ///
    /// # Errors
    /// When one is not understood.
    pub fn apply(&self, cloud: &Cloud) -> anyhow::Result<()> {
        for words in &self.knob {
            knob_words::turn(cloud, words)?;
        }
        for words in &self.command {
            let order = Order { pending: Duration::from_secs(172_800), ..command(words)? };
            cloud.order(order).with_context(|| format!("--command {words}"))?;
        }
        Ok(())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, secret) = text.split_once('/').ok_or("expected productKey/secret")?;
    Ok((key.to_owned(), secret.to_owned()))
}

/// Every order beside those of [`crate::serve`], for people.
pub const ORDERS: &str = "command PK DK TOPIC [pending=S] [timeout=S] [id=ID] JSON, raw PK DK HEX, rrpc PK DK HEX, \
     repeat NUMBER, revoke NUMBER, tell PK DK enable|disable|delete [array|object|own], upgrade PK DK JSON, \
     offer PK DK JSON, ota PK DK, commands, records, events, reports, online PK DK, knob NAME VALUE";

/// Carries out one order. What it has to say comes as one line of JSON, a command's when its answer is there.
///
/// # Errors
/// When the order is not understood.
pub fn carry_out(cloud: &Arc<Cloud>, line: &str) -> anyhow::Result<Option<Value>> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "command" => start(cloud, command(rest)?),
        "upgrade" => {
            let (pk, dk, params) = device_and_rest(rest)?;
            let params = serde_json::from_str(params).context("upgrade: JSON")?;
            start_upgrade(cloud, pk.to_owned(), dk.to_owned(), params);
        }
        "offer" => {
            let (pk, dk, params) = device_and_rest(rest)?;
            cloud.offer_upgrade(pk, dk, serde_json::from_str(params).context("offer: JSON")?)?;
        }
        "raw" | "rrpc" => start_raw(cloud, word == "rrpc", rest)?,
        "repeat" => cloud.repeat(rest.trim().parse().context("repeat: number")?)?,
        "revoke" => return Ok(Some(json!({"revoked": cloud.revoke(rest.trim().parse().context("revoke: number")?)}))),
        "tell" => tell(cloud, rest)?,
        "commands" => return Ok(Some(serde_json::to_value(cloud.command_report())?)),
        "records" => return Ok(Some(serde_json::to_value(cloud.command_records())?)),
        "ota" => {
            let (pk, dk, _) = device_and_rest(rest)?;
            let found = cloud.ota(pk, dk).context("ota: no such device")?;
            let (version, job, progress) = (found.version, found.job, found.progress);
            return Ok(Some(json!({"version": version, "job": job, "progress": progress})));
        }
        "events" => return Ok(Some(serde_json::to_value(cloud.events())?)),
        "reports" => return Ok(Some(serde_json::to_value(cloud.reports())?)),
        "online" => {
            let (pk, dk, _) = device_and_rest(rest)?;
            let certificate = cloud.certificate_of(pk, dk);
            let (online, activated) = (cloud.is_online(pk, dk), cloud.is_activated(pk, dk));
            return Ok(Some(json!({"online": online, "activated": activated, "certificate": certificate})));
        }
        "knob" => knob_words::turn(cloud, rest)?,
        other => bail!("{other} is not known"),
    }
    Ok(None)
}

fn device_and_rest(text: &str) -> anyhow::Result<(&str, &str, &str)> {
    let mut words = text.splitn(3, ' ');
    match (words.next(), words.next()) {
        (Some(pk), Some(dk)) if !pk.is_empty() => Ok((pk, dk, words.next().unwrap_or("{}"))),
        _ => bail!("expected PK DK"),
    }
}

/// `PK DK TOPIC [pending=S] [timeout=S] [id=ID] JSON`
fn command(text: &str) -> anyhow::Result<Order> {
    let (pk, dk, rest) = device_and_rest(text)?;
    let (topic, mut rest) = rest.split_once(' ').unwrap_or((rest, "{}"));
    let mut order = Order::new((pk, dk), topic, Value::Null);
    while let Some((word, after)) = rest.split_once(' ')
        && let Some((name, value)) = word.split_once('=')
    {
        let seconds = || value.parse().map(Duration::from_secs_f64).with_context(|| format!("command: {word}"));
        match name {
            "pending" => order.pending = seconds()?,
            "timeout" => order.timeout = seconds()?,
            "id" => order.id = Some(value.to_owned()),
            _ => break,
        }
        rest = after;
    }
    order.params = serde_json::from_str(rest).with_context(|| format!("command: JSON {rest}"))?;
    Ok(order)
}

/// Prints what became of a command once that is known: within its time-out, and the time it may wait.
fn start(cloud: &Arc<Cloud>, order: Order) {
    let cloud = Arc::clone(cloud);
    tokio::spawn(async move {
        let topic = order.topic.clone();
        let answer = cloud.carry_out(order).await;
        say_answer(&topic, answer.map_err(|error| error.to_string()));
    });
}

fn start_upgrade(cloud: &Arc<Cloud>, pk: String, dk: String, params: Value) {
    let cloud = Arc::clone(cloud);
    tokio::spawn(async move {
        let answer = cloud.upgrade((&pk, &dk), params, Duration::from_secs(30)).await;
        say_answer("ota/device/upgrade", answer.map_err(|error| error.to_string()));
    });
}

fn start_raw(cloud: &Arc<Cloud>, rrpc: bool, text: &str) -> anyhow::Result<()> {
    let (pk, dk, hex) = device_and_rest(text)?;
    let (pk, dk) = (pk.to_owned(), dk.to_owned());
    let payload = bytes(hex).context("expected an even number of hex digits")?;
    let cloud = Arc::clone(cloud);
    tokio::spawn(async move {
        let timeout = Duration::from_secs(30);
        let answer = if rrpc {
            cloud.rrpc((&pk, &dk), payload.into(), timeout).await
        } else {
            cloud.raw((&pk, &dk), payload.into(), timeout).await
        };
        let answer =
            answer.map(|bytes| Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
        say_answer(if rrpc { "rrpc" } else { "raw" }, answer.map_err(|error| error.to_string()));
    });
    Ok(())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.trim().as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2))
        .collect()
}

fn say_answer(topic: &str, answer: Result<Value, String>) {
    let line = match answer {
        Ok(answer) => json!({"command": topic, "answer": answer}),
        Err(error) => json!({"command": topic, "error": error}),
    };
    println!("{line}");
}

fn tell(cloud: &Cloud, text: &str) -> anyhow::Result<()> {
    let (pk, dk, rest) = device_and_rest(text)?;
    let (word, form) = rest.split_once(' ').unwrap_or((rest, "array"));
    let change = match word {
        "enable" => Change::Enable,
        "disable" => Change::Disable,
        "delete" => Change::Delete,
        other => bail!("{other} is none of enable disable delete"),
    };
    let form = match form.trim() {
        "array" => Form::Array,
        "object" => Form::Object,
        "own" => Form::OwnTopic,
        other => bail!("{other} is none of array object own"),
    };
    cloud.change((pk, dk), change, form)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_with_and_without_its_options() {
        let plain = command("pk dk thing/service/x {\"a\": 1}").unwrap();
        assert_eq!((plain.topic.as_str(), plain.params), ("thing/service/x", json!({"a": 1})));
        let full = command("pk dk thing/service/measurepoint/get pending=5 timeout=0.5 id=7 [\"a b\"]").unwrap();
        assert_eq!((full.pending, full.timeout), (Duration::from_secs(5), Duration::from_millis(500)));
        assert_eq!((full.id.as_deref(), full.params), (Some("7"), json!(["a b"])));
        assert!(command("pk dk topic {").is_err() && command("pk").is_err());
        assert_eq!(bytes("0aff"), Some(vec![10, 255]));
        assert!(bytes("0af").is_none() && bytes("zz").is_none());
    }
}
