//! One conversation with the units of a connection.

use crate::blocks::{self, Block, Item};
use crate::learned::{Learned, Span};
use crate::link::Link;
use crate::plan::{Device, Inner};
use crate::{raw, read, transfer, write};
use driver::{Answer, RawError, Sample, Session, SessionError, Transfer, TransferError, Value};
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How the points of a group are read right now.
#[derive(Default)]
pub struct Reading {
    version: Option<u32>,
    /// What is asked for: all items of the group, or those outside holes.
    pub live: Option<Vec<Item>>,
    pub blocks: Vec<Block>,
    /// Points in holes: the item, the hole, its exception.
    pub refused: Vec<(Item, Span, u8)>,
}

pub struct ModbusSession {
    pub inner: Arc<Inner>,
    pub link: Link,
    pub readings: Vec<Reading>,
    /// The file that this conversation is sending.
    pub begun: Option<u64>,
}

impl ModbusSession {
    #[must_use]
    pub fn new(inner: Arc<Inner>, link: Link) -> ModbusSession {
        let readings = inner.groups.iter().map(|_| Reading::default()).collect();
        ModbusSession { inner, link, readings, begun: None }
    }
}

/// What was learned of the device's unit.
pub fn learned(device: &Device) -> MutexGuard<'_, Learned> {
    device.learned.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reading {
    /// Plans the requests anew if something was learned since.
    pub fn refresh(&mut self, inner: &Inner, group: usize) {
        let items = &inner.groups[group].items;
        let mut learned = learned(&inner.devices[inner.groups[group].device]);
        learned.doubt(Instant::now().into_std());
        if self.version == Some(learned.version()) {
            return;
        }
        self.refused.clear();
        self.live = None;
        if !learned.is_whole() {
            let mut live = Vec::with_capacity(items.len());
            for item in items.iter() {
                match learned.hole(item) {
                    Some((span, code)) => self.refused.push((*item, span, code)),
                    None => live.push(*item),
                }
            }
            self.live = Some(live);
        }
        let limits = learned.limits(&inner.settings.limits, Instant::now().into_std());
        let items = self.live.as_deref().unwrap_or(items);
        blocks::plan(items, &limits, |area, from, to| learned.forbids(area, from, to), &mut self.blocks);
        self.version = Some(learned.version());
    }
}

impl Session for ModbusSession {
    fn read<'a>(&'a mut self, group: usize, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(read::group(self, group, samples))
    }

    fn write<'a>(&'a mut self, point: u32, value: &'a Value) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(write::point(self, point, value))
    }

    fn raw<'a>(&'a mut self, device: u32, bytes: &'a [u8]) -> Answer<'a, Result<Vec<u8>, RawError>> {
        Box::pin(raw::pdu(self, device, bytes))
    }

    fn transfer<'a>(&'a mut self, device: u32, file: &'a mut Transfer) -> Answer<'a, Result<(), TransferError>> {
        Box::pin(transfer::step(self, device, file))
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(self.link.close())
    }
}
