//! One request in flight over a stream of bytes: sent whole, answered before its dead-line, checked.

use crate::barrier;
use crate::line::{Line, Suspect};
use crate::mbap::{self, Head};
use crate::pdu::{Reply, Request};
use crate::rtu;
use driver::{Direction, FrameTap, SessionError};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::debug;

/// A socket, a serial port, or a test's pipe.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Mbap,
    Rtu,
}

/// How long things take on this link.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub timeout: Duration,
    /// Pause between an answer and the next request.
    pub delay: Duration,
    /// Serial lines: silence that ends a frame. Zero for sockets.
    pub silence: Duration,
    /// Serial lines: time of one character. Zero for sockets.
    pub character: Duration,
}

/// One conversation.
pub struct Link {
    io: Box<dyn Stream>,
    framing: Framing,
    timing: Timing,
    tap: Arc<dyn FrameTap>,
    line: Option<Arc<Line>>,
    transaction: u16,
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Bytes of `received` that belong to the last answer or lie before it.
    consumed: usize,
    /// True from before a request is sent until its answer is here: a future that was dropped in
    /// between leaves it set, and nothing is asked on this link any more.
    busy: bool,
    /// When the last answer came; kept only if a pause is wanted behind it.
    last_byte: Option<Instant>,
    /// The next answer may take this long, if that is longer than usual.
    within: Option<Duration>,
    /// The line gives back what is sent, as some two-wire adapters do.
    echoes: bool,
}

/// Frames with old transaction numbers that are passed over before the peer counts as mad.
const MOST_STALE: u32 = 16;
/// Bytes of noise kept while looking for an answer: two frames.
const MOST_NOISE: usize = 2 * rtu::MAX_FRAME;

impl Link {
    #[must_use]
    pub fn new(io: Box<dyn Stream>, framing: Framing, timing: Timing, tap: Arc<dyn FrameTap>) -> Link {
        Link {
            io,
            framing,
            timing,
            tap,
            line: None,
            transaction: first_transaction(),
            sent: Vec::with_capacity(mbap::MAX_FRAME),
            received: Vec::with_capacity(MOST_NOISE + rtu::MAX_FRAME),
            consumed: 0,
            busy: false,
            last_byte: None,
            within: None,
            echoes: false,
        }
    }

    /// The same on a line without transaction numbers, whose marks it keeps.
    #[must_use]
    pub fn on(mut self, line: Arc<Line>) -> Link {
        self.line = Some(line);
        self
    }

