//! Reads a scan group: block by block, and around what the unit refuses.

use crate::blocks::{self, Block, Item};
use crate::codec;
use crate::learned::Span;
use crate::link::Link;
use crate::pdu::{Reply, Request};
use crate::plan::{Device, Inner};
use crate::session::{ModbusSession, Reading, learned};
use driver::{Datum, Reason, Sample, SessionError, Timestamp};
use tokio::time::Instant;
use tracing::{info, warn};

/// Holes asked again in one scan.
const RETRIES_A_SCAN: usize = 4;

/// What an exception means for the rest of the scan (Modbus Application Protocol 1.1b3, clause 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// 2, 3, 4: some address of the span is to blame.
    Address,
    /// 1: the unit does not know the function, so all of the span is refused.
    Function,
    /// 10, 11: the gateway can not reach the unit.
    Unreachable,
    /// Busy and the like: another time.
    Passing,
}

fn verdict(code: u8) -> Verdict {
    match code {
        2..=4 => Verdict::Address,
        1 => Verdict::Function,
        10 | 11 => Verdict::Unreachable,
        _ => Verdict::Passing,
    }
}

struct Scan<'a> {
    inner: &'a Inner,
    device: &'a Device,
    link: &'a mut Link,
    samples: &'a mut Vec<Sample>,
    /// No request starts after this.
    last_start: Instant,
}

/// Reads every point of the group once.
pub async fn group(session: &mut ModbusSession, group: usize, samples: &mut Vec<Sample>) -> Result<(), SessionError> {
    let ModbusSession { inner, link, readings, .. } = session;
    let (inner, reading) = (&**inner, &mut readings[group]);
    reading.refresh(inner, group);
    let shape = &inner.groups[group];
    let device = &inner.devices[shape.device];
    // A request may need three others before it, see barrier.rs.
    let last_start = Instant::now() + shape.patience - Link::patience(&inner.timing) * 4;
    let mut scan = Scan { inner, device, link, samples, last_start };
    let items = reading.live.as_deref().unwrap_or(&shape.items);
    for (at, block) in reading.blocks.iter().enumerate() {
        if !scan.block(items, block).await? {
            let rest = &reading.blocks[at + 1..];
            let unread = rest.iter().flat_map(|block| &items[block.first..block.end]);
            scan.mark(unread, Reason::NoAnswer);
            scan.mark(reading.refused.iter().map(|(item, _, _)| item), Reason::NoAnswer);
            return Ok(());
        }
    }
    scan.refused(reading).await
}

/// A span that was refused and is being cut down.
struct Cut {
    first: usize,
    middle: usize,
    end: usize,
    parent: Option<usize>,
    open: u8,
    clean: bool,
}

