//! All parts as operations see them: what `enos-edge status` shows, and who does what is asked.

use super::jobs::Jobs;
use super::oneself;
use super::packages::Packages;
use crate::cloud::AskDesk;
use crate::forward::{self, integration};
use crate::identity::Keeper;
use crate::model::cloud_ask::{CloudAsk, Wish};
use crate::model::{Command, Commands, Outcome};
use crate::operate::{self, Frames, Gateway, Refusal, UpdateWish};
use crate::outbox::{self, Outbox};
use crate::south::{Capture, Filter, South};
use crate::telemetry::Counters;
use crate::{cloud, diagnostic};
use driver::{Answer, Direction};
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Gaps and refused values that `status` lists, the newest last.
const LISTED: usize = 20;

/// A device that has not answered by then does not answer.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// The newest losses and refusals; null when the disk does not tell.
fn listings(outbox: &Outbox) -> (Json, Json) {
    fn rows<T: serde::Serialize>(rows: Result<Vec<T>, outbox::OutboxError>) -> Json {
        rows.map_or(Json::Null, |rows| json!(rows))
    }
    (rows(outbox.gaps(LISTED)), rows(outbox.set_aside_rows(LISTED)))
}

fn no_certificate() -> Refusal {
    let problem = "this gateway keeps no certificate itself; configure `certificate:` and `rest:`";
    Refusal::new("not_configured", problem)
}

/// All parts, as operations see them.
pub(super) struct Running {
    pub begun: Instant,
    pub packages: Arc<Packages>,
    pub engine: super::engine::Engine,
    pub south: Arc<South>,
    pub commands: Arc<dyn Commands>,
    pub audit_dir: PathBuf,
    pub outbox: Arc<Outbox>,
    /// Where the cloud is, for people.
    pub endpoint: Option<String>,
    pub cloud: Option<Arc<cloud::Status>>,
    pub keeper: Option<Arc<Keeper>>,
    pub integration: Option<Arc<integration::Status>>,
    pub certificate: Option<oneself::Certificate>,
    pub destinations: Vec<Arc<forward::Status>>,
    pub counters: Arc<Counters>,
    /// The ways in of packages.
    pub fetch: super::fetch::Shown,
    /// Long work that was asked for at the door.
    pub jobs: Jobs,
    pub updates: crate::update::runner::Updates,
    pub clocked: Arc<super::clock::Clocked>,
    /// Those that the gateway opens from inside.
    pub events: Arc<super::events::Events>,
    pub doors: Vec<Arc<crate::doors::outward::Status>>,
    /// Where questions to the cloud wait.
    pub desk: Option<Arc<AskDesk>>,
}

/// A connection that says nothing may be another one by now.
const ANOTHER: Duration = Duration::from_secs(2);

/// A capture as operations see it. It goes on with the connection of the same name in another package.
struct Listening {
    capture: Capture,
    south: Arc<South>,
    connection: String,
    gone: bool,
}

impl Listening {
    async fn frame(&mut self) -> Result<crate::south::Frame, Json> {
        loop {
            if let Ok(next) = tokio::time::timeout(ANOTHER, self.capture.next()).await {
                return next.map_err(|lost| json!({ "lost": lost }));
            }
            match self.south.capture(&self.connection) {
                Ok(now) if self.gone || !now.is_of(&self.capture) => (self.capture, self.gone) = (now, false),
                Ok(_) => {}
                Err(_) if self.gone => {}
                Err(error) => {
                    self.gone = true;
                    return Err(json!({ "gone": format!("{error}; its frames go on when a package has it again") }));
                }
            }
        }
    }
}

impl Frames for Listening {
    fn next(&mut self) -> Answer<'_, Json> {
        Box::pin(async move {
            match self.frame().await {
                Err(told) => told,
                Ok(frame) => {
                    let direction = match frame.direction {
                        Direction::Sent => "sent",
                        Direction::Received => "received",
                    };
                    let hex: String = frame.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    json!({ "direction": direction, "time": frame.time.0, "hex": hex })
                }
            }
        })
    }
}

