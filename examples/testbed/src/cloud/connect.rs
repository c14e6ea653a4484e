//! Who may connect, and what a client may subscribe to.

use super::codec::Connect;
use super::compression::{self, Asked};
use super::registry::Triple;
use super::sign::{self, Claim, Signed};
use super::topic::{self, Space};
use super::world::{Peer, World};
use tokio::time::Instant;

/// CONNACK codes (MQTT 3.1.1 3.2.2.3). Which one EnOS uses for a bad sign is not documented: 4 here.
const ACCEPTED: u8 = 0;
const BAD_LEVEL: u8 = 1;
/// For a client id that asks for a compression which is not offered.
const BAD_IDENTIFIER: u8 = 2;
const UNAVAILABLE: u8 = 3;
const BAD_SIGN: u8 = 4;
const NOT_AUTHORISED: u8 = 5;

/// The device key of an integration channel.
const CHANNEL: &str = "%channel%";

/// What to do with a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Connack(u8),
    /// A knob says never to answer.
    Silence,
}

impl World {
    /// Checks a CONNECT and, if it is good, makes the link its device's, closing the one before.
    pub fn admit(&mut self, link: u64, connect: &Connect) -> Admission {
        if super::Knobs::spend(&mut self.knobs.ignore_connects) {
            return Admission::Silence;
        }
        let verdict = match self.knobs.refuse_connects {
            Some(code) => Err(code),
            None => self.identify(link, connect),
        };
        match verdict {
            Ok(peer) => {
                self.stats.connects += 1;
                self.take_over(link, peer);
                Admission::Connack(ACCEPTED)
            }
            Err(code) => {
                self.stats.connects_refused += 1;
                Admission::Connack(code)
            }
        }
    }

    fn identify(&mut self, link: u64, connect: &Connect) -> Result<Peer, u8> {
        if connect.level != 4 {
            return Err(BAD_LEVEL);
        }
        let user = connect.user_name.as_deref().unwrap_or_default();
        let password = connect.password.as_deref().unwrap_or_default();
        if self.monitor.as_ref().is_some_and(|(name, secret)| name == user && secret == password) {
            return Ok(Peer::Monitor);
        }
        let claim = sign::claim(&connect.client_id, user).ok_or(BAD_SIGN)?;
        let gzip = match compression::asked(&claim.client_id) {
            Asked::Nothing => false,
            Asked::Gzip => true,
            Asked::NotOffered => return Err(BAD_IDENTIFIER),
        };
        let peer = if claim.device_key == CHANNEL {
            self.identify_channel(&claim, password)?
        } else {
            self.identify_device(link, &claim, password)?
        };
        if let Some(link) = self.links.get_mut(&link) {
            link.gzip = gzip;
        }
        Ok(peer)
    }

    fn identify_device(&mut self, link: u64, claim: &Claim, password: &str) -> Result<Peer, u8> {
        let device = self.claimed_device(claim).ok_or(NOT_AUTHORISED)?;
        let history = self.histories.entry(device).or_default();
        if self.knobs.connect_limit && !history.admit(Instant::now()) {
            return Err(UNAVAILABLE);
        }
        let (known, product) = (self.registry.get(device), self.registry.product_of(device));
        let secret = match claim.secure_mode.as_str() {
            "2" => known.triple.secret.as_str(),
            "3" => product.secret.as_deref().ok_or(NOT_AUTHORISED)?,
            _ => return Err(BAD_SIGN),
        };
        let trusted = self.registry.accept_all && known.triple.secret.is_empty();
        if !trusted && !is_signed(claim, secret, password) {
            return Err(BAD_SIGN);
        }
        let activating = claim.secure_mode == "3";
        let refused_activation =
            activating && (!product.dynamic_activation || known.activated && self.knobs.activation.once);
        let lacks_certificate =
            product.needs_certificate && self.links.get(&link).is_none_or(|link| link.certificate.is_none());
        // A sub-device of a gateway may not connect by itself (771).
        if refused_activation || lacks_certificate || !known.enabled || known.gateway.is_some() {
            return Err(NOT_AUTHORISED);
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.activating = activating;
        }
        Ok(Peer::Device(device))
    }

