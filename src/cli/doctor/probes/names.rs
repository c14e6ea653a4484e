//! Are the names of all servers known?

use super::configured;
use crate::cli::doctor::finding::{Finding, Level};
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::{places, seek};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    let config = match configured(&ground, "names") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let mut hosts: BTreeMap<String, (u16, Vec<String>)> = BTreeMap::new();
    for place in places::all(config) {
        if place.host.parse::<IpAddr>().is_err() {
            hosts.entry(place.host).or_insert((place.port, Vec::new())).1.push(place.who);
        }
    }
    if hosts.is_empty() {
        return vec![Finding::ok("no server is named: addresses only")];
    }
    let mut asked = tokio::task::JoinSet::new();
    for (host, (port, who)) in hosts {
        asked.spawn(async move {
            match seek::resolve(&host, port).await {
                Ok(found) => {
                    let found: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
                    Finding::ok(format!("{host} is {}", found.join(", ")))
                }
                Err(fault) => fault,
            }
            .at(who.join(", "))
        });
    }
    let mut findings = asked.join_all().await;
    findings.sort_by(|a, b| a.what.cmp(&b.what));
    let failed = findings.iter().filter(|finding| finding.level == Level::Fault).count();
    if failed == findings.len() && failed > 1 {
        let servers = ground.text("etc/resolv.conf").unwrap_or_default();
        let servers: Vec<&str> = servers.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
        let told = if servers.is_empty() {
            "no name server is set".to_owned()
        } else {
            format!("the name server is {}", servers.join(", "))
        };
        findings.push(
            Finding::fault(format!("no name is known; {told}"))
                .at("/etc/resolv.conf")
                .help("set a name server that answers (`resolvectl status`), or write addresses into /etc/hosts"),
        );
    }
    findings
}
