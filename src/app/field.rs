//! The field as commands see it: the connections of `south`, in the words of `operate`.

use crate::model::Value;
use crate::model::command::code;
use crate::operate::command::field::{By, Failed, Field, Latest, PlannedWrite, Presence};
use crate::south::{self, AskError, DeviceState, Lines, Moments};
use driver::Answer;
use std::sync::Arc;

/// Joins the two, by the numbers of one package.
pub struct Wired(pub Arc<Lines>);

impl Field for Wired {
    fn presence(&self, device: u32) -> Presence {
        match self.0.device_state(device) {
            // Nothing is read of it, so nobody would ever find out.
            _ if !self.0.is_read(device) => Presence::Unknown,
            Some(DeviceState::Online) => Presence::Online,
            Some(DeviceState::Silent | DeviceState::NotConnected) => Presence::Silent,
            Some(DeviceState::Starting) | None => Presence::Unknown,
        }
    }

    fn latest(&self, device: u32, measurepoint: &str) -> Option<Latest> {
        let now = self.0.latest(device).into_iter().find(|point| point.id == measurepoint)?;
        let good = now.quality == "good";
        Some(Latest {
            value: now.value.filter(|_| good).map(|shown| shown.0),
            why: if good { String::new() } else { now.quality },
            time: now.time,
        })
    }

    fn is_collected(&self, device: u32, measurepoint: u32) -> bool {
        self.0.is_collected(device, measurepoint)
    }

    fn plan(&self, device: u32, measurepoint: u32, value: &Value) -> Result<PlannedWrite, Failed> {
        let south::PlannedWrite { point, raw, expected, tolerance } =
            self.0.plan_write(device, measurepoint, value).map_err(|e| told(&e))?;
        Ok(PlannedWrite { point, raw, expected, tolerance })
    }

    fn write<'a>(&'a self, device: u32, write: &'a PlannedWrite, by: By) -> Answer<'a, Result<(), Failed>> {
        Box::pin(async move {
            let PlannedWrite { point, raw, expected, tolerance } = write.clone();
            let planned = south::PlannedWrite { point, raw, expected, tolerance };
            self.0.write_planned(device, &planned, moments(by)).await.map_err(|e| told(&e))
        })
    }

    fn read<'a>(&'a self, device: u32, measurepoints: &'a [u32], by: By) -> Answer<'a, Result<(), Failed>> {
        Box::pin(async move {
            // A read does no harm late: it may begin for as long as its answer is wanted.
            let moments = Moments { start_by: by.end, end_by: by.end };
            self.0.read_points(device, measurepoints, moments).await.map_err(|e| told(&e))
        })
    }

    fn probe(&self, device: u32, by: By) -> Answer<'_, Result<(), Failed>> {
        Box::pin(async move { self.0.probe(device, moments(by)).await.map_err(|e| told(&e)) })
    }

    fn raw(&self, device: u32, bytes: Vec<u8>, by: By) -> Answer<'_, Result<Vec<u8>, Failed>> {
        Box::pin(async move { self.0.raw(device, bytes, moments(by)).await.map_err(|e| told(&e)) })
    }
}

fn moments(by: By) -> Moments {
    Moments { start_by: by.start, end_by: by.end }
}

fn told(error: &AskError) -> Failed {
    let code = match error {
        AskError::UnknownConnection(_) | AskError::UnknownDevice(_) | AskError::UnknownPoint(_) => code::UNKNOWN_DEVICE,
        AskError::NoControl(_) | AskError::NotWritable(_) => code::NOT_WRITABLE,
        AskError::Unfit(_) => code::OUT_OF_RANGE,
        AskError::Busy | AskError::Stopped | AskError::Later(_) => code::BUSY,
        AskError::Expired => code::EXPIRED,
        AskError::NotConnected(_) | AskError::NotRead(_) => code::DEVICE_OFFLINE,
        AskError::Refused { .. } => code::DEVICE_REFUSED,
        AskError::Forbidden(_) | AskError::FileRefused(_) => code::FORBIDDEN,
        AskError::Unconfirmed(_) => code::UNCONFIRMED,
    };
    Failed { code, message: error.to_string() }
}