    /// The documentation of 2.0 logs a channel in with mode 2, the SDKs with mode 4: both are taken.
    fn identify_channel(&self, claim: &Claim, password: &str) -> Result<Peer, u8> {
        let number = self.registry.find_product(&claim.product_key).ok_or(NOT_AUTHORISED)?;
        let secret = self.registry.get_product(number).secret.as_deref().ok_or(NOT_AUTHORISED)?;
        let known_mode = matches!(claim.secure_mode.as_str(), "2" | "4");
        if known_mode && is_signed(claim, secret, password) { Ok(Peer::Channel(number)) } else { Err(BAD_SIGN) }
    }

    fn claimed_device(&mut self, claim: &Claim) -> Option<u32> {
        let known = self.find(&claim.product_key, &claim.device_key);
        if known.is_some() || !self.registry.accept_all {
            return known;
        }
        Some(self.add_device(Triple::new(&claim.product_key, &claim.device_key, ""), true, None))
    }

    /// One connection a device, one a channel: a new one closes the old, whose sub-devices go offline.
    fn take_over(&mut self, link: u64, peer: Peer) {
        let old = match peer {
            Peer::Device(device) => self.device_links.insert(device, link),
            Peer::Channel(product) => self.channels.insert(product, link),
            Peer::Monitor => None,
        };
        if let Some(old) = old {
            self.stats.takeovers += 1;
            self.online.retain(|_, owner| *owner != old);
            if let Some(old) = self.links.get_mut(&old) {
                (old.peer, old.online) = (None, 0);
                old.kick.notify_one();
            }
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.peer = Some(peer);
        }
        if let Peer::Device(device) = peer {
            self.pump(device);
        }
    }

    /// One SUBACK code a filter. A device may not listen to devices it does not speak for.
    pub fn subscribe(&mut self, link: u64, filters: Vec<(String, u8)>) -> Vec<u8> {
        filters.into_iter().map(|(filter, qos)| self.subscribe_one(link, filter, qos)).collect()
    }

    fn subscribe_one(&mut self, link: u64, filter: String, qos: u8) -> u8 {
        const REFUSED: u8 = 0x80;
        if !topic::is_valid_filter(&filter) || !self.may_subscribe(link, &filter) {
            return REFUSED;
        }
        let Some(link) = self.links.get_mut(&link) else { return REFUSED };
        let qos = qos.min(1);
        link.subscriptions.add(filter, qos);
        qos
    }

    fn may_subscribe(&self, link: u64, filter: &str) -> bool {
        let me = match self.peer(link) {
            Some(Peer::Device(me)) => me,
            Some(Peer::Channel(product)) => return self.channel_may_subscribe(product, filter),
            Some(Peer::Monitor) | None => return true,
        };
        let Some(parts) = topic::parse(filter) else { return filter.starts_with(['+', '#']) || filter == "/#" };
        if [parts.product_key, parts.device_key].iter().any(|key| matches!(*key, "+" | "#")) {
            return true;
        }
        let device = self.registry.find(parts.product_key, parts.device_key);
        match parts.space {
            Space::Session => device == Some(me),
            Space::Sys => device.is_some_and(|device| self.speaks_for(link, device)),
        }
    }

    pub fn unsubscribe(&mut self, link: u64, filters: &[String]) {
        if let Some(link) = self.links.get_mut(&link) {
            filters.iter().for_each(|filter| link.subscriptions.remove(filter));
        }
    }
}

fn is_signed(claim: &Claim, secret: &str, password: &str) -> bool {
    let fields = Signed {
        client_id: &claim.client_id,
        device_key: &claim.device_key,
        product_key: &claim.product_key,
        timestamp: &claim.timestamp,
    };
    sign::verify(&claim.sign_method, fields, secret, password)
}
