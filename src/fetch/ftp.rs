//! FTP and FTPS. Passive only, and the data connection goes to the host of the control connection whatever address the
//! server names; binary; resumed with REST when size and time of the file are the same.

use super::http::{paced, within};
use super::incoming::{Incoming, Mark, Writer};
use super::journal::{Journal, Step, Trouble};
use super::pace::{self, Pace};
use super::pull::{Found, Whole, missing_sidecar, sidecar_text};
use super::{ftp_implicit, names, reach, tls};
use crate::config::{Checksum, Scheme, SourceConfig};
use std::net::SocketAddr;
use std::time::Duration;
use suppaftp::tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream};
use suppaftp::types::FileType;
use suppaftp::{FtpError, FtpResult, Mode, Status};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

/// A listing that is longer is hostile: this is ten thousand names.
const LISTING_MOST: usize = 1 << 20;
const SIDECAR_MOST: usize = 64 << 10;

/// # Errors
/// The step that failed. What came is kept and the next attempt goes on there.
pub(super) async fn fetch(
    source: &SourceConfig,
    incoming: &mut Incoming,
    look: bool,
    journal: &mut Journal<'_>,
) -> Result<Found, Trouble> {
    let mut session = Session::open(source, journal).await?;
    let path = session.file(journal).await?;
    let mark = session.mark(&path).await?;
    if let Some(size) = mark.size {
        within(size, source.max_bytes)?;
    }
    journal.done(
        Step::Ask,
        mark.size.map_or_else(|| format!("{path} is there"), |size| format!("{path} has {size} bytes")),
    );
    if look {
        return Ok(Found::Looked);
    }
    if mark.proves() && incoming.memory.taken.as_ref() == Some(&mark) {
        return Ok(Found::Unchanged);
    }
    let (size, resumed) = session.transfer(&path, &mark, incoming, journal).await?;
    if mark.proves() && session.mark(&path).await? != mark {
        incoming.forget_part();
        return Err(Trouble::new(Step::Transfer, "the file was changed while it was sent")
            .help("put it there under another name, then rename it"));
    }
    let sha256 = session.sidecar(&path, journal).await?;
    session.close().await;
    Ok(Found::Whole(Whole { size, sha256, resumed }))
}

struct Session<'a> {
    ftp: AsyncRustlsFtpStream,
    source: &'a SourceConfig,
}

