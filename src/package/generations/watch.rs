//! PURE. A switch under watch, and how it is remembered with the pointer: a restart does not end the watch.

use super::judge::Look;
use crate::model::{Connection, Site};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the generation that runs is held against, until its time is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Milliseconds UTC.
    pub until: i64,
    /// Before the switch from the package that proved itself last, over the devices that both packages have.
    pub before: Look,
    /// Connections that went on.
    pub kept: BTreeSet<String>,
    /// Good and all values of each device at that time. Of any other nobody knows what it was, and it is not counted.
    pub was: BTreeMap<String, (u64, u64)>,
}

impl Watch {
    /// Held against what each device of the new package `was`, with the connections that go on.
    #[must_use]
    pub fn new(
        until: i64,
        accepted: Look,
        site: &Site,
        kept: BTreeSet<String>,
        was: BTreeMap<String, (u64, u64)>,
    ) -> Watch {
        let mut watch = Watch { until, kept, was, ..Watch::default() };
        let mut before = accepted;
        for (connection, device) in devices(site) {
            if let Some(was) = watch.was.get(device) {
                watch.count(&mut before, connection, device, *was);
            }
        }
        watch.before = before;
        watch
    }

    /// How long to watch on from a start at `now`: what is left, but half of the window at least, for all connections
    /// start anew then; and never more than the window, whatever the clock did meanwhile.
    #[must_use]
    pub fn rest(&self, now: i64, window: Duration) -> Duration {
        let left = Duration::from_millis(u64::try_from(self.until.saturating_sub(now)).unwrap_or(0));
        left.clamp(window / 2, window)
    }

    /// Adds what a device shows.
    pub fn count(&self, look: &mut Look, connection: &str, device: &str, (good, all): (u64, u64)) {
        if self.was.contains_key(device) {
            let share = if self.kept.contains(connection) { &mut look.unchanged } else { &mut look.changed };
            share.add(good, all);
        }
    }

    /// As the pointer remembers it: without names, for the package of `site` has them in their order.
    #[must_use]
    pub fn noted(&self, site: &Site) -> Noted {
        let mut seen = Vec::new();
        for connection in &site.connections {
            seen.push(u8::from(self.kept.contains(&connection.name)));
            for device in names(site, connection) {
                match self.was.get(device) {
                    None => seen.push(0),
                    Some((good, all)) => {
                        put(&mut seen, all.saturating_add(1));
                        put(&mut seen, *good);
                    }
                }
            }
        }
        let packed =
            zstd::encode_all(&seen[..], 0).map(|packed| packed.iter().map(|byte| format!("{byte:02x}")).collect());
        // Into memory it does not fail; without it all devices are held against their sum.
        Noted { until: self.until, before: self.before, seen: packed.unwrap_or_default(), ..Noted::default() }
    }
}

/// A watch on disk: two bytes a device at most times, less once packed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    pub until: i64,
    pub before: Look,
    /// Empty: there for the engine before, which can not read a pointer without them.
    #[serde(default)]
    kept: BTreeSet<String>,
    #[serde(default)]
    new: BTreeSet<String>,
    /// For each connection in the order of the package whether it went on, then for each of its devices the values before:
    /// zstd, in hex.
    #[serde(default)]
    seen: String,
}

impl Noted {
    /// The watch over the same package. `None` when this is no note of that package.
    #[must_use]
    pub fn watch(&self, site: &Site) -> Option<Watch> {
        let pairs =
            self.seen.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let packed: Vec<u8> = pairs.collect::<Option<_>>()?;
        let seen = zstd::decode_all(&packed[..]).ok()?;
        let mut rest = &seen[..];
        let mut watch = Watch { until: self.until, before: self.before, ..Watch::default() };
        for connection in &site.connections {
            if take(&mut rest)? == 1 {
                watch.kept.insert(connection.name.clone());
            }
            for device in names(site, connection) {
                if let Some(all) = take(&mut rest)?.checked_sub(1) {
                    watch.was.insert(device.to_owned(), (take(&mut rest)?, all));
                }
            }
        }
        rest.is_empty().then_some(watch)
    }
}

