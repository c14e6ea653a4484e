//! `enos-edge engine list | use | confirm`: what a person sees of the engine's slots, and may choose.

use super::moments::stamp;
use super::status::text;
use super::terminal::{say, table};
use super::{DEFAULT_CONFIG, failed};
use crate::engine::{Folder, Place, Record, Slot, Slots, Started, on_trial, proof};
use crate::store::RealDisk;
use crate::update::keys;
use crate::{config, diagnostic, version};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The engine that runs, and those in the slots.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show which engines there are, which one is current, and how the last change ended.
    List(Common),
    /// Choose the engine that starts next: packaged, a or b. It is not on trial then.
    Use {
        #[arg(value_parser = place)]
        engine: Place,
        #[command(flatten)]
        common: Common,
    },
    /// Say that the engine on trial is the one from now on.
    Confirm(Common),
}

#[derive(clap::Args)]
struct Common {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// State folder, instead of the one the configuration names.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// One JSON object for a script.
    #[arg(long)]
    json: bool,
}

fn place(word: &str) -> Result<Place, String> {
    Place::parse(word).ok_or_else(|| "write packaged, a or b".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (common, done) = match &arguments.command {
        Command::List(common) => (common, Desk::open(common).and_then(|desk| desk.list())),
        Command::Use { engine, common } => (common, Desk::open(common).and_then(|desk| desk.choose(*engine))),
        Command::Confirm(common) => (common, Desk::open(common).and_then(|desk| desk.confirm())),
    };
    match done {
        Ok(found) if common.json => say(&format!("{found}\n")),
        Ok(found) => say(&shown(&found)),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

/// The slots on disk, whether an engine runs or not.
struct Desk {
    config: config::LaunchConfig,
    slots: Slots,
    /// Who runs the engines.
    user: u32,
}

impl Desk {
    fn open(common: &Common) -> anyhow::Result<Desk> {
        let config = config::launch(&common.config, common.state_dir.clone())
            .map_err(|faults| anyhow::anyhow!("{}", diagnostic::joined(&faults)))?;
        let folder = Folder::of(&config.state_dir);
        // This program is the packaged engine: nobody launched it, and it runs in no slot.
        let started = Started { packaged: Some(version::current().to_owned()), place: Place::Packaged };
        let user = runner(&config.state_dir);
        Ok(Desk { slots: Slots::new(Arc::new(RealDisk), folder, started), config, user })
    }

    fn list(&self) -> anyhow::Result<Json> {
        let record = self.slots.record().context("read the pointer to the engine")?;
        Ok(self.described(&record))
    }

    fn described(&self, record: &Record) -> Json {
        let mut found = on_trial::describe(record);
        found["packaged"] = json!(version::current());
        let keys = keys::load(&self.config.update, &self.config.state_dir);
        for slot in Slot::ALL {
            let Some(facts) = found["slots"].get_mut(slot.word()) else { continue };
            let proven = match &keys {
                Ok(keys) => proof::prove(self.slots.folder(), slot, keys, self.user).map(drop),
                Err(faults) => Err(diagnostic::joined(faults)),
            };
            facts["doubt"] = json!(proven.err());
        }
        found
    }

    fn choose(&self, place: Place) -> anyhow::Result<Json> {
        if let Some(slot) = place.slot() {
            let keys = keys::load(&self.config.update, &self.config.state_dir)
                .map_err(|faults| anyhow::anyhow!("{}", diagnostic::joined(&faults)))?;
            proof::prove(self.slots.folder(), slot, &keys, self.user)
                .map_err(|why| anyhow::anyhow!("slot {slot:?} is not taken: {why}", slot = slot.word()))?;
        }
        let record = self.slots.choose(place, version::current()).context("set the pointer to the engine")?;
        self.give_away()?;
        Ok(self.described(&record))
    }

    fn confirm(&self) -> anyhow::Result<Json> {
        let record = self.slots.record().context("read the pointer to the engine")?;
        anyhow::ensure!(record.trial.is_some(), "no engine is on trial");
        self.slots.confirm("a person confirmed it").context("set the pointer to the engine")?;
        self.give_away()?;
        self.list()
    }

    /// What root wrote, the daemon must be able to read and replace: it belongs to whom the state folder does.
    fn give_away(&self) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let owner = std::fs::metadata(&self.config.state_dir).context("look at the state folder")?;
        let folder = self.slots.folder().path();
        for path in [folder.to_owned(), folder.join("pointer"), folder.join("lock")] {
            match std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid())) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("give {} to the daemon", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whoever asks; when root asks, the owner of the state folder, as the service runs with his rights.
fn runner(state_dir: &Path) -> u32 {
    let user = rustix::process::geteuid();
    let owner = std::fs::metadata(state_dir).ok().filter(|_| user.is_root());
    owner.map_or(user.as_raw(), |owner| owner.uid())
}

fn shown(found: &Json) -> String {
    let mark = |place: &str| {
        let is = |key: &str| found[key] == place;
        match (is("current"), is("previous")) {
            (true, _) if !found["trial"].is_null() => "on trial",
            (true, _) => "current",
            (false, true) => "previous",
            _ => "",
        }
        .to_owned()
    };
    let mut rows = vec![vec!["packaged".to_owned(), text(&found["packaged"]), mark("packaged")]];
    rows[0].extend([String::new(), String::new()]);
    for slot in Slot::ALL {
        let facts = &found["slots"][slot.word()];
        if facts.is_object() {
            let at = facts["at"].as_i64().map(stamp).unwrap_or_default();
            rows.push(vec![
                slot.word().to_owned(),
                text(&facts["version"]),
                mark(slot.word()),
                at,
                text(&facts["doubt"]),
            ]);
        }
    }
    let mut page = table(&["engine", "version", "", "installed", "not started because"], &rows);
    let last = &found["last"];
    if last.is_object() {
        let when = last["at"].as_i64().map(stamp).unwrap_or_default();
        let how = text(&last["how"]).replace('_', " ");
        page.push_str(&format!("last change: {how} {} {when}: {}\n", text(&last["version"]), text(&last["why"])));
    }
    page
}
