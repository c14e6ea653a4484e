//! Name, port and TLS of every server, with the very settings the daemon uses.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::places::{self, Way};
use crate::cli::doctor::seek;
use crate::config::SourceConfig;
use crate::fetch::{Errand, once};
use crate::model::progress::Progress;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A source is asked for its archive without taking it.
const SOURCE: Duration = Duration::from_secs(10);
const SOURCE_STEP: Duration = Duration::from_secs(3);

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    let config = match configured(&ground, "servers") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let now = ground.now;
    let mut asked = tokio::task::JoinSet::new();
    for (order, place) in places::all(config).into_iter().enumerate() {
        let at = format!("{}, {}:{}", place.who, place.host, place.port);
        match place.way {
            Way::Source(source) => {
                let source = source.clone();
                asked.spawn(async move { (order, self::source(source).await.at(at)) });
            }
            Way::Proxy(proxy) => {
                asked.spawn(async move { (order, through(&proxy).await.at(at)) });
            }
            Way::Plain => {
                asked.spawn(async move { (order, server(&place.host, place.port, None, now).await.at(at)) });
            }
            Way::Tls(tls) => {
                asked.spawn(async move { (order, server(&place.host, place.port, Some(tls), now).await.at(at)) });
            }
        }
    }
    let mut found = asked.join_all().await;
    found.sort_by_key(|(order, _)| *order);
    let findings: Vec<Finding> = found.into_iter().map(|(_, finding)| finding).collect();
    if findings.is_empty() { vec![Finding::ok("no server is configured")] } else { findings }
}

type Tls = Result<Arc<rustls::ClientConfig>, String>;

async fn server(host: &str, port: u16, tls: Option<Tls>, now: i64) -> Finding {
    let addresses = match seek::resolve(host, port).await {
        Ok(addresses) => addresses,
        Err(fault) => return Finding { what: format!("name: {}", fault.what), ..fault },
    };
    let stream = match seek::connect(&addresses).await {
        Ok(stream) => stream,
        Err(fault) => return fault,
    };
    match tls {
        None => Finding::ok(format!("tcp: port {port} is open; without encryption, as configured")),
        Some(Err(why)) => Finding::fault(format!("tls can not begin: {why}")).help("mend the file that is named"),
        Some(Ok(config)) => seek::tls(host, &addresses, stream, config, now).await,
    }
}

/// How far one comes to the proxy; what is behind it answers to the daemon.
async fn through(proxy: &str) -> Finding {
    let Ok(url) = reqwest::Url::parse(proxy) else { return Finding::fault("proxy: no address") };
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let finding = server(&host, url.port_or_known_default().unwrap_or(80), None, 0).await;
    Finding { what: format!("proxy {host}: {}", finding.what), ..finding }
}

/// The daemon's own steps, as far as the archive; what they leave lies in a folder that is removed.
async fn source(mut source: SourceConfig) -> Finding {
    source.connect_timeout = source.connect_timeout.min(SOURCE_STEP);
    source.stall = source.stall.min(SOURCE_STEP);
    source.deadline = source.deadline.min(SOURCE);
    // Nobody else can have made it, nor look into it: root asks too.
    let folder = std::env::temp_dir().join(format!("enos-edge-doctor-{:016x}", fastrand::u64(..)));
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        return Finding::unseen("the archive", format!("{}: {error}", folder.display()));
    }
    let (watcher, nobody) = (|_: &_| (), Progress::default());
    let errand = Errand { source: &source, folder: &folder, to: None, watcher: &watcher, progress: &nobody };
    let asked = timeout(SOURCE, once(&errand)).await;
    // Best effort: it is the system's folder for what may go.
    let _ = std::fs::remove_dir_all(&folder);
    match asked {
        Ok(Ok(_)) => Finding::ok("the archive is there and could be fetched"),
        Ok(Err(trouble)) => {
            let otherwise = "see `enos-edge package fetch --dry-run`, and the server's log".to_owned();
            let remedy = if trouble.remedy.is_empty() { otherwise } else { trouble.remedy };
            Finding::fault(format!("{}: {}", trouble.step.word(), trouble.problem)).help(remedy)
        }
        Err(_) => Finding::fault(format!("the archive is not reached within {SOURCE:?}"))
            .help("see `enos-edge package fetch --dry-run` for the step that hangs"),
    }
}
