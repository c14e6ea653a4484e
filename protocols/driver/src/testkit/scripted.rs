//! A protocol without a wire: its plan does what a test tells it, device by device.

use crate::Direction;
use crate::{
    Answer, Datum, FrameTap, Phase, Plan, Reason, Resource, Sample, ScanGroup, Session, SessionError, Timestamp,
    Transfer, TransferError, TransferShape, Value,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How a device takes a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Every point is good; its value is the point's own number.
    #[default]
    Answers,
    /// Answers after a while.
    Slow(Duration),
    /// `Timeout` after the plan's dead-line.
    Dead,
    /// All points bad with this Modbus exception.
    Refuses(u8),
    /// Breaks the contract: leaves out the last point.
    Forgets,
    /// Breaks the contract: never comes back.
    Hangs,
    Panics,
    /// The peer closes the conversation.
    Drops,
    /// The peer answers and then closes the conversation, so that the next read finds it closed.
    AnswersOnce,
}

/// What the test says and what it can see. Shared by all sessions.
#[derive(Default)]
pub struct Script {
    inner: Mutex<Inner>,
    pushed: Notify,
}

#[derive(Default)]
struct Inner {
    behaviours: Vec<Behaviour>,
    refuse: bool,
    connect_takes: Duration,
    close_takes: Duration,
    write_result: Option<SessionError>,
    queue: VecDeque<Sample>,
    reads: Vec<(Instant, usize)>,
    writes: Vec<(Instant, u32, Value)>,
    connects: Vec<Instant>,
    open: usize,
    most_open: usize,
    closed: usize,
    files: Files,
}

/// A store of one file, which every device of the plan has.
#[derive(Default)]
struct Files {
    takes: Duration,
    results: VecDeque<TransferError>,
    content: Vec<u8>,
    steps: Vec<Instant>,
}

impl Script {
    /// From now on this device behaves so.
    pub fn behave(&self, device: usize, behaviour: Behaviour) {
        self.lock().behaviours[device] = behaviour;
    }

    /// Every connect fails.
    pub fn refuse(&self, refuse: bool) {
        self.lock().refuse = refuse;
    }

    pub fn connect_takes(&self, time: Duration) {
        self.lock().connect_takes = time;
    }

    pub fn close_takes(&self, time: Duration) {
        self.lock().close_takes = time;
    }

    /// Every write ends so; `Timeout` after its time.
    pub fn writes_fail(&self, error: SessionError) {
        self.lock().write_result = Some(error);
    }

    /// A step of sending a file takes so long.
    pub fn file_steps_take(&self, time: Duration) {
        self.lock().files.takes = time;
    }

    /// The next step of sending a file ends so; `Timeout` after its time.
    pub fn file_step_fails(&self, error: TransferError) {
        self.lock().files.results.push_back(error);
    }

    /// What was sent of the file.
    pub fn file(&self) -> Vec<u8> {
        self.lock().files.content.clone()
    }

    /// When each step of sending it began.
    pub fn file_steps(&self) -> Vec<Instant> {
        self.lock().files.steps.clone()
    }

    /// The device sends this on its own.
    pub fn push(&self, sample: Sample) {
        self.lock().queue.push_back(sample);
        self.pushed.notify_one();
    }

    /// When each read of this group began.
    pub fn reads(&self, group: usize) -> Vec<Instant> {
        self.lock().reads.iter().filter(|(_, g)| *g == group).map(|(at, _)| *at).collect()
    }

    pub fn writes(&self) -> Vec<(Instant, u32, Value)> {
        self.lock().writes.clone()
    }

    /// When each connect was tried.
    pub fn connects(&self) -> Vec<Instant> {
        self.lock().connects.clone()
    }

    /// Most sessions that were open at one time.
    pub fn most_open(&self) -> usize {
        self.lock().most_open
    }

