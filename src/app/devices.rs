//! Sub-devices as updates see them: the package says how they take firmware, their connections carry it.

use super::packages::Packages;
use crate::model::firmware::FirmwareRules;
use crate::model::{Site, Template, Value};
use crate::south::{AskError, Lines, Moments, PointNow, South};
use crate::update::device::{SubDevice, Trouble, shown};
use driver::{Answer, Transfer, TransferShape};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A write or a read of a device that is there is over by then; how long one that is away is waited for, the package says.
const WITHIN: Duration = Duration::from_secs(15);

/// All of them.
pub(super) struct Devices {
    pub packages: Arc<Packages>,
    pub south: Arc<South>,
}

impl Devices {
    pub(super) fn find(&self, name: &str) -> Option<Arc<dyn SubDevice>> {
        let site = self.packages.site();
        site.names.devices.iter().find(|device| device.name == name)?;
        let (packages, south) = (Arc::clone(&self.packages), Arc::clone(&self.south));
        Some(Arc::new(One { name: name.to_owned(), packages, south }))
    }

    pub(super) fn keys_of(&self, name: &str) -> Option<(String, String)> {
        let site = self.packages.site();
        let device = site.names.devices.iter().find(|device| device.name == name)?;
        Some((device.product_key.clone(), device.device_key.clone()))
    }

    /// What each device shows now, of those that have a point for it; logic assets have no keys and no updates.
    pub(super) fn versions(&self) -> Vec<(String, String, String)> {
        let (site, lines) = (self.packages.site(), self.south.now());
        if lines.epoch() != site.names.epoch {
            return Vec::new();
        }
        // By number, so that one pass over the connections is enough: there may be thousands.
        let mut telling: HashMap<u32, (&Template, &[u32])> = HashMap::new();
        for device in site.connections.iter().flat_map(|connection| &connection.devices) {
            let rules = device.template.commands.firmware.as_ref().filter(|rules| !rules.version.is_empty());
            let names = site.names.devices.get(device.device as usize).filter(|names| !names.device_key.is_empty());
            if let (Some(rules), Some(_)) = (rules, names) {
                telling.insert(device.device, (&device.template, &rules.version));
            }
        }
        let mut found = Vec::new();
        let points_of = |device: u32| telling.get(&device).map(|(_, points)| *points);
        lines.each_latest(points_of, |device, now| {
            let names = &site.names.devices[device as usize];
            let version = telling.get(&device).and_then(|(template, points)| shown(&values(now, template, points)?));
            // None while one of its points is not good.
            found.extend(version.map(|version| (names.product_key.clone(), names.device_key.clone(), version)));
        });
        found
    }
}

fn values(now: &[PointNow], template: &Template, points: &[u32]) -> Option<Vec<Value>> {
    let value = |point: &u32| {
        let id = &template.model.measurepoints.get(*point as usize)?.id;
        let found = now.iter().find(|shown| shown.id == *id).filter(|shown| shown.quality == "good")?;
        found.value.as_ref().map(|shown| shown.0.clone())
    };
    points.iter().map(value).collect()
}

struct One {
    name: String,
    packages: Arc<Packages>,
    south: Arc<South>,
}

impl One {
    /// Its number in the package that runs, its template, and the connections; all of one package.
    fn place(&self) -> Result<(u32, Arc<Template>, Arc<Lines>), Trouble> {
        let (site, lines) = (self.packages.site(), self.south.now());
        if lines.epoch() != site.names.epoch {
            return Err(Trouble::Later("another package is just being applied".to_owned()));
        }
        let (number, template) =
            self.in_site(&site).ok_or_else(|| Trouble::Refused("the package has it no more".to_owned()))?;
        Ok((number, template, lines))
    }

    fn in_site(&self, site: &Site) -> Option<(u32, Arc<Template>)> {
        let named = |device: &&crate::model::ConnectedDevice| {
            site.names.devices.get(device.device as usize).is_some_and(|names| names.name == self.name)
        };
        let device = site.connections.iter().flat_map(|connection| &connection.devices).find(named)?;
        Some((device.device, Arc::clone(&device.template)))
    }
}

impl SubDevice for One {
    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> Result<(String, FirmwareRules), String> {
        let (_, template) =
            self.in_site(&self.packages.site()).ok_or_else(|| format!("the package has no device {}", self.name))?;
        let rules = template.commands.firmware.clone().ok_or_else(|| {
            format!(
                "the package says not how {} takes firmware; give template {} a section `firmware:`",
                self.name, template.name
            )
        })?;
        Ok((template.name.clone(), rules))
    }

    fn shape(&self) -> Option<TransferShape> {
        let (number, _, lines) = self.place().ok()?;
        lines.transfer_shape(number)
    }

    fn send<'a>(&'a self, file: &'a mut Transfer, start_within: Duration) -> Answer<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let (number, _, lines) = self.place()?;
            lines.transfer(number, file, start_within).await.map_err(trouble)
        })
    }

    fn write(&self, measurepoint: u32, value: Value) -> Answer<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let (number, _, lines) = self.place()?;
            let planned = lines.plan_write(number, measurepoint, &value).map_err(trouble)?;
            lines.write_planned(number, &planned, Moments::within(WITHIN)).await.map_err(trouble)
        })
    }

    fn read<'a>(&'a self, measurepoints: &'a [u32]) -> Answer<'a, Result<Vec<Value>, Trouble>> {
        Box::pin(async move {
            let (number, template, lines) = self.place()?;
            if measurepoints.is_empty() {
                return lines.probe(number, Moments::within(WITHIN)).await.map(|()| Vec::new()).map_err(trouble);
            }
            lines.read_points(number, measurepoints, Moments::within(WITHIN)).await.map_err(trouble)?;
            let away = || Trouble::Away("the device gives no good value for its version".to_owned());
            values(&lines.latest(number), &template, measurepoints).ok_or_else(away)
        })
    }
}

/// What the device, the package or the way to it does not allow is final; all else may be better soon.
fn trouble(error: AskError) -> Trouble {
    let words = error.to_string();
    match error {
        AskError::FileRefused(_)
        | AskError::UnknownConnection(_)
        | AskError::UnknownPoint(_)
        | AskError::NoControl(_)
        | AskError::NotWritable(_)
        | AskError::Unfit(_)
        | AskError::Refused { .. }
        | AskError::Forbidden(_) => Trouble::Refused(words),
        AskError::Later(_) | AskError::Busy | AskError::Expired | AskError::UnknownDevice(_) => Trouble::Later(words),
        AskError::Stopped | AskError::NotConnected(_) | AskError::NotRead(_) | AskError::Unconfirmed(_) => {
            Trouble::Away(words)
        }
    }
}
