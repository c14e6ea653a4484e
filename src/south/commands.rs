//! What commands need of running connections: plan a write, write, read some points now, pass bytes through.

use super::lines::Handle;
use super::live::DeviceInfo;
use super::request::{Ask, Moments};
use super::status::{self, DeviceState, PointNow};
use super::{AskError, Lines};
use crate::mapping::control;
use crate::model::{Argument, Value};
use driver::ValueType;
use std::sync::Arc;

/// A write that fits the point and the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedWrite {
    pub point: u32,
    pub raw: Value,
    /// What the point shows once it is written: the wire may round.
    pub expected: Value,
    /// How far a value read back may be from it.
    pub tolerance: f64,
}

/// A 32-bit float that went through a(x+b) twice keeps six digits.
const RELATIVE: f64 = 2e-6;

impl Lines {
    pub(super) fn place(&self, device: u32) -> Result<(&Arc<Handle>, usize), AskError> {
        let found = self.lines.iter().find_map(|line| {
            let at = line.live.devices.iter().position(|info| info.device == device)?;
            Some((line, at))
        });
        found.ok_or_else(|| AskError::UnknownDevice(device.to_string()))
    }

    /// The state of a device, by its index into `names.devices`.
    #[must_use]
    pub fn device_state(&self, device: u32) -> Option<DeviceState> {
        let (line, at) = self.place(device).ok()?;
        Some(line.live.lock().devices[at].state)
    }

    /// True when the driver reads anything of the device.
    #[must_use]
    pub fn is_read(&self, device: u32) -> bool {
        let has = |(line, at): (&Arc<Handle>, usize)| line.plan.scan_groups().iter().any(|g| g.device as usize == at);
        self.place(device).is_ok_and(has)
    }

    /// The latest values of a device.
    #[must_use]
    pub fn latest(&self, device: u32) -> Vec<PointNow> {
        let Ok((line, at)) = self.place(device) else { return Vec::new() };
        let mut points = Vec::new();
        status::of_device(&line.live, &line.live.devices[at], None, &mut |point| points.push(point));
        points
    }