    /// The next request may be answered as late as this, if that is later than usual.
    pub fn answer_within(&mut self, time: Duration) {
        self.within = Some(time);
    }

    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Longest time one exchange may take.
    #[must_use]
    pub fn patience(timing: &Timing) -> Duration {
        timing.timeout + timing.delay + timing.silence * 2 + timing.character * 520
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// Any error ends the conversation; so does dropping the future.
    pub async fn exchange(&mut self, unit: u8, request: &Request<'_>) -> Result<Reply<'_>, SessionError> {
        if self.busy {
            return Err(SessionError::Broken("an earlier request was given up".to_owned()));
        }
        let suspects = self.line.as_ref().map(|line| line.suspects(unit, Instant::now())).unwrap_or_default();
        let within = self.within.take();
        if barrier::is_needed(request, &suspects) {
            self.clear_the_way(unit, request, &suspects).await?;
        }
        self.within = within;
        self.ask(unit, request).await
    }

    /// Makes sure that no late answer can pass for the answer to `request`, or does not ask.
    async fn clear_the_way(
        &mut self,
        unit: u8,
        request: &Request<'_>,
        suspects: &[Suspect],
    ) -> Result<(), SessionError> {
        for barrier in barrier::before(request, suspects) {
            debug!(unit, function = barrier.function(), "earlier request unanswered: asking for something else first");
            let exception = matches!(self.ask(unit, &barrier).await?, Reply::Exception(_));
            if !barrier::is_ambiguous(&barrier, exception, suspects) {
                return Ok(());
            }
        }
        let problem =
            format!("unit {unit} owes answers that could be taken for others; left alone until they are void");
        Err(SessionError::Broken(problem))
    }

    async fn ask(&mut self, unit: u8, request: &Request<'_>) -> Result<Reply<'_>, SessionError> {
        self.settle(unit, request).await?;
        let timeout = self.within.take().map_or(self.timing.timeout, |within| within.max(self.timing.timeout));
        self.encode(unit, request);
        let now = Instant::now();
        let reply_len = request.reply_len() + 3;
        let on_wire = self.timing.character * u32::try_from(self.sent.len() + reply_len).unwrap_or(u32::MAX);
        let deadline = now + timeout + on_wire;
        self.busy = true;
        let older = match &self.line {
            Some(line) => line.sending((unit, request.function(), reply_len), now, deadline, self.timing.silence),
            None => Vec::new(),
        };
        let (start, end) = match timeout_at(deadline, self.converse(unit, request)).await {
            Ok(found) => found?,
            Err(_) => return Err(SessionError::Timeout(timeout)),
        };
        self.consumed = end;
        let frame = &self.received[start..end];
        self.tap.frame(Direction::Received, frame);
        let pdu = match self.framing {
            Framing::Mbap => &frame[mbap::HEADER..],
            Framing::Rtu => &frame[1..frame.len() - 2],
        };
        let Some(reply) = request.check(pdu) else {
            let function = request.function();
            return Err(SessionError::Broken(format!("unit {unit} answered something else than function {function}")));
        };
        self.busy = false;
        if !self.timing.delay.is_zero() {
            self.last_byte = Some(Instant::now());
        }
        if let Some(line) = &self.line {
            let exception = matches!(reply, Reply::Exception(_));
            line.answered(unit, !barrier::is_ambiguous(request, exception, &older));
        }
        Ok(reply)
    }

    /// Gets the line into the state a request needs: pause kept, nothing old in the buffer.
    async fn settle(&mut self, unit: u8, request: &Request<'_>) -> Result<(), SessionError> {
        self.received.drain(..self.consumed.min(self.received.len()));
        self.consumed = 0;
        if let Some(last) = self.last_byte
            && !self.timing.delay.is_zero()
        {
            sleep_until(last + self.timing.delay).await;
        }
        match self.framing {
            Framing::Mbap => Ok(()),
            Framing::Rtu if !self.timing.silence.is_zero() => self.drain(self.timing.silence).await,
            Framing::Rtu => self.refuse_unasked(unit, request).await,
        }
    }

    /// On a socket there is no silence to wait for: what is already here and would pass for the
    /// answer shows that the two sides are out of step. Other noise is thrown away.
    async fn refuse_unasked(&mut self, unit: u8, request: &Request<'_>) -> Result<(), SessionError> {
        match timeout(Duration::ZERO, self.io.read_buf(&mut self.received)).await {
            Ok(Ok(0)) => return Err(SessionError::Disconnected("closed by the peer".to_owned())),
            Ok(Err(error)) => return Err(SessionError::Disconnected(error.to_string())),
            _ => {}
        }
        if rtu::find(&self.received, unit, request).is_some() {
            self.busy = true;
            return Err(SessionError::Broken(format!("unit {unit} answered before it was asked")));
        }
        self.received.clear();
        Ok(())
    }

    /// Throws away what comes until the line was silent for `silence`.
    ///
    /// # Errors
    /// When the line broke or is never silent.
    async fn drain(&mut self, silence: Duration) -> Result<(), SessionError> {
        let started = Instant::now();
        // A line that chatters for longer than a hundred frames has another master or a short circuit.
        let longest = Duration::from_secs(1) + self.timing.character * 25_600;
        let mut quiet_from = started;
        loop {
            self.received.clear();
            match timeout_at(quiet_from + silence, self.io.read_buf(&mut self.received)).await {
                Err(_) => return Ok(()),
                Ok(Ok(0)) => return Err(SessionError::Disconnected("the serial port is gone".to_owned())),
                Ok(Err(error)) => return Err(SessionError::Disconnected(error.to_string())),
                Ok(Ok(_)) => self.tap.frame(Direction::Received, &self.received),
            }
            quiet_from = Instant::now();
            if quiet_from.duration_since(started) > longest {
                return Err(SessionError::Disconnected("the serial line is never silent".to_owned()));
            }
        }
    }

    fn encode(&mut self, unit: u8, request: &Request<'_>) {
        match self.framing {
            Framing::Mbap => {
                self.transaction = self.transaction.wrapping_add(1);
                mbap::begin(self.transaction, unit, &mut self.sent);
                request.encode(&mut self.sent);
                mbap::finish(&mut self.sent);
            }
            Framing::Rtu => {
                self.sent.clear();
                self.sent.push(unit);
                request.encode(&mut self.sent);
                rtu::finish(&mut self.sent);
            }
        }
    }

    async fn converse(&mut self, unit: u8, request: &Request<'_>) -> Result<(usize, usize), SessionError> {
        let broke = |error: std::io::Error| SessionError::Disconnected(error.to_string());
        self.tap.frame(Direction::Sent, &self.sent);
        self.io.write_all(&self.sent).await.map_err(broke)?;
        self.io.flush().await.map_err(broke)?;
        let mut stale = 0;
        loop {
            let found = match self.framing {
                Framing::Mbap => self.find_mbap(unit, &mut stale)?,
                Framing::Rtu => self.find_rtu(unit, request),
            };
            if let Some(found) = found {
                return Ok(found);
            }
            if self.io.read_buf(&mut self.received).await.map_err(broke)? == 0 {
                return Err(SessionError::Disconnected("closed by the peer".to_owned()));
            }
        }
    }

    fn find_mbap(&mut self, unit: u8, stale: &mut u32) -> Result<Option<(usize, usize)>, SessionError> {
        loop {
            let (transaction, from, len) = match mbap::head(&self.received) {
                Head::More => return Ok(None),
                Head::Broken(why) => return Err(SessionError::Broken(why.to_owned())),
                Head::Frame { transaction, unit, len } => (transaction, unit, len),
            };
            if transaction == self.transaction {
                if from != unit {
                    return Err(SessionError::Broken(format!("unit {from} answered for unit {unit}")));
                }
                return Ok(Some((0, len)));
            }
            // Repeated answers to earlier requests of this very conversation; those were all
            // answered, so nothing is lost. A number never used yet is a broken peer.
            let age = self.transaction.wrapping_sub(transaction);
            *stale += 1;
            if age > 1024 || *stale > MOST_STALE {
                let problem = format!("transaction {transaction} in place of {}", self.transaction);
                return Err(SessionError::Broken(problem));
            }
            self.tap.frame(Direction::Received, &self.received[..len]);
            self.received.drain(..len);
        }
    }

    fn find_rtu(&mut self, unit: u8, request: &Request<'_>) -> Option<(usize, usize)> {
        let own = self.sent.len();
        let echoed = self.received.len() >= own && self.received[..own] == self.sent[..];
        let is_read = matches!(request, Request::Read { .. } | Request::ReadFile { .. });
        // The answer to a read can not look like the request, so what does is an echo.
        self.echoes |= echoed && is_read;
        let skip = if self.echoes && echoed { own } else { 0 };
        let found = rtu::find(&self.received[skip..], unit, request).map(|(start, end)| (start + skip, end + skip));
        if found.is_none() && self.received.len() > MOST_NOISE {
            self.received.drain(..self.received.len() - rtu::MAX_FRAME);
        }
        found
    }

    /// Ends the conversation; on a line with an unanswered request, listens until the line is quiet,
    /// so that a late answer is seen and thrown away.
    pub async fn close(mut self) {
        if let (true, Some(line)) = (self.busy, self.line.take()) {
            // Best effort: whoever opens the line next finds what is left of the quarantine.
            let _ = self.quarantine(&line).await;
        }
    }

    /// Gets a line that was just opened into a known state: whatever it holds is nobody's answer.
    ///
    /// # Errors
    /// When the line broke or is never silent.
    pub async fn quarantine(&mut self, line: &Line) -> Result<(), SessionError> {
        let mut silence = self.timing.silence;
        if let Some(quiet_at) = line.quiet_at()
            && !self.listen(line, quiet_at).await?
        {
            silence = silence.max(SETTLE);
        }
        self.drain(silence).await?;
        line.is_quiet();
        Ok(())
    }

    /// Listens for late answers. True as soon as nothing is owed any more, false at `quiet_at`.
    async fn listen(&mut self, line: &Line, quiet_at: Instant) -> Result<bool, SessionError> {
        loop {
            match timeout_at(quiet_at, self.io.read_buf(&mut self.received)).await {
                Err(_) => return Ok(false),
                Ok(Ok(0)) => return Err(SessionError::Disconnected("closed by the peer".to_owned())),
                Ok(Err(error)) => return Err(SessionError::Disconnected(error.to_string())),
                Ok(Ok(_)) => {}
            }
            if line.observe(&mut self.received, Instant::now()) {
                return Ok(true);
            }
            if self.received.len() > MOST_NOISE {
                self.received.drain(..self.received.len() - rtu::MAX_FRAME);
            }
        }
    }
}

/// Silence that shows that a line is free, beside 3.5 characters: USB adapters hold bytes back
/// for up to their latency timer of 16 ms.
const SETTLE: Duration = Duration::from_millis(20);

/// A start that differs from session to session, so that answers to an earlier conversation a
/// gateway still has do not fit.
fn first_transaction() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(4099, Ordering::Relaxed)
}
