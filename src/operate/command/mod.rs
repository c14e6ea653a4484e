//! Carries commands out: one contract for every door.
//!
//! Understand, find the target, look whether it came before, check its age, the ranges and the state, note down on disk
//! that it is begun, write, read back, note down the outcome, answer. An id has one effect at most within a door, also
//! across `kill -9` and power cuts, and every command gets one answer.

mod act;
mod age;
pub mod audit;
mod digest;
mod entrance;
pub mod field;
mod interlock;
mod lines;
mod orders;
mod own;
mod record;
mod window;
mod words;

use crate::config::CommandConfig;
use crate::model::command::{Target, What, code};
use crate::model::update::Offers;
use crate::model::{Command, Commands, Outcome, Services, Site, Template, Timestamp};
use crate::telemetry::Counters;
use anyhow::Context;
use digest::Digest;
use driver::Answer;
use entrance::{Entrance, Entry, Ticket};
use field::Field;
use record::{Books, Identified, Note, Record};
use serde_json::{Map, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::SetOnce;
use tokio::time::Instant;
use window::{Key, Seen};
use words::{contents, kind, short, shown, what};

/// What a device may take to answer a command that was begun in time.
const ANSWER: Duration = Duration::from_secs(5);

/// The one carrier of commands of a gateway.
#[derive(Clone)]
pub struct Carrier(Arc<Inner>);

struct Inner {
    config: CommandConfig,
    /// Product key and device key of the gateway.
    edge: Option<(String, String)>,
    place: RwLock<Arc<Place>>,
    /// What the gateway itself can do.
    own: OnceLock<Arc<dyn Services>>,
    entrance: Arc<Entrance>,
    record: Record,
    counters: Arc<Counters>,
    /// Whoever takes updates, once there is somebody.
    offers: SetOnce<Arc<dyn Offers>>,
}

/// The devices of one package and the way to them. A command keeps the place it was found in: the numbers of another
/// package never lead it to another device.
struct Place {
    devices: Devices,
    field: Arc<dyn Field>,
}

struct Devices {
    keys: HashMap<(String, String), u32>,
    names: HashMap<String, u32>,
    /// By the index into `names.devices`.
    all: Vec<Option<(String, Arc<Template>)>>,
}

/// Whom a command concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Edge,
    Device(u32),
    Nobody,
}

/// One command on its way.
struct Job {
    command: Command,
    place: Arc<Place>,
    found: Found,
    identified: Option<Identified>,
    arrived: Instant,
    wall: Timestamp,
}

impl Carrier {
    /// Opens what is remembered. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the state folder takes no files.
    pub fn open(
        state_dir: &Path,
        config: &CommandConfig,
        edge: Option<(String, String)>,
        site: &Site,
        field: Arc<dyn Field>,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Carrier> {
        let books = Books::open(state_dir, config)
            .with_context(|| format!("open the record of commands in {}", state_dir.display()))?;
        let record = Record::start(books).context("start the record of commands")?;
        let entrance = Arc::new(Entrance::new(config.at_once, config.device_at_once));
        let place = RwLock::new(Arc::new(Place { devices: Devices::of(site), field }));
        let (own, offers) = (OnceLock::new(), SetOnce::new());
        let inner = Inner { config: config.clone(), edge, place, own, offers, entrance, record, counters };
        Ok(Carrier(Arc::new(inner)))
    }

    /// The gateway itself has services from now on. Said once.
    pub fn offer(&self, own: Arc<dyn Services>) {
        // Whoever came first stays.
        let _ = self.0.own.set(own);
    }

    /// Updates the cloud offers go there.
    pub fn use_offers(&self, offers: Arc<dyn Offers>) {
        // There is one for the life of the daemon.
        let _ = self.0.offers.set(offers);
    }

    /// Commands from now on mean this package; those under way go on with the one they came under.
    pub fn use_site(&self, site: &Site, field: Arc<dyn Field>) {
        let place = Arc::new(Place { devices: Devices::of(site), field });
        // It is replaced as a whole.
        *self.0.place.write().unwrap_or_else(PoisonError::into_inner) = place;
        self.0.entrance.forget_idle();
    }
}

impl Commands for Carrier {
    fn perform(&self, command: Command) -> Answer<'static, Outcome> {
        let inner = Arc::clone(&self.0);
        let job = inner.job(command);
        let lane = match job.found {
            Found::Device(device) => job.place.devices.get(device).map(|(name, _)| name.as_str()),
            Found::Edge | Found::Nobody => None,
        };
        match inner.entrance.enter(job.identified.as_ref(), lane) {
            Entry::Admitted(ticket) => {
                // A task of its own: it runs to its end even if the door that asked has gone.
                let task = tokio::spawn(async move { inner.carry(job, ticket).await });
                Box::pin(async move {
                    let failed = |_| Outcome::refused(code::UNCONFIRMED, "the gateway failed in the middle");
                    task.await.unwrap_or_else(failed)
                })
            }
            Entry::UnderWay(mut outcome) => {
                inner.counters.commands_repeated.add(1);
                Box::pin(async move {
                    let told = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
                    told.unwrap_or_else(|| Outcome::refused(code::UNCONFIRMED, "the gateway failed in the middle"))
                })
            }
            Entry::Reused => inner.turn_away(&job, id_reused()),
            Entry::Full => {
                let outcome = Outcome::refused(code::BUSY, "too many commands are under way; nothing was done");
                inner.turn_away(&job, outcome)
            }
        }
    }
}

