//! PURE. Another package by difference: a device with the same keys and secrets keeps its login and its place in the
//! queues; new ones begin their way; those that are gone are logged out after a while.

use super::{Roster, Stage, SubDevices, keys_of, number};
use crate::model::Secret;
use std::time::Duration;

/// What was read of a removed device is sent first.
const PARTING: Duration = Duration::from_secs(30);

impl SubDevices {
    /// True when no request holds positions of this list.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.under_way == 0 && !self.devices.iter().any(|device| device.stage == Stage::Storing)
    }

    /// The list of another package, with what is known of its devices already. Only when [`SubDevices::is_settled`], or
    /// before [`SubDevices::connected`].
    #[must_use]
    pub fn adopt(mut self, roster: Roster, stored: impl Fn(&str, &str) -> Option<Secret>, now: Duration) -> SubDevices {
        let mut next = SubDevices::new(roster, self.gateway.clone(), self.config.clone(), self.message_bytes, stored);
        (next.topology_known, next.topology_asked) = (self.topology_known, self.topology_asked);
        (next.first_login, next.capacity, next.unanswered) = (self.first_login, self.capacity, 0);
        std::mem::swap(&mut next.paces, &mut self.paces);
        std::mem::swap(&mut next.unknown, &mut self.unknown);
        std::mem::swap(&mut next.expel, &mut self.expel);
        std::mem::swap(&mut next.parting, &mut self.parting);
        std::mem::swap(&mut next.departing, &mut self.departing);
        for at in 0..number(next.devices.len()) {
            let (product_key, device_key) = keys_of(&next.names, &next.devices[at as usize]);
            match self.find(product_key, device_key).filter(|before| self.is_same(*before, &next, at)) {
                Some(before) => next.take_over(at, &self, before),
                None => {
                    next.unanswered += 1;
                    next.begin(at);
                }
            }
        }
        let stays = |keys: &(String, String)| next.owns(&keys.0, &keys.1);
        let mut parting: Vec<_> = next.parting.iter().filter(|(_, keys)| !stays(keys)).cloned().collect();
        for device in &self.devices {
            let keys = keys_of(&self.names, device);
            if device.login == super::Login::Online && !next.owns(keys.0, keys.1) {
                parting.push((now + PARTING, (keys.0.to_owned(), keys.1.to_owned())));
            }
        }
        next.parting = parting.into();
        next
    }

    fn is_same(&self, before: u32, next: &SubDevices, at: u32) -> bool {
        let (old, new) = (&self.devices[before as usize], &next.devices[at as usize]);
        // A secret that the cloud gave meanwhile is on the shelf, so both have it.
        old.secret == new.secret && old.product_secret == new.product_secret
    }

    fn take_over(&mut self, at: u32, from: &SubDevices, before: u32) {
        let (old, old_details) = (&from.devices[before as usize], from.details(from.index(before)));
        let index = self.devices[at as usize].index;
        let stage = old.stage;
        self.devices[at as usize] = super::Device { index, stage: Stage::Rest, ..old.clone() };
        // Asked: the connection with the question is gone; the next one begins anew.
        self.wait_in(at, if stage == Stage::Asked { Stage::Rest } else { stage });
        let login = old.login.clone();
        self.count(&login, 1);
        self.unanswered += usize::from(!old.answered);
        if let Some(until) = old.silent_until {
            self.silences.insert((until, at));
        }
        if login == super::Login::Online && old_details != self.details(index) {
            // Attributes and tags have changed: they are set anew.
            self.came_online.push(at);
        }
    }

    /// Those that are gone, when their time has come.
    pub(super) fn pass_partings(&mut self, now: Duration) {
        while self.parting.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, keys)) = self.parting.pop_front()
        {
            if self.config.remove_unknown {
                self.unknown.push_back(vec![keys.clone()]);
            }
            self.expel.push_back(keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::reply::OK;
    use crate::cloud::status::Login;
    use crate::cloud::sub_devices::tests::{S, config, devices_with, names, reply};
    use crate::cloud::sub_devices::{Ask, SubDevicesConfig};
    use crate::model::{Credential, Names};
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// Answers everything well, and says what was asked.
    fn bring_in(d: &mut SubDevices, from: Duration) -> Vec<Ask> {
        let (mut at, mut asked) = (from, Vec::new());
        for _ in 0..40 {
            while let Some(ask) = d.next(at) {
                d.answered(&ask, Some(&reply(OK, Value::Null, "")), at);
                asked.push(ask);
            }
            at += Duration::from_millis(100);
        }
        asked
    }

    /// Devices of these numbers, in this order.
    fn roster(numbers: &[usize], secret: &str) -> Roster {
        let all = names(9);
        let names = Names::new(numbers.iter().map(|n| all.devices[*n - 1].clone()).collect());
        let credentials = vec![Credential::Device { secret: Secret::new(secret.to_owned()) }; numbers.len()];
        Roster { names: Arc::new(names), credentials, details: Vec::new() }
    }

    fn online(config: SubDevicesConfig) -> SubDevices {
        let mut d = devices_with(3, config);
        d.connected();
        bring_in(&mut d, S(0));
        assert_eq!(d.counts(), (3, 0));
        d
    }

    #[test]
    fn those_who_stay_keep_their_login_new_ones_come_and_removed_ones_leave_later() {
        let d = online(config());
        assert!(d.is_settled());
        let mut d = d.adopt(roster(&[7, 3, 1], "x"), |_, _| None, S(100));
        assert_eq!(d.counts(), (2, 0));
        let new = ("subPK07".to_owned(), "subDK07".to_owned());
        assert_eq!((d.ready(), d.absent()), (true, vec![new]), "what is read of the new one waits for the topology");
        let asked = bring_in(&mut d, S(100));
        assert_eq!(asked, [Ask::TopoAdd(vec![0]), Ask::Login(vec![0])], "nobody else is asked for");
        assert_eq!((d.counts(), d.absent()), ((3, 0), vec![]));
        assert_eq!(d.wake(), Some(S(130)), "readings of the removed one go first");
        assert!(d.takes_leave("subPK02", "subDK02"), "the cloud may send it commands until then");
        let expel = Ask::Expel(("subPK02".to_owned(), "subDK02".to_owned()));
        assert_eq!(d.next(S(130)), Some(expel.clone()));
        assert!(d.takes_leave("subPK02", "subDK02"), "and until the cloud has answered");
        d.answered(&expel, Some(&reply(OK, Value::Null, "")), S(130));
        assert!(!d.takes_leave("subPK02", "subDK02"));
        assert_eq!((d.wake(), d.len()), (None, 3));
        d.connected();
        assert_eq!(bring_in(&mut d, S(200)).len(), 3, "a new connection begins with all of them");
        assert_eq!(d.counts(), (3, 0));
    }

    #[test]
    fn the_first_package_of_a_gateway_that_waited_lets_in_whom_the_topology_has() {
        let mut d = devices_with(0, config());
        d.connected();
        assert_eq!((bring_in(&mut d, S(0)), d.ready()), (Vec::new(), true), "nobody asks for a topology of nobody");
        let mut d = d.adopt(roster(&[1, 2], "x"), |_, _| None, S(100));
        assert_eq!(d.absent().len(), 2, "what is read of them waits");
        assert_eq!(d.next(S(100)), Some(Ask::TopoGet));
        let there = json!([{ "productKey": "subPK01", "deviceKey": "subDK01" }]);
        d.answered(&Ask::TopoGet, Some(&reply(OK, there, "")), S(100));
        assert_eq!(d.settled(), [("subPK01".to_owned(), "subDK01".to_owned())]);
        assert_eq!(bring_in(&mut d, S(100)), [Ask::TopoAdd(vec![1]), Ask::Login(vec![0, 1])]);
        assert_eq!((d.settled().len(), d.absent().len()), (1, 0));
    }

    #[test]
    fn one_that_comes_back_before_it_left_stays_and_another_secret_is_another_login() {
        let d = online(config()).adopt(roster(&[1, 2], "x"), |_, _| None, S(100));
        let mut d = d.adopt(roster(&[1, 2, 3], "x"), |_, _| None, S(101));
        let asked = bring_in(&mut d, S(101));
        assert_eq!(asked, [Ask::TopoAdd(vec![2]), Ask::Login(vec![2])]);
        assert_eq!(bring_in(&mut d, S(200)), [], "it is not logged out afterwards");
        let mut d = d.adopt(roster(&[1, 2, 3], "other"), |_, _| None, S(300));
        assert_eq!(bring_in(&mut d, S(300)).len(), 2, "all are added and logged in anew");
        assert_eq!(d.counts(), (3, 0));
    }

    #[test]
    fn what_is_under_way_holds_the_list_and_queues_move_over() {
        let mut d = devices_with(3, config());
        d.connected();
        let ask = d.next(S(0)).unwrap();
        assert!(!d.is_settled(), "an answer would mean other devices then");
        d.answered(&ask, None, S(0));
        assert!(d.is_settled());
        let mut d = d.adopt(roster(&[4, 2], "x"), |_, _| None, S(1));
        assert_eq!(bring_in(&mut d, S(1)), [Ask::TopoAdd(vec![0, 1]), Ask::Login(vec![0, 1])]);
    }

    #[test]
    fn a_refused_one_keeps_its_wait_and_a_silent_one_its_silence() {
        let mut d = online(SubDevicesConfig { remove_unknown: true, ..config() });
        d.field(2, Some(S(0)), S(50));
        let mut d = d.adopt(roster(&[3], "x"), |_, _| None, S(60));
        assert_eq!(d.wake(), Some(S(90)));
        let asked = bring_in(&mut d, S(110));
        assert!(asked.contains(&Ask::Logout(0)), "silent for 60 s, across the packages: {asked:?}");
        assert_eq!(asked.iter().filter(|ask| matches!(ask, Ask::Remove(_))).count(), 2);
        assert_eq!(d.logins().collect::<Vec<_>>(), [(0, Login::Away)]);
    }
}