impl Scan<'_> {
    /// Reads one block. False when the unit can not be reached or the time is used up: all points
    /// of the block have their sample then, too.
    async fn block(&mut self, items: &[Item], block: &Block) -> Result<bool, SessionError> {
        let code = match self.span(items, block).await? {
            Outcome::Read => return Ok(true),
            Outcome::Refused(code) => code,
            Outcome::Unreachable => return Ok(false),
        };
        let mut cuts: Vec<Cut> = Vec::new();
        let mut spans: Vec<(usize, usize, Option<usize>)> = Vec::new();
        self.cut_or_blame(items, (block.first, block.end), None, code, &mut cuts, &mut spans);
        while let Some((first, end, parent)) = spans.pop() {
            match self.span(items, &blocks::around(items, first, end)).await? {
                Outcome::Read => self.settle(items, parent, true, &mut cuts),
                Outcome::Refused(code) => {
                    self.cut_or_blame(items, (first, end), parent, code, &mut cuts, &mut spans);
                }
                Outcome::Unreachable => {
                    let unread = spans.iter().flat_map(|(first, end, _)| &items[*first..*end]);
                    self.mark(unread, Reason::NoAnswer);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A refused span is cut in two, or blamed when it can not be cut.
    fn cut_or_blame(
        &mut self,
        items: &[Item],
        (first, end): (usize, usize),
        parent: Option<usize>,
        code: u8,
        cuts: &mut Vec<Cut>,
        spans: &mut Vec<(usize, usize, Option<usize>)>,
    ) {
        let middle = match verdict(code) {
            Verdict::Address => blocks::cut(items, first, end),
            _ => None,
        };
        let Some(middle) = middle else {
            if verdict(code) != Verdict::Passing {
                let block = blocks::around(items, first, end);
                let from = u32::from(block.address);
                self.blame((block.area, from, from + u32::from(block.count)), code);
            }
            self.mark(&items[first..end], Reason::ModbusException(code));
            self.settle(items, parent, false, cuts);
            return;
        };
        cuts.push(Cut { first, middle, end, parent, open: 2, clean: true });
        let own = Some(cuts.len() - 1);
        spans.push((middle, end, own));
        spans.push((first, middle, own));
    }

    /// One half of a cut is done. When both halves answered and only the whole did not, either the
    /// addresses between them or the size of the whole was to blame.
    fn settle(&mut self, items: &[Item], mut cut: Option<usize>, clean: bool, cuts: &mut [Cut]) {
        let mut clean = clean;
        while let Some(at) = cut {
            let Cut { first, middle, end, parent, .. } = cuts[at];
            let cut_at = &mut cuts[at];
            cut_at.open -= 1;
            cut_at.clean &= clean;
            if cut_at.open > 0 {
                return;
            }
            if cut_at.clean {
                self.learn_from(&blocks::around(items, first, middle), &blocks::around(items, middle, end));
            }
            // Something was learned here, which explains the refusal of the larger span as well.
            clean = false;
            cut = parent;
        }
    }

    fn learn_from(&mut self, left: &Block, right: &Block) {
        let (device, unit) = (&*self.device.name, self.device.unit);
        let left_end = u32::from(left.address) + u32::from(left.count);
        let mut learned = learned(self.device);
        if left_end < u32::from(right.address) {
            learned.refuse_gap((left.area, left_end, u32::from(right.address)));
            info!(
                device,
                unit,
                area = left.area.word(),
                from = left_end,
                to = right.address,
                "addresses are not read along any more"
            );
        } else {
            let refused = right.address - left.address + right.count;
            if learned.shrink(left.area, left.count.max(right.count), refused) {
                info!(device, unit, area = left.area.word(), refused, "unit takes smaller reads only");
            }
        }
    }

    fn blame(&mut self, span: Span, code: u8) {
        if learned(self.device).refuse(span, code, Instant::now().into_std()) {
            let (area, from, to) = span;
            let reason = Reason::ModbusException(code);
            let (device, unit, area, to) = (&*self.device.name, self.device.unit, area.word(), to - 1);
            warn!(device, unit, area, from, to, %reason, "the device refuses these addresses");
        }
    }

    /// One request for the items of `block`, whose samples it appends when there is data.
    async fn span(&mut self, items: &[Item], block: &Block) -> Result<Outcome, SessionError> {
        let items = &items[block.first..block.end];
        if Instant::now() > self.last_start {
            self.mark(items, Reason::NoAnswer);
            return Ok(Outcome::Unreachable);
        }
        let Block { area, address, count, .. } = *block;
        let request = Request::Read { area, address, count };
        match self.link.exchange(self.device.unit, &request).await {
            Ok(Reply::Data(data)) => {
                decode(self.device, items, block, data, self.samples);
                learned(self.device).answered(area, count);
                Ok(Outcome::Read)
            }
            Ok(Reply::Exception(code)) if verdict(code) == Verdict::Unreachable => {
                self.mark(items, Reason::NoAnswer);
                Ok(Outcome::Unreachable)
            }
            Ok(Reply::Exception(code)) => Ok(Outcome::Refused(code)),
            Err(error) => {
                if matches!(error, SessionError::Timeout(_)) {
                    self.too_large(block);
                }
                Err(error)
            }
        }
    }

    fn too_large(&mut self, block: &Block) {
        let now = Instant::now().into_std();
        let mut learned = learned(self.device);
        if learned.timed_out(block.area, block.count, now) {
            let limits = learned.limits(&self.inner.settings.limits, now);
            let (registers, bits) = (limits.registers, limits.bits);
            info!(
                device = &*self.device.name,
                unit = self.device.unit,
                registers,
                bits,
                "no answer to large reads; smaller ones are tried"
            );
        }
    }

    fn mark<'b>(&mut self, items: impl IntoIterator<Item = &'b Item>, reason: Reason) {
        let time = Timestamp::now();
        let first = self.device.first_point;
        self.samples.extend(items.into_iter().map(|item| Sample {
            point: first + item.row,
            time,
            datum: Datum::Bad(reason),
        }));
    }

    /// Points in holes: bad without asking, but for a few whose time has come.
    async fn refused(&mut self, reading: &Reading) -> Result<(), SessionError> {
        let mut asked: Vec<(Span, Option<u8>)> = Vec::new();
        for (item, span, code) in &reading.refused {
            let known = asked.iter().find(|(s, _)| s == span).map(|(_, code)| *code);
            match known {
                Some(None) => {
                    // The span answers again: this point is read with the others from the next scan on.
                    self.mark([item], Reason::ModbusException(*code));
                    continue;
                }
                Some(Some(code)) => {
                    self.mark([item], Reason::ModbusException(code));
                    continue;
                }
                None => {}
            }
            let due = asked.len() < RETRIES_A_SCAN && learned(self.device).is_due(span, Instant::now().into_std());
            if !due {
                self.mark([item], Reason::ModbusException(*code));
                continue;
            }
            match self.span(std::slice::from_ref(item), &blocks::around(&[*item], 0, 1)).await? {
                Outcome::Read => {
                    learned(self.device).accept(span);
                    asked.push((*span, None));
                }
                Outcome::Refused(code) => {
                    self.blame(*span, code);
                    self.mark([item], Reason::ModbusException(code));
                    asked.push((*span, Some(code)));
                }
                Outcome::Unreachable => asked.push((*span, Some(*code))),
            }
        }
        Ok(())
    }
}

enum Outcome {
    /// Samples are appended.
    Read,
    /// No samples yet.
    Refused(u8),
    /// Samples are appended: nobody answered.
    Unreachable,
}

fn decode(device: &Device, items: &[Item], block: &Block, data: &[u8], samples: &mut Vec<Sample>) {
    let time = Timestamp::now();
    let bits = block.area.is_bits();
    samples.extend(items.iter().map(|item| {
        let spec = &device.specs[item.row as usize];
        let offset = usize::from(item.address - block.address);
        let datum = if bits {
            codec::decode_bit(spec, data[offset / 8] >> (offset % 8) & 1 == 1)
        } else {
            codec::decode_registers(spec, &data[offset * 2..][..usize::from(item.len) * 2])
        };
        Sample { point: device.first_point + item.row, time, datum }
    }));
}
