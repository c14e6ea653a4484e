//! One client's connection: packets in, packets out, nobody else's business.

use super::codec::{self, Connect, Incoming, Publish};
use super::compression;
use super::connect::Admission;
use super::request::{self, Reply};
use super::world::{Outbound, World};
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

/// Larger packets end the connection; those between this and 512 KB are answered 1008.
const MAX_PACKET: usize = 8 << 20;
/// A client must say who it is within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages others hand to this connection; when full, the sender counts what it could not hand over.
const OUTBOUND: usize = 1024;

/// Room for one read: a backlog comes in messages of hundreds of kilobytes.
const READ_AHEAD: usize = 64 * 1024;

struct Connection<S> {
    stream: S,
    world: Arc<Mutex<World>>,
    link: u64,
    /// For replies that wait: they come back through the connection's own queue.
    own_outbound: mpsc::Sender<Outbound>,
    input: BytesMut,
    output: BytesMut,
    next_pkid: u16,
    held_pubacks: Vec<u16>,
    keep_alive: Option<Duration>,
    gzip: bool,
}

/// Serves a client until it goes, breaks the protocol or is cut off.
///
/// `certificate` is the serial number of the one the client showed.
pub(super) async fn serve<S>(stream: S, world: Arc<Mutex<World>>, certificate: Option<String>) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (outbound, queue) = mpsc::channel(OUTBOUND);
    let kick = Arc::new(Notify::new());
    let link = lock(&world).open_link(outbound.clone(), Arc::clone(&kick), certificate);
    let closing = CloseLink { world: Arc::clone(&world), link };
    let connection = Connection {
        stream,
        world,
        link,
        own_outbound: outbound,
        input: BytesMut::with_capacity(READ_AHEAD),
        output: BytesMut::new(),
        next_pkid: 0,
        held_pubacks: Vec::new(),
        keep_alive: None,
        gzip: false,
    };
    let result = tokio::select! {
        result = connection.run(queue) => result,
        () = kick.notified() => Ok(()),
    };
    drop(closing);
    result
}

/// Takes the link out of the world however the task ends.
struct CloseLink {
    world: Arc<Mutex<World>>,
    link: u64,
}

impl Drop for CloseLink {
    fn drop(&mut self) {
        lock(&self.world).close_link(self.link);
    }
}