    /// The latest values of some measurement points of many devices, in one pass over all: `wanted` is asked once for each
    /// device, by its index into `names.devices`, and `found` gets what fills them.
    pub fn each_latest<'w>(
        &self,
        mut wanted: impl FnMut(u32) -> Option<&'w [u32]>,
        mut found: impl FnMut(u32, &[PointNow]),
    ) {
        let mut points = Vec::new();
        for line in &self.lines {
            for info in &line.live.devices {
                let Some(measurepoints) = wanted(info.device) else { continue };
                points.clear();
                status::of_device(&line.live, info, Some(measurepoints), &mut |point| points.push(point));
                found(info.device, &points);
            }
        }
    }

    /// What would be written for a value of a measurement point. Nothing is done.
    ///
    /// # Errors
    /// When it has no control point, or the value does not fit the wire.
    pub fn plan_write(&self, device: u32, measurepoint: u32, value: &Value) -> Result<PlannedWrite, AskError> {
        let (line, at) = self.place(device)?;
        let info = &line.live.devices[at];
        let template = &info.template;
        let control = template.controls.iter().find(|control| control.measurepoint == measurepoint);
        let control = control.ok_or_else(|| {
            let point = template.model.measurepoints.get(measurepoint as usize);
            AskError::NoControl(point.map_or_else(|| measurepoint.to_string(), |point| point.id.clone()))
        })?;
        let row = template.table.row(control.row as usize);
        let raw = control::raw(row.row(), value).map_err(AskError::Unfit)?;
        let scale = crate::mapping::Scale { coefficient: row.row().coefficient, base_value: row.row().base_value };
        let expected = scale.apply(&raw).map_err(AskError::Unfit)?.to_value();
        let mut tolerance = half_step(row.row().value_type, row.row().coefficient);
        for collected in rows_of(info, measurepoint) {
            let collected = template.table.row(collected as usize);
            tolerance += half_step(collected.row().value_type, collected.row().coefficient);
        }
        tolerance += expected.as_f64().map_or(0.0, f64::abs) * RELATIVE;
        Ok(PlannedWrite { point: info.first_point + control.row, raw, expected, tolerance })
    }

    /// Writes what was planned.
    ///
    /// # Errors
    /// As [`Lines::write`].
    pub async fn write_planned(&self, device: u32, write: &PlannedWrite, moments: Moments) -> Result<(), AskError> {
        let (line, _) = self.place(device)?;
        line.ask(Ask::Write(write.point, write.raw.clone()), moments).await.map(drop)
    }

    /// True when something is collected for the measurement point.
    #[must_use]
    pub fn is_collected(&self, device: u32, measurepoint: u32) -> bool {
        self.place(device).is_ok_and(|(line, at)| !rows_of(&line.live.devices[at], measurepoint).is_empty())
    }

    /// Reads what fills these measurement points from the device now; [`Lines::latest`] has their values then.
    ///
    /// # Errors
    /// When the device was not asked or the conversation broke. Points the device refused are no error.
    pub async fn read_points(&self, device: u32, measurepoints: &[u32], moments: Moments) -> Result<(), AskError> {
        let (line, at) = self.place(device)?;
        let info = &line.live.devices[at];
        let mut points: Vec<u32> = measurepoints.iter().flat_map(|m| rows_of(info, *m)).collect();
        for point in &mut points {
            *point += info.first_point;
        }
        let at = u32::try_from(at).expect("devices are counted in 32 bits");
        let asked = line.ask(Ask::ReadPoints(at, points), moments).await;
        asked.map(drop).map_err(|error| match error {
            // Only a write leaves anything open.
            AskError::Unconfirmed(why) => AskError::NotRead(why),
            other => other,
        })
    }

    /// Reads everything of a silent device that its driver reads at once, to see whether it is back.
    ///
    /// # Errors
    /// As [`Lines::read_points`].
    pub async fn probe(&self, device: u32, moments: Moments) -> Result<(), AskError> {
        let (line, at) = self.place(device)?;
        let groups = line.plan.scan_groups().iter();
        let first = groups.filter(|group| group.device as usize == at).find_map(|group| group.points.first().copied());
        // Nothing is read of it, so nobody knows more than the write itself will tell.
        let Some(point) = first else { return Ok(()) };
        let at = u32::try_from(at).expect("devices are counted in 32 bits");
        line.ask(Ask::ReadPoints(at, vec![point]), moments).await.map(drop)
    }

    /// Hands bytes to the device as they are and waits for its answer.
    ///
    /// # Errors
    /// [`AskError::Unconfirmed`] when they may have had an effect; all others when they had none.
    pub async fn raw(&self, device: u32, bytes: Vec<u8>, moments: Moments) -> Result<Vec<u8>, AskError> {
        let (line, at) = self.place(device)?;
        let at = u32::try_from(at).expect("devices are counted in 32 bits");
        line.ask(Ask::Raw(at, bytes), moments).await
    }
}

/// Rows of the table that a measurement point is made of.
fn rows_of(info: &DeviceInfo, measurepoint: u32) -> Vec<u32> {
    let rules = info.template.rules.iter().filter(|rule| rule.measurepoint == measurepoint);
    let arguments = rules.flat_map(|rule| &rule.formula.arguments);
    arguments.filter_map(|argument| if let Argument::Point(row) = argument { Some(*row) } else { None }).collect()
}

/// What rounding on the wire may change.
fn half_step(value_type: ValueType, coefficient: f64) -> f64 {
    match value_type {
        ValueType::Float | ValueType::Double | ValueType::String | ValueType::Bool => 0.0,
        _ if coefficient.fract() == 0.0 && coefficient.abs() <= 1.0 => 0.0,
        _ => coefficient.abs() * 0.5,
    }
}
