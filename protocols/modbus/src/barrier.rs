//! Requests whose answers prove that nothing older is on its way. PURE.
//!
//! A unit answers in the order it was asked. So once it answered something that can not be taken
//! for the answer to an older, unanswered request, that older answer has passed or will never come.

use crate::area::Area;
use crate::line::Suspect;
use crate::pdu::Request;

/// Bytes an RTU answer has around its protocol data unit.
const AROUND: usize = 3;
/// Barriers tried in one go.
const MOST: usize = 3;

/// True when an answer to `request` could as well be the late answer to a suspect.
#[must_use]
pub fn is_ambiguous(request: &Request<'_>, exception: bool, suspects: &[Suspect]) -> bool {
    suspects
        .iter()
        .any(|s| s.function == request.function() && (exception || s.reply_len == request.reply_len() + AROUND))
}

/// True when a barrier has to be passed before `request`. The echo of a write carries address and
/// value: it says itself what it answers.
#[must_use]
pub fn is_needed(request: &Request<'_>, suspects: &[Suspect]) -> bool {
    matches!(request, Request::Read { .. } | Request::ReadFile { .. } | Request::Raw { .. })
        && suspects.iter().any(|s| s.function == request.function())
}

/// Reads that may be sent before `request` to clear the way, the likeliest to be answered first.
#[must_use]
pub fn before(request: &Request<'_>, suspects: &[Suspect]) -> Vec<Request<'static>> {
    let read = |area, address, count| Request::Read { area, address, count };
    if matches!(request, Request::ReadFile { .. }) {
        // Any other function will do: even an exception to it tells them apart.
        let others = [Area::Holding, Area::Input, Area::Coil, Area::Discrete].map(|area| read(area, 0, 1));
        return others.into_iter().filter(|r| !is_ambiguous(r, true, suspects)).take(MOST).collect();
    }
    let Request::Read { area, address, count } = *request else {
        return Vec::new();
    };
    let read = |area, count| read(area, address, count);
    let unlike = |r: &Request<'_>| !is_ambiguous(r, false, suspects);
    // Fewer of the same addresses: every unit can answer that. Then another function: even the
    // exception to it tells them apart. At last a little more than was asked.
    let fewer = (1..count).rev().map(|count| read(area, count)).filter(unlike).take(1);
    let others = [Area::Holding, Area::Input, Area::Coil, Area::Discrete].into_iter().filter(|other| *other != area);
    let others = others.map(|area| read(area, 1)).filter(|r| !is_ambiguous(r, true, suspects));
    let room = 65_535 - address;
    let step = if area.is_bits() { 8 } else { 1 };
    let more = (1..=4u16).map(|n| count.saturating_add(n * step)).filter(|more| more - 1 <= room);
    let more = more.map(|more| read(area, more)).filter(unlike).take(1);
    fewer.chain(others).chain(more).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn suspect(area: Area, count: u16) -> Suspect {
        let request = Request::Read { area, address: 0, count };
        let sent = Instant::now();
        Suspect {
            unit: 1,
            function: request.function(),
            reply_len: request.reply_len() + 3,
            sent,
            times: 1,
            expires: sent,
        }
    }

    fn first(area: Area, count: u16, suspects: &[Suspect]) -> Option<Request<'static>> {
        let request = Request::Read { area, address: 100, count };
        is_needed(&request, suspects).then(|| before(&request, suspects).first().copied())?
    }

    #[test]
    fn a_barrier_never_looks_like_what_it_guards_against() {
        let mut suspects = vec![suspect(Area::Holding, 10)];
        for _ in 0..12 {
            for barrier in before(&Request::Read { area: Area::Holding, address: 100, count: 10 }, &suspects) {
                assert!(!is_ambiguous(&barrier, false, &suspects), "{barrier:?}");
            }
            let Some(Request::Read { area, count, .. }) = first(Area::Holding, 10, &suspects) else { return };
            suspects.push(suspect(area, count));
        }
    }

    #[test]
    fn fewer_registers_come_first_and_other_functions_for_a_single_one() {
        let ten = [suspect(Area::Holding, 10)];
        assert_eq!(first(Area::Holding, 10, &ten), Some(Request::Read { area: Area::Holding, address: 100, count: 9 }));
        let one = [suspect(Area::Holding, 1)];
        assert_eq!(first(Area::Holding, 1, &one), Some(Request::Read { area: Area::Input, address: 100, count: 1 }));
        assert_eq!(first(Area::Input, 10, &ten), None, "another function needs no barrier");
        assert_eq!(first(Area::Holding, 10, &[]), None);
    }

    #[test]
    fn a_late_piece_of_a_file_is_not_taken_for_another() {
        let request = Request::ReadFile { file: 1, record: 240, registers: 120 };
        let now = Instant::now();
        let late =
            Suspect { unit: 1, function: 20, reply_len: request.reply_len() + 3, sent: now, times: 1, expires: now };
        assert!(is_needed(&request, &[late]));
        assert_eq!(before(&request, &[late])[0], Request::Read { area: Area::Holding, address: 0, count: 1 });
        let holding = suspect(Area::Holding, 3);
        assert_eq!(before(&request, &[late, holding])[0], Request::Read { area: Area::Input, address: 0, count: 1 });
        let write = Request::WriteFile { file: 1, record: 0, bytes: &[0, 1] };
        assert!(!is_needed(&write, &[late]), "its echo says what it answers");
    }

    #[test]
    fn bits_differ_by_whole_bytes() {
        let suspects = [suspect(Area::Coil, 10)];
        let Some(Request::Read { count, .. }) = first(Area::Coil, 10, &suspects) else { panic!("none") };
        assert!(count <= 8);
    }
}
