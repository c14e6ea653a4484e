//! Starts the task of updates and tells it what can be updated here.

use super::cloud_link::CloudTask;
use super::devices::Devices;
use super::engine::Engine;
use super::packages::Packages;
use crate::config::Config;
use crate::diagnostic;
use crate::model::cloud_ask::CloudAsk;
use crate::model::identity::Identity;
use crate::model::update::{Deaf, Ear};
use crate::operate::command::Carrier;
use crate::package::trust::PublicKey;
use crate::shutdown::Restart;
use crate::store::RealDisk;
use crate::update::conditions::Warned;
use crate::update::device::SubDevice;
use crate::update::firmware::Firmware;
use crate::update::runner::{self, Around, Ports, Updates};
use crate::update::shelf::Shelf;
use crate::update::{Failure, Kind, Stage, Target, keys};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// At work.
pub(super) struct UpdateTask {
    pub handle: Updates,
    pub task: JoinHandle<()>,
}

/// What can be updated here, by what a file says it is for.
struct Here {
    engine: Arc<dyn Target>,
    packages: Arc<Packages>,
    devices: Devices,
    firmware_dir: PathBuf,
    state_dir: PathBuf,
    restart: Restart,
}

impl Around for Here {
    fn target(&self, kind: &Kind) -> Result<Arc<dyn Target>, Failure> {
        match kind {
            Kind::Engine { .. } => Ok(Arc::clone(&self.engine)),
            Kind::Firmware { target, .. } => {
                let firmware = Firmware::open(&self.firmware_dir, target, &self.state_dir)?;
                Ok(Arc::new(firmware))
            }
            Kind::Device { .. } => {
                Err(Failure::new(Stage::Refused, "it is firmware of a sub-device, and none is named"))
            }
        }
    }

    fn device(&self, product_key: &str, device_key: &str) -> Option<String> {
        let site = self.packages.site();
        let whose =
            |names: &&crate::model::DeviceNames| names.product_key == product_key && names.device_key == device_key;
        site.names.devices.iter().find(whose).map(|names| names.name.clone())
    }

    fn sub_device(&self, name: &str) -> Option<Arc<dyn SubDevice>> {
        self.devices.find(name)
    }

    fn keys_of(&self, name: &str) -> Option<(String, String)> {
        self.devices.keys_of(name)
    }

    fn versions(&self) -> Vec<(String, String, String)> {
        self.devices.versions()
    }

    fn restart(&self) {
        self.restart.ask();
    }
}

pub(super) fn start(
    config: &Config,
    cloud: &Option<CloudTask>,
    packages: &Arc<Packages>,
    carrier: &Carrier,
    engine: &Engine,
    restart: &Restart,
    stopped: &watch::Receiver<bool>,
) -> UpdateTask {
    let ear: Arc<dyn Ear> = cloud.as_ref().map_or_else(|| Arc::new(Deaf) as _, |cloud| Arc::clone(&cloud.updates) as _);
    let ports = Ports {
        config: config.update.clone(),
        shelf: Shelf::new(Arc::new(RealDisk), &config.state_dir),
        keys: trusted(config),
        ear,
        around: Arc::new(Here {
            engine: Arc::clone(&engine.target) as _,
            packages: Arc::clone(packages),
            devices: Devices { packages: Arc::clone(packages), south: packages.south() },
            firmware_dir: config.update.firmware_dir.clone(),
            state_dir: config.state_dir.clone(),
            restart: restart.clone(),
        }),
        gateway: config.cloud.as_ref().map(|cloud| (cloud.product_key.clone(), cloud.device_key.clone())),
        identity: cloud.as_ref().map(|cloud| Arc::clone(&cloud.oneself.keeper) as Arc<dyn Identity>),
        ask: cloud.as_ref().map(|cloud| Arc::clone(&cloud.desk) as Arc<dyn CloudAsk>),
        warned: Warned::default(),
    };
    let (handle, task) = runner::start(ports, stopped.clone());
    carrier.use_offers(Arc::new(handle.clone()));
    UpdateTask { handle, task }
}

/// A key that is not safe is no key: the gateway runs on, and takes no update.
fn trusted(config: &Config) -> Result<Vec<PublicKey>, String> {
    match keys::load(&config.update, &config.state_dir) {
        Ok(keys) if keys.is_empty() => {
            Err("no key is trusted for updates, so none is taken; name public keys in update.keys of edge.yaml"
                .to_owned())
        }
        Ok(keys) => Ok(keys),
        Err(faults) => {
            let words = diagnostic::joined(&faults);
            tracing::error!("the keys of updates are not safe, so no update is taken:\n{words}");
            Err(format!("no update is taken: {words}"))
        }
    }
}