impl<'a> Session<'a> {
    async fn open(source: &'a SourceConfig, journal: &mut Journal<'_>) -> Result<Session<'a>, Trouble> {
        let at = &source.address;
        let stream = reach::connect(&at.host, at.port, source.connect_timeout, journal).await?;
        let peer = stream.peer_addr().map_err(|error| Trouble::new(Step::Connect, error.to_string()))?.ip();
        let stream = if source.implicit_tls {
            let relayed = ftp_implicit::relayed(stream).await;
            relayed.map_err(|error| Trouble::new(Step::Setup, format!("relay to the server: {error}")))?
        } else {
            stream
        };
        let greeted = answer(source, Step::Login, AsyncRustlsFtpStream::connect_with_stream(stream)).await;
        let mut ftp = greeted.map_err(|trouble| trouble.help("is this a port of ftp? check port and scheme in url"))?;
        if at.scheme == Scheme::Ftps {
            // One configuration for control and data: a server may want the session of the one resumed in the other.
            let connector = AsyncRustlsConnector::from(tokio_rustls::TlsConnector::from(tls::client(&source.trust)?));
            let securing = async {
                if source.implicit_tls {
                    ftp.into_secure(ftp_implicit::Greeted::from(connector), &at.host).await
                } else {
                    ftp.into_secure(connector, &at.host).await
                }
            };
            let remedy = if source.implicit_tls {
                "name the authority in ca_file or the certificate in certificate_sha256; a server that knows AUTH TLS wants implicit_tls: false"
            } else {
                "name the authority in ca_file or the certificate in certificate_sha256; the server must know AUTH TLS, or write implicit_tls: true"
            };
            ftp = answer(source, Step::Tls, securing).await.map_err(|trouble| trouble.help(remedy))?;
            journal.done(Step::Tls, format!("{} proved who it is", at.host));
        }
        // PASV names an address, and a hostile server that of a third host; EPSV names none but is not known everywhere.
        ftp.set_mode(if peer.is_ipv6() { Mode::ExtendedPassive } else { Mode::Passive });
        ftp.set_passive_nat_workaround(true);
        let patience = source.connect_timeout;
        let mut ftp = ftp.passive_stream_builder(move |address| {
            Box::pin(data_connection(SocketAddr::new(peer, address.port()), patience))
        });
        let user = source.user.as_deref().unwrap_or("anonymous");
        let password = source.password.as_ref().map_or("enos-edge@", |password| password.reveal());
        let entered = answer(source, Step::Login, ftp.login(user, password)).await;
        entered.map_err(|trouble| {
            let remedy = match at.scheme {
                Scheme::Ftp => "check user and password; the server may want ftps://",
                _ => "check user and password",
            };
            trouble.help(remedy)
        })?;
        journal.done(Step::Login, format!("as {user}"));
        answer(source, Step::Login, ftp.transfer_type(FileType::Binary)).await?;
        Ok(Session { ftp, source })
    }

    /// The path of the archive: that of the address, or the newest of its folder.
    async fn file(&mut self, journal: &mut Journal<'_>) -> Result<String, Trouble> {
        let folder = &self.source.address.path;
        if !self.source.address.is_folder() {
            return Ok(folder.clone());
        }
        let expected = [Status::AboutToSend, Status::AlreadyOpen];
        let opened =
            answer(self.source, Step::List, self.ftp.custom_data_command(format!("NLST {folder}"), &expected)).await?;
        let mut stream = opened.1;
        let listed = small(&mut stream, LISTING_MOST, self.source, Step::List).await?;
        answer(self.source, Step::List, stream.finish()).await?;
        let listed = String::from_utf8_lossy(&listed);
        let found = names::newest(listed.lines().map(str::trim_end), folder).ok_or_else(|| {
            Trouble::new(Step::List, format!("{folder} holds no archive")).help("put a .tar.gz, .tar.zst or .zip there")
        })?;
        journal.done(Step::List, format!("the newest of {folder} is {found}"));
        Ok(format!("{folder}{found}"))
    }

    /// Size and time, as far as the server tells them.
    async fn mark(&mut self, path: &str) -> Result<Mark, Trouble> {
        let size = known(answer_raw(self.source, self.ftp.size(path)).await, Step::Ask)?.map(|size| size as u64);
        // A server that tells the size knows the file; what it says to MDTM is about MDTM.
        let modified = match answer_raw(self.source, self.ftp.mdtm(path)).await? {
            Err(FtpError::UnexpectedResponse(_)) => None,
            answered => known(Ok(answered), Step::Ask)?.map(|time| time.to_string()),
        };
        Ok(Mark { address: format!("{}#{path}", self.source.address), etag: None, modified, size })
    }

    async fn transfer(
        &mut self,
        path: &str,
        mark: &Mark,
        incoming: &mut Incoming,
        journal: &mut Journal<'_>,
    ) -> Result<(u64, bool), Trouble> {
        let begun = pace::now();
        let same = mark.proves() && mark.size.is_some() && incoming.memory.part.as_ref() == Some(mark);
        let held = if same { incoming.held() } else { 0 };
        if held > 0 && mark.size == Some(held) {
            journal.done(Step::Transfer, "all bytes are here already");
            return Ok((held, true));
        }
        let resumed = held > 0 && mark.size.is_some_and(|size| held < size);
        if resumed {
            // Said to the server together with RETR.
            answer(self.source, Step::Transfer, self.ftp.resume_transfer(usize::try_from(held).unwrap_or(0))).await?;
        }
        let opened = answer_raw(self.source, self.ftp.retr_as_stream(path)).await;
        if resumed
            && matches!(&opened, Ok(Err(FtpError::UnexpectedResponse(said))) if said.status != Status::FileUnavailable)
        {
            incoming.forget_part();
            return Err(Trouble::new(Step::Transfer, "the server does not know REST")
                .help("the next attempt fetches the whole archive"));
        }
        let mut stream = told(opened, self.source, Step::Transfer)?;
        let mut writer = if resumed { incoming.go_on()? } else { incoming.begin(mark.clone())? };
        let taken = receive(&mut stream, &mut writer, mark.size, self.source).await;
        writer.finish().await?;
        let length = writer.length();
        if mark.size.is_some_and(|size| length > size) {
            // A server that says yes to REST and begins at the beginning.
            incoming.forget_part();
        }
        taken?;
        answer(self.source, Step::Transfer, stream.finish()).await?;
        if let Some(size) = mark.size.filter(|size| *size != length) {
            return Err(Trouble::new(Step::Transfer, format!("it ended after {length} of {size} bytes"))
                .help("the next attempt goes on there"));
        }
        let from = if resumed { format!(", from {held} on") } else { String::new() };
        journal.done(
            Step::Transfer,
            format!("{} bytes in {:.1} s{from}", length - held * u64::from(resumed), begun.elapsed().as_secs_f32()),
        );
        Ok((length, resumed))
    }

    async fn sidecar(&mut self, path: &str, journal: &mut Journal<'_>) -> Result<Option<String>, Trouble> {
        if self.source.checksum == Checksum::Ignore {
            return Ok(None);
        }
        let beside = format!("{path}.sha256");
        let mut stream = match answer(self.source, Step::Digest, self.ftp.retr_as_stream(&beside)).await {
            Ok(stream) => stream,
            Err(trouble) => return missing_sidecar(self.source, &beside, &trouble.problem),
        };
        let read = small(&mut stream, SIDECAR_MOST, self.source, Step::Digest).await;
        answer(self.source, Step::Digest, stream.finish()).await?;
        sidecar_text(self.source, &beside, &String::from_utf8_lossy(&read?), journal)
    }

    /// Politeness: a server that does not answer it is left.
    async fn close(mut self) {
        let _ = timeout(Duration::from_secs(2), self.ftp.quit()).await;
    }
}

