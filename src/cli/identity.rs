//! `enos-edge identity`: how the gateway proves itself to the cloud, and how an activated secret is laid aside.
//!
//! It looks at the configuration and the state folder, not at the running gateway: identities are in trouble when
//! nothing runs.

use super::failed;
use super::terminal::say;
use crate::config::{CloudConfig, Config};
use crate::identity::activation::{Keys, Known};
use crate::identity::certificate::Slots;
use crate::identity::{FOLDER, Keeper};
use crate::store::{Disk, RealDisk};
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show how the gateway proves itself. No secret is shown.
    Show(Show),
    /// Lay the activated device secret aside, so that the next start activates anew with the product secret.
    Forget(Common),
}

#[derive(clap::Args)]
struct Common {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// State folder, instead of the one the configuration names.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    common: Common,
    /// One JSON object for a script.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let done = match &arguments.what {
        What::Show(show) => self::show(show),
        What::Forget(common) => forget(common),
    };
    match done {
        Ok(text) => say(&format!("{text}\n")),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

fn show(show: &Show) -> anyhow::Result<String> {
    let (config, cloud) = read(&show.common)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut keeper = Keeper::open(&cloud, &config.state_dir, Arc::clone(&disk));
    if config.certificate.is_some() {
        let folder = config.state_dir.join(FOLDER);
        keeper = keeper.with_certificates(Arc::new(Slots::open(disk, &folder, &cloud.product_key, &cloud.device_key)));
    }
    let status = keeper.status();
    Ok(if show.json { status.to_string() } else { super::status::identity(&status).join("\n") })
}

fn forget(common: &Common) -> anyhow::Result<String> {
    let (config, cloud) = read(common)?;
    let keys = Keys::new(&cloud.product_key, &cloud.device_key);
    let any = Known::forget(&RealDisk, &config.state_dir.join(FOLDER), &keys).map_err(anyhow::Error::msg)?;
    let device = format!("device {} of product {}", keys.device_key, keys.product_key);
    Ok(match (any, cloud.product_secret.is_some()) {
        (false, _) => format!("no activated secret is stored for {device}"),
        (true, true) => format!("the secret of {device} is laid aside; restart the gateway to activate it anew"),
        (true, false) => {
            format!(
                "the secret of {device} is laid aside; configure product_secret or device_secret before the next start"
            )
        }
    })
}

fn read(common: &Common) -> anyhow::Result<(Config, CloudConfig)> {
    let overrides = crate::config::Overrides { state_dir: common.state_dir.clone(), package: None };
    let config = crate::config::read_with(&common.config, overrides)
        .map_err(|faults| anyhow::anyhow!("{}", crate::diagnostic::joined(&faults)))?;
    let cloud = config.cloud.clone().context("no cloud is configured")?;
    Ok((config, cloud))
}
