//! Joins what the gateway is toward the cloud: secrets, certificate, the task that renews it, and what it tells of itself.

use super::notice_store;
use crate::cloud::NoticeQueue;
use crate::config::{CertificateConfig, CloudConfig, Config};
use crate::identity::certificate::{Cloud, Handle, IdentityNames, Owner, Renewer, Slots, SystemClock};
use crate::identity::{Certificates, FOLDER, Keeper};
use crate::rest::{Client, RestError};
use crate::store::{Disk, RealDisk};
use crate::telemetry::Counters;
use serde_json::Value as Json;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The gateway's identity at work.
pub(super) struct Oneself {
    pub keeper: Arc<Keeper>,
    pub notices: Arc<NoticeQueue>,
    pub certificate: Option<Certificate>,
    /// Ends after `stopped`.
    pub task: Option<JoinHandle<()>>,
}

/// The certificate that the gateway keeps itself.
#[derive(Clone)]
pub(super) struct Certificate {
    slots: Arc<Slots>,
    handle: Handle,
}

impl Certificate {
    pub fn status(&self) -> Json {
        self.slots.status()
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

pub(super) fn start(
    config: &Config,
    cloud: &CloudConfig,
    rest: Option<Result<Arc<Client>, RestError>>,
    counters: &Arc<Counters>,
    stopped: &watch::Receiver<bool>,
) -> Oneself {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let keeper = Keeper::open(cloud, &config.state_dir, Arc::clone(&disk));
    let notices = Arc::<NoticeQueue>::default();
    notices.count_in(counters);
    // Ends with the runtime; what it has not written is told by whoever waits for it.
    drop(notice_store::start(Arc::new(RealDisk), &config.state_dir, &notices));
    let Some(wanted) = config.certificate.clone() else {
        let owner = cloud.client_files.clone().map(|files| Owner {
            files,
            clock: Arc::new(SystemClock),
            notices: Arc::clone(&notices) as _,
            counters: Arc::clone(counters),
        });
        let task = owner.map(|owner| tokio::spawn(owner.watch(stopped.clone())));
        return Oneself { keeper: Arc::new(keeper), notices, certificate: None, task };
    };
    let names = IdentityNames { product_key: cloud.product_key.clone(), device_key: cloud.device_key.clone() };
    let wanted = completed(wanted, cloud, keeper.asset_id());
    let folder = config.state_dir.join(FOLDER);
    let slots = Arc::new(Slots::open(disk, &folder, &names.product_key, &names.device_key));
    let rest = rest.unwrap_or_else(|| Err(RestError::Setup("there is no section rest".to_owned())));
    let renewer = Renewer {
        authority: Arc::new(Cloud::new(rest, &wanted, names.clone())),
        config: wanted,
        names,
        slots: Arc::clone(&slots),
        clock: Arc::new(SystemClock),
        notices: Arc::clone(&notices) as _,
        counters: Arc::clone(counters),
    };
    let (handle, task) = renewer.start(stopped.clone());
    let keeper = keeper.with_certificates(Arc::clone(&slots) as _);
    let task = Some(tokio::spawn(task));
    Oneself { keeper: Arc::new(keeper), notices, certificate: Some(Certificate { slots, handle }), task }
}

/// What `certificate:` leaves open is known elsewhere: the authority of the cloud, the asset of the activation.
fn completed(mut wanted: CertificateConfig, cloud: &CloudConfig, asset_id: Option<String>) -> CertificateConfig {
    wanted.ca_file = wanted.ca_file.or_else(|| cloud.tls.as_ref().and_then(|tls| tls.ca_file.clone()));
    wanted.asset_id = wanted.asset_id.or(asset_id);
    wanted
}