fn id_reused() -> Outcome {
    Outcome::refused(code::ID_REUSED, "this id came before with other contents; nothing was done")
}

fn bygone(outcome: &Outcome, ago: i64) -> Outcome {
    let words = format!(
        "this id came with these contents {} min ago and was answered with code {}; it is not carried out again: \
         a new wish takes a new id or says issuedAt",
        ago / 60_000,
        outcome.code
    );
    Outcome::refused(code::ID_REUSED, words)
}

impl Inner {
    fn job(&self, command: Command) -> Job {
        let place = Arc::clone(&self.place.read().unwrap_or_else(PoisonError::into_inner));
        let found = self.find(&command.target, &place.devices);
        // An offer is the same one for ever: it is told apart by its file, and coming again it is told how it stands.
        let id = command.id.as_ref().filter(|_| !matches!(command.what, What::Ota(_)));
        let identified = id.map(|id| Identified {
            key: Key::new(&command.door, &format!("{:?} {}", command.target, kind(&command.what)), id),
            contents: Digest::of(&[contents(&command.what).as_bytes()]),
            issued: command.issued_at.map(|issued| issued.0),
        });
        Job { command, place, found, identified, arrived: Instant::now(), wall: Timestamp::now() }
    }

    fn find(&self, target: &Target, devices: &Devices) -> Found {
        let device = match target {
            Target::Edge => return Found::Edge,
            Target::Keys { product_key, device_key } => {
                if self.edge.as_ref().is_some_and(|(p, d)| p == product_key && d == device_key) {
                    return Found::Edge;
                }
                devices.keys.get(&(product_key.clone(), device_key.clone()))
            }
            Target::Name(name) => devices.names.get(name),
        };
        device.map_or(Found::Nobody, |device| Found::Device(*device))
    }