    /// Sessions that were closed as the contract says, and not merely dropped.
    pub fn closed(&self) -> usize {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A plan that follows a [`Script`]. One group a device unless a test pushes more.
pub struct ScriptedPlan {
    pub groups: Vec<ScanGroup>,
    /// Dead-line of one request.
    pub timeout: Duration,
    /// How its devices take a file.
    pub transfer: Option<TransferShape>,
    script: Arc<Script>,
}

impl ScriptedPlan {
    /// `devices` devices of `points` points each, read with this period; a dead one costs a second.
    #[must_use]
    pub fn polled(devices: u32, points: u32, period: Duration) -> ScriptedPlan {
        ScriptedPlan::new(devices, points, period, false)
    }

    /// Devices that send on their own.
    #[must_use]
    pub fn pushed(devices: u32, points: u32) -> ScriptedPlan {
        ScriptedPlan::new(devices, points, Duration::ZERO, true)
    }

    fn new(devices: u32, points: u32, period: Duration, pushed: bool) -> ScriptedPlan {
        let timeout = Duration::from_secs(1);
        let group = |device| ScanGroup {
            device,
            period,
            pushed,
            points: (device * points..(device + 1) * points).collect(),
            patience: timeout,
        };
        let script = Script::default();
        script.lock().behaviours = vec![Behaviour::Answers; devices as usize];
        ScriptedPlan { groups: (0..devices).map(group).collect(), timeout, transfer: None, script: Arc::new(script) }
    }

    #[must_use]
    pub fn script(&self) -> Arc<Script> {
        Arc::clone(&self.script)
    }
}

impl Plan for ScriptedPlan {
    fn scan_groups(&self) -> &[ScanGroup] {
        &self.groups
    }

    fn resources(&self) -> &[Resource] {
        &[]
    }

    fn transfer(&self, _: usize) -> Option<TransferShape> {
        self.transfer
    }

    fn endpoint(&self) -> String {
        "scripted://peer".to_owned()
    }

    fn connect(&self, tap: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>> {
        Box::pin(async move {
            let takes = {
                let mut inner = self.script.lock();
                inner.connects.push(Instant::now());
                inner.connect_takes
            };
            sleep(takes).await;
            let mut inner = self.script.lock();
            if inner.refuse {
                return Err(SessionError::Disconnected("refused".to_owned()));
            }
            inner.open += 1;
            inner.most_open = inner.most_open.max(inner.open);
            let session = ScriptedSession {
                groups: self.groups.clone(),
                transfer: self.transfer,
                timeout: self.timeout,
                script: self.script(),
                tap,
                over: false,
                answered_once: false,
            };
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}

struct ScriptedSession {
    groups: Vec<ScanGroup>,
    transfer: Option<TransferShape>,
    timeout: Duration,
    script: Arc<Script>,
    tap: Arc<dyn FrameTap>,
    over: bool,
    answered_once: bool,
}

impl Drop for ScriptedSession {
    fn drop(&mut self) {
        self.script.lock().open -= 1;
    }
}

impl ScriptedSession {
    async fn answer(&mut self, group: usize, samples: &mut Vec<Sample>) -> Result<(), SessionError> {
        let device = self.groups[group].device as usize;
        let behaviour = {
            let mut inner = self.script.lock();
            inner.reads.push((Instant::now(), group));
            inner.behaviours[device]
        };
        if self.over || self.answered_once {
            return self.end(SessionError::Disconnected("closed by the peer".to_owned()));
        }
        self.tap.frame(Direction::Sent, &[0x03, group as u8]);
        let timeout = SessionError::Timeout(self.timeout);
        let mut leave_out = 0;
        let mut refused = None;
        match behaviour {
            Behaviour::Answers => {}
            Behaviour::Slow(time) if time < self.timeout => sleep(time).await,
            Behaviour::Slow(_) | Behaviour::Dead => {
                sleep(self.timeout).await;
                return self.end(timeout);
            }
            Behaviour::Refuses(code) => refused = Some(Reason::ModbusException(code)),
            Behaviour::Forgets => leave_out = 1,
            Behaviour::Hangs => std::future::pending().await,
            Behaviour::Panics => panic!("scripted panic"),
            Behaviour::Drops => return self.end(SessionError::Disconnected("closed by the peer".to_owned())),
            Behaviour::AnswersOnce => self.answered_once = true,
        }
        let points = &self.groups[group].points;
        let time = Timestamp::now();
        samples.extend(points[..points.len() - leave_out].iter().map(|&point| Sample {
            point,
            time,
            datum: refused.map_or_else(|| Datum::Good(Value::Int(i64::from(point))), Datum::Bad),
        }));
        Ok(())
    }

    fn end(&mut self, error: SessionError) -> Result<(), SessionError> {
        self.over = true;
        Err(error)
    }
}

impl ScriptedSession {
    async fn take(&mut self, file: &mut Transfer) -> Result<(), TransferError> {
        let shape = self.transfer.expect("the runtime asks only where the plan has a transfer");
        let (takes, result) = {
            let files = &mut self.script.lock().files;
            files.steps.push(Instant::now());
            (files.takes, files.results.pop_front())
        };
        sleep(takes).await;
        if let Some(error) = result {
            self.over |= matches!(error, TransferError::Session(_));
            return Err(error);
        }
        if let Some(bytes) = file.bytes(shape.piece.min(usize::try_from(file.size - file.done).unwrap_or(shape.piece)))
        {
            let at = usize::try_from(file.done).expect("files of tests are small");
            let content = &mut self.script.lock().files.content;
            content.truncate(at);
            content.extend_from_slice(bytes);
            let len = bytes.len();
            file.advance(len);
        }
        if file.is_through() {
            file.enter(Phase::Done);
        }
        Ok(())
    }
}

impl Session for ScriptedSession {
    fn read<'a>(&'a mut self, group: usize, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(self.answer(group, samples))
    }

    fn write<'a>(&'a mut self, point: u32, value: &'a Value) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(async move {
            let result = {
                let mut inner = self.script.lock();
                inner.writes.push((Instant::now(), point, value.clone()));
                inner.write_result.clone()
            };
            if let Some(SessionError::Timeout(time)) = result {
                sleep(time).await;
            }
            result.map_or(Ok(()), Err)
        })
    }

    fn transfer<'a>(&'a mut self, _: u32, file: &'a mut Transfer) -> Answer<'a, Result<(), TransferError>> {
        Box::pin(self.take(file))
    }

    fn pushed<'a>(&'a mut self, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(async move {
            loop {
                let notified = self.script.pushed.notified();
                let queue: Vec<Sample> = self.script.lock().queue.drain(..).collect();
                if !queue.is_empty() {
                    samples.extend(queue);
                    return Ok(());
                }
                notified.await;
            }
        })
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            let takes = self.script.lock().close_takes;
            sleep(takes).await;
            self.script.lock().closed += 1;
        })
    }
}
