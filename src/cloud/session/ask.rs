//! Everything but data that a session asks of the cloud, and what becomes of the answers. What there is to ask is
//! decided in pure files; this one joins them to the connection.

use super::care;
use super::turns::Turns;
use super::{Link, Now, Session};
use crate::cloud::desk::Told;
use crate::cloud::properties::Setting;
use crate::cloud::requests::{Answer, Requests, Step};
use crate::cloud::status::Login;
use crate::cloud::sub_devices;
use crate::cloud::upstream::connection_state::{self, Node};
use crate::cloud::upstream::{Whose, event, ota};
use crate::config::Acknowledge;
use crate::model::Secret;
use crate::model::update::{Said, Saying};
use crate::mqtt::connection::Lost;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

/// How often the side that polls is asked which devices answer.
const LOOK: Duration = Duration::from_secs(5);
/// Words of an update that the cloud had no time for are posted again after this.
const UPDATE_RETRY: Duration = Duration::from_secs(10);
/// Lines about one answer; ten thousand refused devices are one trouble.
const LINES: usize = 20;

/// What a request is for.
#[derive(Debug)]
pub enum Purpose {
    SubDevices(sub_devices::Ask),
    Inform,
    /// By its number in the queue.
    Notice(u64),
    /// Of an update, by its number in the queue.
    Update(u64),
    /// Which devices answer; not told yet if this fails.
    Report(Report),
    /// Attributes or tags of one device.
    Setting(Setting),
    /// The model of this name.
    Template(String),
    /// Somebody asked.
    Wish(Told),
}

/// Devices whose state in the field is told, by position.
#[derive(Debug)]
pub struct Report {
    full: bool,
    devices: Vec<u32>,
}

/// What this connection still has to do beside data and sub-devices.
#[derive(Debug, Default)]
pub struct Chores {
    informed: bool,
    notices: Turns,
    update_after: Duration,
    looked: Option<Duration>,
    reports: VecDeque<Report>,
    report_begun: bool,
    report_under_way: bool,
    /// The cloud does not want them.
    no_reports: bool,
}

/// Secrets on their way to the disk. Outlives a connection.
#[derive(Debug, Default)]
pub struct Storing(Option<(Secrets, JoinHandle<Result<(), String>>)>);

/// Of sub-devices, by their position.
type Secrets = Vec<(u32, Secret)>;

impl Storing {
    /// Waits until what is under way is on disk, for ever if nothing is. Cancel-safe.
    pub async fn done(&mut self) -> (Secrets, Result<(), String>) {
        let Some((_, task)) = &mut self.0 else { return std::future::pending().await };
        let result = task.await.unwrap_or_else(|error| Err(error.to_string()));
        let secrets = self.0.take().map(|(secrets, _)| secrets).unwrap_or_default();
        (secrets, result)
    }
}

impl Purpose {
    /// Its answer means devices of the list it was asked with.
    pub(super) fn holds_positions(&self) -> bool {
        match self {
            Purpose::SubDevices(_) | Purpose::Report(_) | Purpose::Setting(_) | Purpose::Template(_) => true,
            Purpose::Inform | Purpose::Notice(_) | Purpose::Update(_) | Purpose::Wish(_) => false,
        }
    }
}

impl Chores {
    /// For another list of devices: they are looked at and reported anew.
    pub(super) fn begun_anew(before: &Chores) -> Chores {
        Chores {
            informed: before.informed,
            notices: before.notices.clone(),
            update_after: before.update_after,
            no_reports: before.no_reports,
            ..Chores::default()
        }
    }
}

