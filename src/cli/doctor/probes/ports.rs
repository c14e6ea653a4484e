//! Where the gateway listens: is the port its own?

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::{Gateway, Ground};
use crate::cli::doctor::holders;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "ports") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let mut findings = vec![door(ground, config)];
    if let Some(push) = &config.push {
        let at = format!("push, {}", push.listen);
        let listens = ground.status().map(|status| status["push"]["listen"].is_string());
        findings.push(
            match (listens, TcpListener::bind(push.listen)) {
                (Some(true), _) => Finding::ok("the gateway listens"),
                (Some(false), Ok(_)) => {
                    Finding::fault("the gateway runs and does not listen").help("see its log for why")
                }
                (None, Ok(_)) => Finding::ok("the port is free"),
                (None, Err(error))
                    if error.kind() == std::io::ErrorKind::AddrInUse && !matches!(ground.gateway, Gateway::Stopped) =>
                {
                    Finding::note("the port is taken, as it is when the gateway runs")
                }
                (_, Err(error)) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    let holder = holders::of_port(&ground.root, push.listen.port());
                    let who = holder.map_or_else(|| "another program".to_owned(), |who| who.to_string());
                    Finding::fault(format!("{who} listens there"))
                        .help("stop it, or choose another port in push: listen")
                }
                (_, Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    Finding::note(format!("this user may not listen there: {error}"))
                        .help("below 1024 the service needs AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit")
                }
                (_, Err(error)) => Finding::fault(format!("nobody can listen there: {error}"))
                    .help("check the address in push: listen"),
            }
            .at(at),
        );
    }
    findings
}

/// What will keep the gateway from opening its door.
fn barred(ground: &Ground, door: &Path) -> Option<Finding> {
    let found = std::fs::symlink_metadata(door).ok()?;
    if !found.file_type().is_socket() {
        return Some(
            Finding::fault("is no socket: the gateway does not start")
                .help(format!("mv {0} {0}.aside, or write another control_socket", door.display())),
        );
    }
    // systemd holds it on behalf of a gateway that does not run.
    let holder =
        holders::of_door(&ground.root, door).filter(|holder| holder.process != 1 && holder.name != "systemd")?;
    Some(
        Finding::fault(format!("{holder} listens there: the gateway does not start"))
            .help("stop it, or write another control_socket"),
    )
}

fn door(ground: &Ground, config: &crate::config::Config) -> Finding {
    let place = config.control_socket.display();
    if let (Gateway::Stopped, Some(finding)) = (&ground.gateway, barred(ground, &config.control_socket)) {
        return finding.at(place);
    }
    match &ground.gateway {
        Gateway::Running(_) => Finding::ok("the local door answers").at(place),
        Gateway::Stopped => Finding::note("the gateway does not run; the local door is shut").at(place).help(
            "start it: `systemctl start enos-edge`; if it ends at once, its log says why: `journalctl -u enos-edge`",
        ),
        Gateway::Unknown(why) => Finding::unseen("the local door", why).at(place),
        Gateway::Silent(why) => Finding::fault(format!("the gateway hangs: {why}"))
            .at(place)
            .help("take a support bundle first, then restart it: `systemctl restart enos-edge`"),
    }
}
