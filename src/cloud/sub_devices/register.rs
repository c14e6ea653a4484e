//! PURE. Devices the cloud does not know: registered, their secrets put away, and only then used.

use super::answers::{FIRST_RETRY, cut, secrets_in};
use super::{Stage, SubDevices};
use crate::cloud::reply::{OK, Reply};
use crate::cloud::status::Login;
use crate::model::Secret;
use std::collections::HashMap;
use std::time::Duration;

/// The device key exists.
const EXISTS: i64 = 702;

impl SubDevices {
    pub(super) fn registered(&mut self, some: &[u32], reply: Option<&Reply>, now: Duration) -> Vec<String> {
        let (code, message) = reply.map_or((0, "no answer"), |reply| (reply.code, reply.message.as_str()));
        let secrets: HashMap<_, _> = match reply {
            Some(reply) if reply.code == OK => secrets_in(&reply.data).collect(),
            _ => HashMap::new(),
        };
        let mut news = Vec::new();
        for at in some {
            let whose = self.whose(*at);
            let secret = secrets.get(&(whose.product_key.to_owned(), whose.device_key.to_owned())).cloned().flatten();
            if let Some(secret) = secret {
                self.wait_in(*at, Stage::Storing);
                self.new_secrets.push((*at, secret));
            } else if some.len() > 1 && reply.is_some() {
                // All or nothing: one of them is to blame, and each is asked for alone to find it.
                self.devices[*at as usize].alone = true;
                self.settled.push(*at);
                self.wait_in(*at, Stage::Later(now + FIRST_RETRY));
            } else if self.goes_on(*at) {
                news.extend(self.not_registered(*at, code, message, now));
            }
        }
        news
    }

    /// A first failure is often the cloud's own and gone after ten seconds; only the second one is told.
    fn not_registered(&mut self, at: u32, code: i64, message: &str, now: Duration) -> Option<String> {
        let again = self.devices[at as usize].tries > 0;
        let mut reason = cut(message);
        if code == EXISTS {
            reason = format!("{reason}; it is registered already: write its device_secret into the package");
        }
        let first = !std::mem::replace(&mut self.devices[at as usize].answered, true);
        self.unanswered -= usize::from(first);
        let told = if again { self.told(at, code, &reason, "registration") } else { None };
        self.set_login(at, Login::Refused { code, message: reason });
        self.retry(at, now);
        told
    }

    /// Secrets that came, to be put on disk; [`SubDevices::stored`] is called afterwards.
    pub fn take_new_secrets(&mut self) -> Vec<(u32, Secret)> {
        std::mem::take(&mut self.new_secrets)
    }

    /// The secrets are on disk, or could not be put there: then they serve as long as the daemon runs.
    pub fn stored(&mut self, secrets: Vec<(u32, Secret)>) {
        for (at, secret) in secrets {
            let device = &mut self.devices[at as usize];
            device.secret = Some(secret);
            if device.stage == Stage::Storing {
                (device.alone, device.tries, device.fresh) = (false, 0, device.product_secret.is_none());
                self.wait_in(at, Stage::Rest);
                if self.goes_on(at) {
                    self.set_login(at, Login::Waiting);
                    self.begin(at);
                }
            }
        }
    }
}