impl Noted {
    /// Where the note can not be read: every device counts, against the sum of all.
    #[must_use]
    pub fn of_all(&self, site: &Site) -> Watch {
        let mut before = Look { accepted: self.before.accepted, ..Look::default() };
        for share in [self.before.unchanged, self.before.changed] {
            before.changed.add(share.good, share.all);
        }
        let was = devices(site).map(|(_, device)| (device.to_owned(), (0, 0))).collect();
        Watch { until: self.until, before, was, ..Watch::default() }
    }
}

fn names<'a>(site: &'a Site, connection: &'a Connection) -> impl Iterator<Item = &'a str> {
    connection.devices.iter().map(|device| &*site.names.devices[device.device as usize].name)
}

fn devices(site: &Site) -> impl Iterator<Item = (&str, &str)> {
    let of = |connection| names(site, connection).map(|device| (connection.name.as_str(), device));
    site.connections.iter().flat_map(of)
}

/// Seven bits a byte, the low ones first; the eighth says that more follow.
fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::generations::Share;
    use crate::package::scaffold::{self, Wanted};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A package of `devices` devices on one line and as many on another.
    fn site(devices: usize) -> Site {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("p");
        scaffold::create(&folder, &Wanted { name: "p", protocol: "modbus-tcp", model: None }).unwrap();
        let mut site = crate::package::load(&folder, &modbus::protocols(), None).unwrap();
        let (names, line) = (&site.names.devices[0], &site.connections[0]);
        let name = |i: usize| crate::model::DeviceNames { name: format!("d{i}"), ..names.clone() };
        let all = (0..2 * devices).map(name).collect();
        let on = |number: usize| {
            let of = |i: usize| {
                let device = u32::try_from(number * devices + i).unwrap();
                crate::model::ConnectedDevice { device, ..line.devices[0].clone() }
            };
            Connection { name: format!("line-{number}"), devices: (0..devices).map(of).collect(), ..line.clone() }
        };
        let connections = vec![on(0), on(1)];
        site.names = std::sync::Arc::new(crate::model::Names::new(all));
        Site { connections, ..site }
    }

    #[test]
    fn half_of_the_window_is_left_at_least_and_never_more_than_all_of_it() {
        let (watch, window) = (Watch { until: 100_000, ..Watch::default() }, Duration::from_secs(60));
        let rest = |now| watch.rest(now, window).as_secs();
        assert_eq!((rest(50_000), rest(90_000), rest(500_000), rest(-1_000_000)), (50, 30, 30, 60));
    }

    #[test]
    fn new_devices_count_nowhere_and_the_others_by_their_connections() {
        let was = [("d0", (1, 2)), ("d3", (3, 4))].map(|(name, was)| (name.to_owned(), was)).into();
        let watch = Watch::new(7, Look::default(), &site(2), set(&["line-0"]), was);
        let (unchanged, changed) = (Share { good: 1, all: 2 }, Share { good: 3, all: 4 });
        assert_eq!((watch.before.unchanged, watch.before.changed), (unchanged, changed));
        let mut now = Look::default();
        for (connection, device) in [("line-0", "d0"), ("line-0", "d1"), ("line-1", "d3"), ("line-1", "d9")] {
            watch.count(&mut now, connection, device, (1, 1));
        }
        let one = Share { good: 1, all: 1 };
        assert_eq!((now.unchanged, now.changed), (one, one));
    }

    #[test]
    fn a_watch_over_very_many_devices_outlives_a_restart_in_a_small_note() {
        let site = site(50_000);
        let was = (0..100_000u64).filter(|i| i % 10 != 0).map(|i| (format!("d{i}"), (10 - u64::from(i % 7 == 0), 10)));
        let watch = Watch::new(7, Look::default(), &site, set(&["line-1"]), was.collect());
        let noted = watch.noted(&site);
        assert_eq!(noted.watch(&site), Some(watch));
        let text = serde_json::to_string(&noted).unwrap();
        assert!(text.len() < 64 << 10, "{} bytes", text.len());
        assert_eq!(noted.watch(&super::tests::site(49_999)), None, "it is the note of another package");
        let large = Watch { was: [("d1".to_owned(), (u64::MAX - 1, u64::MAX - 1))].into(), ..Watch::default() };
        assert_eq!(large.noted(&site).watch(&site), Some(large));
    }
}