impl Gateway for Running {
    fn status(&self, with_listings: bool) -> Answer<'_, Json> {
        Box::pin(async move {
            let mut outbox = json!(self.outbox.status());
            if with_listings {
                let asked = Arc::clone(&self.outbox);
                // They ask the disk, and the disk may be stuck.
                let listed = tokio::task::spawn_blocking(move || listings(&asked)).await;
                (outbox["gaps"], outbox["set_aside_rows"]) = listed.unwrap_or_default();
            }
            json!({
                "version": crate::version::current(),
                "uptime_s": self.begun.elapsed().as_secs(),
                "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
                "package": self.packages.status(),
                "engine": self.engine.status().await,
                "south": self.south.status(),
                "cloud": self.cloud.as_ref().map(|cloud| {
                    let mut cloud = json!(cloud.snapshot());
                    cloud["endpoint"] = json!(self.endpoint);
                    cloud["identity"] = json!(self.keeper.as_ref().map(|keeper| keeper.status()));
                    cloud
                }),
                "integration": self.integration.as_ref().map(|one| one.snapshot()),
                "destinations": self.destinations.iter().map(|one| one.snapshot()).collect::<Vec<_>>(),
                "events": self.events.status(),
                "clock": self.clocked.status(),
                "doors": self.doors.iter().map(|one| one.snapshot()).collect::<Vec<_>>(),
                "fetch": self.fetch.sources(),
                "push": self.fetch.push(),
                "update": self.updates.status(),
                "outbox": outbox,
                "counters": self.counters.all().collect::<std::collections::BTreeMap<_, _>>(),
            })
        })
    }

    fn frames(&self, connection: &str) -> Result<Box<dyn Frames>, Refusal> {
        let capture = self.south.capture(connection).map_err(|error| {
            let status = self.south.status();
            let known = diagnostic::did_you_mean(connection, status.connections.iter().map(|one| one.name.as_str()));
            Refusal::new("unknown_connection", format!("{error}; {known}"))
        })?;
        let (south, connection) = (Arc::clone(&self.south), connection.to_owned());
        Ok(Box::new(Listening { capture, south, connection, gone: false }))
    }

    fn command(&self, command: Command) -> Answer<'static, Outcome> {
        self.commands.perform(command)
    }

    fn certificate(&self) -> Result<Json, Refusal> {
        self.certificate.as_ref().map(oneself::Certificate::status).ok_or_else(no_certificate)
    }

    fn renew_certificate(&self) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async move {
            let certificate = self.certificate.as_ref().ok_or_else(no_certificate)?;
            let asked = certificate.handle().renew().await.map_err(|why| Refusal::new("no_certificate", why))?;
            Ok(json!(asked.facts))
        })
    }

    fn audit(&self) -> PathBuf {
        self.audit_dir.clone()
    }

    fn cloud(&self, wish: Wish) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async move {
            let desk = self.desk.as_ref().ok_or_else(|| Refusal::new("no_cloud", "no cloud is configured"))?;
            desk.ask(wish).await.map_err(|why| Refusal::new(operate::NO_ANSWER, why))
        })
    }

    fn fetch(&self, name: Option<&str>, look: bool) -> Result<Json, Refusal> {
        self.fetch.ask(name, look)
    }

    fn update(&self, wish: UpdateWish) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async move {
            let done = match wish {
                UpdateWish::Install { file, now, device } => self.updates.install(file, now, device).await,
                UpdateWish::Status => Ok(self.updates.status()),
                UpdateWish::History => Ok(self.updates.history()),
                UpdateWish::Cancel => self.updates.cancel().await,
                UpdateWish::RollBack => self.updates.roll_back().await,
            };
            done.map_err(|refused| Refusal::new(refused.code, refused.words))
        })
    }

    fn install_package(&self, from: PathBuf, force: bool) -> Answer<'_, Result<Json, Refusal>> {
        let packages = Arc::clone(&self.packages);
        Box::pin(self.jobs.run(async move { packages.install(from, force).await }))
    }

    fn roll_package_back(&self, to: Option<u64>) -> Answer<'_, Result<Json, Refusal>> {
        let packages = Arc::clone(&self.packages);
        Box::pin(self.jobs.run(async move { packages.roll_back(to).await }))
    }

    fn package_job(&self, job: u64) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(self.jobs.ask(job))
    }

    fn packages(&self) -> Answer<'_, Json> {
        Box::pin(self.packages.list())
    }

    fn package_history(&self) -> Answer<'_, Json> {
        Box::pin(self.packages.history())
    }

    fn values(&self, filter: &str) -> Json {
        let text = (!filter.is_empty()).then(|| filter.to_owned());
        json!(self.south.values(&Filter { text, ..Filter::default() }))
    }

    fn read<'a>(&'a self, device: &'a str, point: Option<&'a str>) -> Answer<'a, Result<Json, Refusal>> {
        Box::pin(async move {
            let lines = self.south.now();
            let connection = lines.connection_of(device).ok_or_else(|| {
                let known = diagnostic::did_you_mean(device, lines.devices());
                Refusal::new("unknown_device", format!("device \"{device}\" is not in the package; {known}"))
            })?;
            let read = lines.read_now(connection, device, READ_PATIENCE).await;
            let mut values = read.map_err(|e| Refusal::new(operate::NO_ANSWER, format!("device \"{device}\": {e}")))?;
            if let Some(point) = point {
                let all: Vec<String> = values.iter().map(|v| v.id.clone()).collect();
                values.retain(|v| v.id == point || v.point == point || v.name == point);
                if values.is_empty() {
                    let known = diagnostic::did_you_mean(point, all.iter().map(String::as_str));
                    let problem = format!("point \"{point}\" is not one of device \"{device}\"; {known}");
                    return Err(Refusal::new("unknown_point", problem));
                }
            }
            Ok(json!(values))
        })
    }
}