async fn data_connection(address: SocketAddr, patience: Duration) -> FtpResult<TcpStream> {
    let late =
        || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("data port {} does not answer", address.port()));
    let connected = timeout(patience, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(late()));
    connected.map_err(FtpError::ConnectionError)
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    writer: &mut Writer,
    size: Option<u64>,
    source: &SourceConfig,
) -> Result<(), Trouble> {
    let mut pace = Pace::new(pace::now(), source.stall);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match timeout_at(pace.until().into(), stream.read(&mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(got)) => {
                pace.came(got);
                within(writer.length() + got as u64, source.max_bytes)?;
                writer.append(&buffer[..got]).await?;
                if size.is_some_and(|size| writer.length() > size) {
                    return Err(Trouble::new(Step::Transfer, "the server sends more than the file has")
                        .help("it may take REST for a wish only; the next attempt fetches the whole archive"));
                }
            }
            // Servers hang up without TLS's good-bye; the size tells whether anything is missing.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof && size == Some(writer.length()) => {
                return Ok(());
            }
            Ok(Err(error)) => {
                let problem = format!("it broke after {} bytes: {error}", writer.length());
                return Err(Trouble::new(Step::Transfer, problem).help("the next attempt goes on there"));
            }
            Err(_) => {}
        }
        paced(&mut pace, source)?;
    }
}

async fn small(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
    source: &SourceConfig,
    step: Step,
) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = timeout(source.stall, stream.take(most as u64 + 1).read_to_end(&mut bytes)).await;
    let read = read.map_err(|_| Trouble::new(step, format!("it did not end within {:?}", source.stall)))?;
    match read {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Trouble::new(step, error.to_string()));
        }
        _ if bytes.len() > most => return Err(Trouble::new(step, format!("it has more than {most} bytes"))),
        _ => {}
    }
    Ok(bytes)
}

/// `None` when the server does not know the question.
fn known<T>(answered: Result<FtpResult<T>, Trouble>, step: Step) -> Result<Option<T>, Trouble> {
    match answered {
        Ok(Ok(value)) => Ok(Some(value)),
        Ok(Err(FtpError::UnexpectedResponse(said))) if said.status == Status::FileUnavailable => {
            Err(Trouble::new(step, words(&FtpError::UnexpectedResponse(said)))
                .help("check the path in url; nothing has been put there yet"))
        }
        Ok(Err(FtpError::UnexpectedResponse(_) | FtpError::BadResponse)) => Ok(None),
        Ok(Err(error)) => Err(Trouble::new(step, words(&error))),
        Err(trouble) => Err(trouble),
    }
}

async fn answer_raw<T>(
    source: &SourceConfig,
    asked: impl Future<Output = FtpResult<T>>,
) -> Result<FtpResult<T>, Trouble> {
    timeout(source.stall, asked)
        .await
        .map_err(|_| Trouble::new(Step::Ask, format!("no answer within {:?}", source.stall)))
}

async fn answer<T>(source: &SourceConfig, step: Step, asked: impl Future<Output = FtpResult<T>>) -> Result<T, Trouble> {
    told(answer_raw(source, asked).await, source, step)
}

fn told<T>(answered: Result<FtpResult<T>, Trouble>, source: &SourceConfig, step: Step) -> Result<T, Trouble> {
    let answered = answered.map_err(|trouble| Trouble { step, ..trouble })?;
    answered.map_err(|error| {
        let trouble = Trouble::new(step, words(&error));
        match error {
            FtpError::ConnectionError(_) if step == Step::Transfer || step == Step::List => trouble.help(
                "ftp opens a second connection to a port the server chooses: it must be open too (passive range)",
            ),
            FtpError::SecureError(_) if step == Step::Transfer => {
                trouble.help("the data connection could not be encrypted")
            }
            _ if source.address.scheme == Scheme::Ftp && step == Step::Login => {
                trouble.help("check user and password; the server may want ftps://")
            }
            _ => trouble,
        }
    })
}

/// The server's words on one line, without control characters.
fn words(error: &FtpError) -> String {
    let text = match error {
        FtpError::UnexpectedResponse(said) => String::from_utf8_lossy(&said.body).into_owned(),
        FtpError::ConnectionError(error) => error.to_string(),
        other => other.to_string(),
    };
    text.trim().chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
