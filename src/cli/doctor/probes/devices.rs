//! Sub-devices: who is silent, and whether their ports are open when nobody polls them.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::{Gateway, Ground};
use crate::cli::doctor::{seek, site};
use crate::cli::moments::relative;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Named one by one.
const SHOWN: usize = 10;
/// Connections tried while no gateway runs.
const TRIED: usize = 32;

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    match &ground.gateway {
        Gateway::Running(status) => told(status, ground.now),
        Gateway::Stopped => tried(&ground).await,
        Gateway::Silent(why) | Gateway::Unknown(why) => vec![Finding::unseen("sub-devices", why)],
    }
}

fn told(status: &Json, now: i64) -> Vec<Finding> {
    let connections: Vec<&Json> = status["south"]["connections"].as_array().into_iter().flatten().collect();
    let devices = || {
        connections
            .iter()
            .flat_map(|one| one["devices"].as_array().into_iter().flatten().map(move |device| (*one, device)))
    };
    let all = devices().count();
    let bad: Vec<(&Json, &Json)> =
        devices().filter(|(_, device)| matches!(device["state"].as_str(), Some("silent" | "not_connected"))).collect();
    let mut findings: Vec<Finding> =
        bad.iter().take(SHOWN).map(|(connection, device)| silent(connection, device, now)).collect();
    if bad.len() > SHOWN {
        findings.push(Finding::fault(format!("{} more are silent", bad.len() - SHOWN)).help("see `enos-edge status`"));
    }
    let refusing: Vec<&str> = devices()
        .filter(|(_, device)| device["exceptions"].as_u64() > Some(0))
        .filter_map(|(_, device)| device["name"].as_str())
        .collect();
    if let Some(first) = refusing.first() {
        findings.push(
            Finding::note(format!("{} devices refuse some values, {first} among them", refusing.len()))
                .help("`enos-edge monitor` shows which: their addresses are likely wrong in the point table"),
        );
    }
    findings.push(Finding::ok(format!("{} of {all} answer", all - bad.len())));
    findings
}

fn silent(connection: &Json, device: &Json, now: i64) -> Finding {
    let text = |json: &Json, key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let since = device["since"].as_i64().map(|at| relative(at, now)).unwrap_or_default();
    let mut why = text(device, "last_error");
    if why.is_empty() {
        why = text(connection, "last_error");
    }
    let endpoint = text(connection, "endpoint");
    let remedy = if endpoint.starts_with("tcp") || endpoint.starts_with("opc.tcp") {
        "check power and cable of the device, its address and port, and a firewall between"
    } else {
        "check power, wiring (A/B, ground, terminators), baud rate, parity and the unit's address"
    };
    let what = match device["state"].as_str() {
        Some("silent") => format!("does not answer since {since}: {why}"),
        _ => format!("no connection since {since}: {why}"),
    };
    Finding::fault(what).at(format!("{}, {endpoint}", text(device, "name"))).help(remedy)
}

/// Opens TCP to each address of the package, and says nothing there: some devices take one client only.
async fn tried(ground: &Arc<Ground>) -> Vec<Finding> {
    let config = match configured(ground, "sub-devices") {
        Ok(config) => config.clone(),
        Err(unseen) => return unseen,
    };
    let endpoints = tokio::task::spawn_blocking(move || {
        let site = site::current(&config)?;
        Some(site.connections.iter().map(|one| (one.name.clone(), one.plan.endpoint())).collect::<Vec<_>>())
    });
    let Ok(Some(endpoints)) = endpoints.await else {
        return vec![Finding::unseen("sub-devices", "no gateway runs, and no package can be loaded")];
    };
    let servers: BTreeSet<(String, String, u16)> = endpoints
        .into_iter()
        .filter_map(|(name, endpoint)| {
            let (host, port) = server(&endpoint)?;
            Some((name, host, port))
        })
        .collect();
    let mut asked = tokio::task::JoinSet::new();
    for (name, host, port) in servers.into_iter().take(TRIED) {
        asked.spawn(async move {
            let tried = async { seek::connect(&seek::resolve(&host, port).await?).await }.await;
            let finding = match tried {
                Ok(_) => Finding::ok(format!("tcp: port {port} of {host} is open")),
                Err(fault) => fault,
            };
            finding.at(name)
        });
    }
    let mut findings = asked.join_all().await;
    findings.sort_by(|a, b| (b.level, &a.r#where).cmp(&(a.level, &b.r#where)));
    findings.push(Finding::unseen("what sub-devices answer", "no gateway runs"));
    findings
}

/// Host and port of `tcp://10.0.0.7:502`, `opc.tcp://host:4840/path`; nothing for a line.
fn server(endpoint: &str) -> Option<(String, u16)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let (host, port) = rest.split('/').next()?.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    scheme.contains("tcp").then_some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_in_endpoints_and_lines_are_not() {
        assert_eq!(server("tcp://10.0.0.7:502"), Some(("10.0.0.7".to_owned(), 502)));
        assert_eq!(server("opc.tcp://[::1]:4840/a:b"), Some(("::1".to_owned(), 4840)));
        assert_eq!(server("/dev/ttyS1"), None);
    }
}