    /// Answers without remembering: nothing was done, and the same id may come again.
    fn turn_away(&self, job: &Job, outcome: Outcome) -> Answer<'static, Outcome> {
        self.counters.commands_refused.add(1);
        self.record.note(self.note(job, "refused", Some(&outcome)));
        Box::pin(async move { outcome })
    }

    async fn carry(&self, job: Job, mut ticket: Ticket) -> Outcome {
        let outcome = match self.known(&job).await {
            Some(outcome) => outcome,
            None => self.decide(&job, &mut ticket).await,
        };
        ticket.tell(&outcome);
        outcome
    }

    /// The answer to a command that came before.
    async fn known(&self, job: &Job) -> Option<Outcome> {
        let seen = match self.record.look(job.identified.clone()?).await {
            Ok(seen) => seen,
            Err(error) => {
                return Some(self.refuse_unrecorded(job, &error));
            }
        };
        let outcome = match seen {
            Seen::New => return None,
            Seen::Done(outcome, ago) if self.is_bygone(&outcome, ago) => {
                return Some(self.reused(job, bygone(&outcome, ago)));
            }
            Seen::Done(outcome, _) => outcome,
            Seen::Other => return Some(self.reused(job, id_reused())),
            Seen::Interrupted => {
                let words = "the gateway was stopped in the middle of it; whether it had an effect is not known";
                Outcome::refused(code::INTERRUPTED, words)
            }
        };
        self.counters.commands_repeated.add(1);
        self.record.note(self.note(job, "repeated", Some(&outcome)));
        Some(outcome)
    }

    /// Done so long ago that the caller may mean it anew: "done" would be a lie then.
    fn is_bygone(&self, outcome: &Outcome, ago: i64) -> bool {
        let effect = matches!(outcome.code, code::DONE | code::PARTLY | code::READ_BACK_DIFFERS);
        effect && u128::try_from(ago).unwrap_or(0) > self.config.reuse_id.as_millis()
    }

    fn reused(&self, job: &Job, outcome: Outcome) -> Outcome {
        self.counters.commands_refused.add(1);
        self.record.note(self.note(job, "refused", Some(&outcome)));
        outcome
    }

    async fn decide(&self, job: &Job, ticket: &mut Ticket) -> Outcome {
        match self.admit(job) {
            Ok(left) => self.act(job, ticket, job.arrived + left).await,
            Err(outcome) => self.refuse(job, outcome).await,
        }
    }

    /// What is left of its time, if it may be carried out as far as it says itself.
    fn admit(&self, job: &Job) -> Result<Duration, Outcome> {
        let command = &job.command;
        if self.config.forbid.contains(&command.door) {
            let words = format!("commands of {} are forbidden by the configuration", command.door);
            return Err(Outcome::refused(code::FORBIDDEN, words));
        }
        let left = age::left(command, job.wall, &self.config)
            .map_err(|why| Outcome::refused(code::EXPIRED, format!("{why}; nothing was done")))?;
        match job.found {
            Found::Nobody => {
                let words = format!("{} is not in the package", shown(&command.target));
                Err(Outcome::refused(code::UNKNOWN_DEVICE, words))
            }
            Found::Edge | Found::Device(_) => Ok(left),
        }
    }

    /// Answers no and remembers it: a repetition of what was refused is refused as well.
    async fn refuse(&self, job: &Job, outcome: Outcome) -> Outcome {
        self.counters.commands_refused.add(1);
        let note = self.note(job, "refused", Some(&outcome));
        if let Err(error) = self.record.end(job.identified.clone(), note, outcome.clone(), false).await {
            tracing::warn!(%error, "a refused command could not be noted down");
        }
        outcome
    }

    fn refuse_unrecorded(&self, job: &Job, error: &record::Refusal) -> Outcome {
        self.counters.commands_refused.add(1);
        tracing::error!(door = %job.command.door, %error, "a command can not be recorded and is not carried out");
        let code = if *error == record::Refusal::Full { code::BUSY } else { code::NOT_RECORDED };
        let outcome = Outcome::refused(code, format!("it can not be recorded: {error}; nothing was done"));
        // A stuck disk may take the begin after all; then this tells that nothing came of it.
        self.record.abandon(job.identified.clone(), self.note(job, "refused", Some(&outcome)), outcome.clone());
        outcome
    }

    /// A record of the audit. Values that were asked for are in it, so that it tells what was done.
    fn note(&self, job: &Job, event: &str, outcome: Option<&Outcome>) -> Note {
        let command = &job.command;
        let device = match job.found {
            Found::Device(device) => job.place.devices.get(device).map(|(name, _)| name.clone()),
            Found::Edge | Found::Nobody => None,
        };
        let mut note = Map::new();
        note.insert("event".to_owned(), json!(event));
        note.insert("door".to_owned(), json!(command.door));
        note.insert("id".to_owned(), json!(command.id.as_deref().map(short)));
        note.insert("device".to_owned(), json!(device));
        note.insert("target".to_owned(), json!(shown(&command.target)));
        note.insert("what".to_owned(), what(&command.what));
        note.insert("arrived".to_owned(), json!(job.wall.0));
        if let Some(issued) = command.issued_at {
            note.insert("issued_at".to_owned(), json!(issued.0));
        }
        if let Some(outcome) = outcome {
            note.insert("code".to_owned(), json!(outcome.code));
            note.insert("message".to_owned(), json!(outcome.message));
        }
        note
    }
}

impl Devices {
    fn of(site: &Site) -> Devices {
        let mut all: Vec<Option<(String, Arc<Template>)>> = vec![None; site.names.devices.len()];
        for connected in site.connections.iter().flat_map(|connection| &connection.devices) {
            let name = site.names.devices.get(connected.device as usize).map(|names| names.name.clone());
            if let (Some(place), Some(name)) = (all.get_mut(connected.device as usize), name) {
                *place = Some((name, Arc::clone(&connected.template)));
            }
        }
        let (mut keys, mut names) = (HashMap::new(), HashMap::new());
        for (index, device) in (0u32..).zip(&site.names.devices) {
            names.insert(device.name.clone(), index);
            if !device.product_key.is_empty() {
                keys.insert((device.product_key.clone(), device.device_key.clone()), index);
            }
        }
        Devices { keys, names, all }
    }

    fn get(&self, device: u32) -> Option<&(String, Arc<Template>)> {
        self.all.get(device as usize)?.as_ref()
    }
}