fn lock(world: &Mutex<World>) -> std::sync::MutexGuard<'_, World> {
    world.lock().expect("the cloud's lock is not poisoned")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(mut self, mut queue: mpsc::Receiver<Outbound>) -> anyhow::Result<()> {
        let connect = timeout(CONNECT_TIMEOUT, self.read_connect()).await.context("no CONNECT")??;
        self.admit(connect).await?;
        let mut heard = Instant::now();
        loop {
            // MQTT 3.1.1 3.1.2.10: silence of one and a half times the keep-alive ends the connection.
            let deadline = heard + self.keep_alive.map_or(Duration::from_secs(86_400), |time| time.mul_f32(1.5));
            self.input.reserve(READ_AHEAD);
            tokio::select! {
                read = timeout_at(deadline, self.stream.read_buf(&mut self.input)) => {
                    if read.context("keep-alive")?? == 0 {
                        return Ok(());
                    }
                    heard = Instant::now();
                    if !self.take_packets()? {
                        return Ok(());
                    }
                }
                Some(message) = queue.recv() => self.put(message),
            }
            self.flush().await?;
        }
    }

    async fn read_connect(&mut self) -> anyhow::Result<Connect> {
        loop {
            match codec::decode(&mut self.input, MAX_PACKET)? {
                Some(Incoming::Connect(connect)) => return Ok(connect),
                Some(_) => bail!("first packet is no CONNECT"),
                None if self.stream.read_buf(&mut self.input).await? == 0 => bail!("closed before CONNECT"),
                None => {}
            }
        }
    }

    async fn admit(&mut self, connect: Connect) -> anyhow::Result<()> {
        let (admission, pushes) = {
            let mut world = lock(&self.world);
            let admission = world.admit(self.link, &connect);
            self.gzip = world.links.get(&self.link).is_some_and(|link| link.gzip);
            let pushes = if admission == Admission::Connack(0) { world.activation(self.link) } else { Vec::new() };
            (admission, pushes)
        };
        let Admission::Connack(code) = admission else {
            // Until the client gives up.
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            bail!("CONNECT left without an answer");
        };
        codec::put_connack(&mut self.output, code);
        self.flush().await?;
        if code != 0 {
            bail!("CONNECT of {} refused with {code}", connect.user_name.unwrap_or_default());
        }
        for (message, delay) in pushes {
            self.put_later(message, delay);
        }
        self.keep_alive = (connect.keep_alive_s > 0).then(|| Duration::from_secs(connect.keep_alive_s.into()));
        Ok(())
    }

    /// False when the client said goodbye.
    fn take_packets(&mut self) -> anyhow::Result<bool> {
        while let Some(packet) = codec::decode(&mut self.input, MAX_PACKET)? {
            match packet {
                Incoming::Publish(publish) => self.take_publish(&self.unpacked(publish)),
                Incoming::PubAck(_) => {}
                Incoming::Subscribe { pkid, filters } => {
                    let codes = lock(&self.world).subscribe(self.link, filters);
                    codec::put_suback(&mut self.output, pkid, &codes);
                }
                Incoming::Unsubscribe { pkid, filters } => {
                    lock(&self.world).unsubscribe(self.link, &filters);
                    codec::put_unsuback(&mut self.output, pkid);
                }
                Incoming::PingReq => codec::put_pingresp(&mut self.output),
                Incoming::Disconnect => return Ok(false),
                Incoming::Connect(_) => bail!("second CONNECT"),
            }
        }
        Ok(true)
    }

    /// As its sender meant it. What is no GZIP stays as it is and will be found to be no JSON.
    fn unpacked(&self, publish: Publish) -> Publish {
        match self.gzip.then(|| compression::unpack(&publish.payload, MAX_PACKET)).flatten() {
            Some(payload) => Publish { payload, ..publish },
            None => publish,
        }
    }

    fn take_publish(&mut self, publish: &Publish) {
        let reply = request::handle(&self.world, self.link, publish);
        if let Some(pkid) = publish.pkid {
            if lock(&self.world).knobs.withhold_pubacks {
                self.held_pubacks.push(pkid);
            } else {
                codec::put_puback(&mut self.output, pkid);
            }
        }
        match reply {
            Some(Reply { topic, payload, qos, delay: None }) => self.put_publish(&topic, &payload, qos),
            Some(Reply { topic, payload, qos, delay: Some(delay) }) => {
                self.put_later(Outbound::Publish { topic, payload, qos }, delay);
            }
            None => {}
        }
    }

    /// Ends by itself: after the delay the reply is in the queue, or the connection is gone.
    fn put_later(&self, message: Outbound, delay: Duration) {
        let outbound = self.own_outbound.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // A closed queue means the client left; nobody wants the reply any more.
            let _ = timeout(WRITE_TIMEOUT, outbound.send(message)).await;
        });
    }

    fn put(&mut self, message: Outbound) {
        match message {
            Outbound::Publish { topic, payload, qos } => self.put_publish(&topic, &payload, qos),
            Outbound::ReleasePubacks => {
                for pkid in std::mem::take(&mut self.held_pubacks) {
                    codec::put_puback(&mut self.output, pkid);
                }
            }
        }
    }

    fn put_publish(&mut self, topic: &str, payload: &Bytes, qos: u8) {
        let pkid = (qos > 0).then(|| {
            self.next_pkid = self.next_pkid.checked_add(1).unwrap_or(1);
            self.next_pkid
        });
        if self.gzip {
            codec::put_publish(&mut self.output, topic, &compression::pack(payload), pkid);
        } else {
            codec::put_publish(&mut self.output, topic, payload, pkid);
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.output.is_empty() {
            timeout(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await.context("write")??;
            self.output.clear();
            timeout(WRITE_TIMEOUT, self.stream.flush()).await.context("write")??;
        }
        Ok(())
    }
}