impl Session<'_> {
    /// Sends what may be asked now.
    pub(super) fn ask(&mut self, now: Now) -> Result<(), Lost> {
        for purpose in self.requests.expired(now.at) {
            self.settle(purpose, None, now);
        }
        if self.stopping.is_none() {
            if self.looks_at().is_none_or(|at| at <= now.at) {
                self.look_at_the_field(now);
            }
            self.submit_sub_devices(now);
            if self.link.config.acknowledge == Acknowledge::Reply {
                self.submit_chores(now);
                self.submit_care(now);
                self.submit_wishes();
            }
        }
        self.show_sub_devices();
        self.carry_out(now)
    }

    /// When the field is looked at next; `None`: it never was.
    pub(super) fn looks_at(&self) -> Option<Duration> {
        let patience = self.link.config.sub_devices.offline_after.map_or(LOOK, |after| after / 4);
        Some(self.chores.looked? + LOOK.min(patience))
    }

    fn carry_out(&mut self, now: Now) -> Result<(), Lost> {
        let (link, requests): (&mut Link, &mut Requests<Purpose>) = (self.link, &mut self.requests);
        let steps = requests.steps(now.at, |open| link.free_id(open));
        for step in steps {
            match step {
                Step::Subscribe(topics) => {
                    self.subscribe(topics, now)?;
                }
                Step::Publish { topic, payload } => self.connection.publish(None, &topic, payload)?,
            }
        }
        Ok(())
    }

    /// Asks for topics and remembers whose answers may come then.
    pub(super) fn subscribe(&mut self, topics: Vec<String>, now: Now) -> Result<usize, Lost> {
        let packets = self.connection.subscribe(&topics)?;
        self.requests.subscribe_sent(topics, packets, now.at);
        Ok(packets)
    }

    fn submit_sub_devices(&mut self, now: Now) {
        if !self.link.config.sub_device_login || self.link.extras.rosters.is_waiting() {
            return;
        }
        while self.requests.room() > 0
            && let Some(ask) = self.link.sub_devices.next(now.at)
        {
            let message = self.link.sub_devices.message(&ask, now.wall.0);
            self.requests.submit(message, Purpose::SubDevices(ask));
        }
    }

    fn submit_chores(&mut self, now: Now) {
        let gateway = self.link.gateway();
        if !self.chores.informed && self.requests.room() > 0 {
            self.chores.informed = true;
            let version = self.link.extras.updates.version();
            let version = version.as_deref().unwrap_or(crate::version::current());
            self.requests.submit(ota::inform(gateway, version), Purpose::Inform);
        }
        if !self.chores.notices.is_under_way()
            && self.requests.room() > 0
            && let Some((number, notice)) = self.next_notice(now)
        {
            self.chores.notices.begin(notice.device.clone());
            let device = notice.device.as_ref();
            let whose = device.map_or(gateway, |(product_key, device_key)| Whose { product_key, device_key });
            let message = event::post(whose, &notice.event, &notice.fields, notice.at);
            self.requests.submit(message, Purpose::Notice(number));
        }
        self.submit_update(now);
        let config = &self.link.config;
        let waiting = self.link.extras.rosters.is_waiting();
        if self.flowing && config.sub_devices.connection_state && !self.chores.no_reports && !waiting {
            self.submit_report(now);
        }
    }

    /// That of a sub-device waits for its login; others go before it meanwhile.
    fn next_notice(&self, now: Now) -> Option<(u64, crate::model::Notice)> {
        let (login, waiting) = (self.link.config.sub_device_login, self.link.extras.rosters.is_waiting());
        self.link.extras.notices.first(|notice| {
            let known = match &notice.device {
                None => true,
                Some((product, device)) => !waiting && self.link.sub_devices.may_be_told_of(product, device, login),
            };
            known && self.chores.notices.may(&notice.device, now.at)
        })
    }

    fn submit_update(&mut self, now: Now) {
        if self.chores.update_after > now.at || self.requests.room() == 0 {
            return;
        }
        let (config, devices) = (&self.link.config, &self.link.sub_devices);
        let may = |saying: &Saying| {
            let gateway = (&config.product_key, &config.device_key) == (&saying.product_key, &saying.device_key);
            gateway || devices.may_be_told_of(&saying.product_key, &saying.device_key, config.sub_device_login)
        };
        let Some((number, saying)) = self.link.extras.updates.next(may) else { return };
        let whose = Whose { product_key: &saying.product_key, device_key: &saying.device_key };
        let message = match &saying.what {
            Said::Version(version) => ota::inform(whose, version),
            Said::Progress { step, words } => ota::progress(whose, *step, words),
        };
        self.requests.submit(message, Purpose::Update(number));
    }

    fn update_settled(&mut self, number: u64, code: Option<i64>, words: &str, now: Now) {
        match code {
            Some(200) => self.link.extras.updates.done(number),
            // No such task, or none that was started: 764 and 765. Others will not be taken the next time either.
            Some(code @ (600..=999 | 1200..=1299)) => {
                debug!(code, words, "the cloud does not want to hear this of an update");
                self.link.extras.updates.done(number);
            }
            _ => {
                self.link.extras.updates.again();
                self.chores.update_after = now.at + UPDATE_RETRY;
            }
        }
    }

    fn submit_report(&mut self, now: Now) {
        let devices = &mut self.link.sub_devices;
        let changed = devices.field_changed();
        if !std::mem::replace(&mut self.chores.report_begun, true) {
            self.chores.reports = reports(true, (0..u32::try_from(devices.len()).unwrap_or(u32::MAX)).collect());
        } else if !changed.is_empty() {
            self.chores.reports.extend(reports(false, changed));
        }
        if self.chores.report_under_way || self.requests.room() == 0 {
            return;
        }
        let Some(report) = self.chores.reports.pop_front() else { return };
        self.chores.report_under_way = true;
        let gateway = self.link.gateway();
        let devices = &self.link.sub_devices;
        let nodes: Vec<Node<'_>> = report.devices.iter().map(|at| devices.node(*at)).collect();
        let message = connection_state::post(gateway, report.full, &nodes, now.wall);
        self.requests.submit(message, Purpose::Report(report));
    }

    /// A message on a reply topic.
    pub(super) fn answer(&mut self, topic: &str, payload: &Bytes, now: Now) {
        if let Some((purpose, answer)) = self.requests.answered(topic, payload) {
            self.settle(purpose, Some(answer), now);
        }
    }

    /// A request has come to its end, with an answer or without.
    fn settle(&mut self, purpose: Purpose, answer: Option<Answer>, now: Now) {
        let reply = match &answer {
            Some(Answer::Json(reply)) => Some(reply),
            Some(Answer::Raw(_)) | None => None,
        };
        let code = reply.map(|reply| reply.code);
        let words = reply.map_or("", |reply| reply.message.as_str());
        match purpose {
            Purpose::SubDevices(ask) => {
                let news = self.link.sub_devices.answered(&ask, reply, now.at);
                self.tell(news);
                self.put_secrets_away();
                self.let_in();
                self.welcome(now);
            }
            Purpose::Setting(setting) => {
                let news = self.link.properties.answered(setting, reply, now.at);
                self.tell(news.into_iter().collect());
            }
            Purpose::Template(model) => {
                let news = self.link.templates.answered(&model, reply).to_vec();
                let found = self.link.templates.found().to_vec();
                self.link.status.update(|s| s.model_faults = found);
                self.tell(news);
            }
            Purpose::Wish(told) => care::grant(told, answer),
            Purpose::Inform if code == Some(200) => {}
            Purpose::Inform => debug!(code, words, "the cloud did not take the version; updates can not be offered"),
            Purpose::Notice(number) => self.notice_settled(number, code, words, now),
            Purpose::Update(number) => self.update_settled(number, code, words, now),
            Purpose::Report(report) => {
                self.chores.report_under_way = false;
                match code {
                    Some(200) => {}
                    None => self.chores.reports.push_front(report),
                    Some(code) => {
                        warn!(code, words, "the cloud takes no connection states; no more are sent on this connection");
                        self.chores.no_reports = true;
                    }
                }
            }
        }
    }

    fn notice_settled(&mut self, number: u64, code: Option<i64>, words: &str, now: Now) {
        match code {
            Some(200) => {
                self.chores.notices.done();
                self.link.extras.notices.done(number);
            }
            // The model does not know the event, or has other outputs: it never will be taken.
            Some(code @ (600..=999 | 1200..=1299)) => {
                warn!(code, words, "the cloud refused an event; is it with these outputs in the model there?");
                self.chores.notices.done();
                self.link.extras.notices.done(number);
            }
            _ if self.chores.notices.again(code.is_some(), now.at) => {}
            _ => {
                warn!(code, words, "the cloud does not take an event, however often it is told; given up");
                self.link.extras.notices.done(number);
            }
        }
    }

    fn tell(&self, news: Vec<String>) {
        let more = news.len().saturating_sub(LINES);
        for line in news.iter().take(LINES) {
            warn!("{line}");
        }
        if more > 0 {
            warn!(more, "more of the same; `enos-edge status` names them all");
        }
        if let Some(last) = news.into_iter().next_back() {
            self.link.status.update(|s| s.last_error = Some(last));
        }
    }

    fn put_secrets_away(&mut self) {
        if self.link.storing.0.is_some() {
            return;
        }
        let secrets = self.link.sub_devices.take_new_secrets();
        if secrets.is_empty() {
            return;
        }
        let Some(shelf) = self.link.extras.shelf.clone() else {
            self.link.sub_devices.stored(secrets);
            return;
        };
        let devices = &self.link.sub_devices;
        let rows = secrets.iter().map(|(at, secret)| {
            let whose = devices.whose(*at);
            (whose.product_key.to_owned(), whose.device_key.to_owned(), secret.clone())
        });
        let rows: Vec<_> = rows.collect();
        let task = tokio::spawn(async move { shelf.put(rows).await });
        self.link.storing.0 = Some((secrets, task));
    }

    pub(super) fn secrets_stored(&mut self, (secrets, result): (Secrets, Result<(), String>)) {
        if let Err(why) = result {
            let devices = secrets.len();
            error!(
                devices,
                why, "secrets the cloud gave to sub-devices are not on disk and will be lost with a restart"
            );
            self.link
                .status
                .update(|s| s.last_error = Some(format!("secrets of {devices} sub-devices are not on disk: {why}")));
        }
        self.link.sub_devices.stored(secrets);
        // More may have come meanwhile.
        self.put_secrets_away();
    }

    pub(super) fn look_at_the_field(&mut self, now: Now) {
        self.chores.looked = Some(now.at);
        let Some(field) = self.link.extras.field.as_ref().map(Arc::clone) else { return };
        let devices = &mut self.link.sub_devices;
        field.silences(&mut |index, silent| devices.field(index, silent, now.at));
    }

    pub(super) fn show_sub_devices(&mut self) {
        let changed: Vec<(u32, Login)> = self.link.sub_devices.changed();
        if changed.is_empty() {
            return;
        }
        let (online, refused) = self.link.sub_devices.counts();
        self.link.counters.sub_devices_online.set(online);
        self.link.counters.sub_devices_refused.set(refused);
        self.link.status.logins(changed);
    }
}

/// The cloud takes one message of a limited size: what does not fit into the first follows as a change.
fn reports(full: bool, devices: Vec<u32>) -> VecDeque<Report> {
    let chunks = devices.chunks(connection_state::NODES).enumerate();
    chunks.map(|(number, some)| Report { full: full && number == 0, devices: some.to_vec() }).collect()
}
