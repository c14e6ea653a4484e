//! SFTP through the system's `sftp` of OpenSSH as a child process: its keys, its ciphers and its mends are those of the
//! system. No shell sees a word of it. See docs/decisions/0003-sftp-by-openssh.md.

use super::incoming::{Incoming, Mark, still_room};
use super::journal::{Journal, Step, Trouble};
use super::pace::{self, Pace};
use super::pull::{Found, Whole, missing_sidecar, sidecar_text};
use super::{http, names, reach};
use crate::config::{Checksum, SourceConfig};
use crate::model::progress::{Progress, Unit};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Part of openssh-client.
const PROGRAM: &str = "sftp";
/// What is read of a listing, and of complaints.
const LISTING_MOST: u64 = 1 << 20;
const COMPLAINTS_MOST: u64 = 16 << 10;
const SIDECAR_MOST: u64 = 64 << 10;
/// How often the growing file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// # Errors
/// The step that failed. What came is kept and the next attempt goes on there.
pub(super) async fn fetch(
    source: &SourceConfig,
    incoming: &mut Incoming,
    look: bool,
    journal: &mut Journal<'_>,
) -> Result<Found, Trouble> {
    for file in source.key_file.iter().chain(&source.known_hosts_file) {
        std::fs::metadata(file).map_err(|error| Trouble::new(Step::Setup, format!("{}: {error}", file.display())))?;
    }
    leave_alone(incoming.part()).await;
    let at = &source.address;
    // ssh does not say which step failed; a connection of our own does.
    drop(reach::connect(&at.host, at.port, source.connect_timeout, journal).await?);
    let path = file(source, journal).await?;
    let mark = mark(source, &path, journal).await?;
    let size = mark.size.unwrap_or(0);
    http::within(size, source.max_bytes)?;
    journal.done(Step::Ask, format!("{path} has {size} bytes"));
    if look {
        return Ok(Found::Looked);
    }
    if incoming.memory.taken.as_ref() == Some(&mark) {
        return Ok(Found::Unchanged);
    }
    let resumed = transfer(source, &path, &mark, incoming, journal).await?;
    let again = self::mark(source, &path, &mut Journal::new(&|_| ())).await?;
    if again != mark {
        incoming.forget_part();
        return Err(Trouble::new(Step::Transfer, "the file was changed while it was sent")
            .help("put it there under another name, then rename it"));
    }
    let sha256 = sidecar(source, &path, incoming, journal).await?;
    Ok(Found::Whole(Whole { size, sha256, resumed }))
}

async fn file(source: &SourceConfig, journal: &mut Journal<'_>) -> Result<String, Trouble> {
    let folder = &source.address.path;
    if !source.address.is_folder() {
        return Ok(folder.clone());
    }
    let listed = run(source, &format!("ls -1 {}\n", quoted(folder)), Step::List, None).await?;
    let lines = listed.lines().filter(|line| !line.starts_with("sftp>")).map(str::trim_end);
    let found = names::newest(lines, folder).ok_or_else(|| {
        Trouble::new(Step::List, format!("{folder} holds no archive")).help("put a .tar.gz, .tar.zst or .zip there")
    })?;
    journal.done(Step::List, format!("the newest of {folder} is {found}"));
    Ok(format!("{folder}{found}"))
}

/// Size and time as the listing tells them.
async fn mark(source: &SourceConfig, path: &str, journal: &mut Journal<'_>) -> Result<Mark, Trouble> {
    let listed = run(source, &format!("ls -ln {}\n", quoted(path)), Step::Ask, None).await?;
    journal.done(Step::Login, format!("as {}; the host key is known", source.user.as_deref().unwrap_or_default()));
    let (size, modified) = listed.lines().find_map(long_line).ok_or_else(|| {
        Trouble::new(Step::Ask, format!("{path} is no plain file"))
            .help("check the path in url; one that ends in / is a folder")
    })?;
    Ok(Mark { address: format!("{}#{path}", source.address), etag: None, modified: Some(modified), size: Some(size) })
}

/// `-rw-r--r--    1 1000     1000         1234 Nov 22 15:03 /in/a.zip`: size and time of a plain file.
fn long_line(line: &str) -> Option<(u64, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if !words.first()?.starts_with('-') || words.len() < 9 {
        return None;
    }
    Some((words[4].parse().ok()?, words[5..8].join(" ")))
}

/// True when it went on with what was here.
async fn transfer(
    source: &SourceConfig,
    path: &str,
    mark: &Mark,
    incoming: &mut Incoming,
    journal: &mut Journal<'_>,
) -> Result<bool, Trouble> {
    let begun = pace::now();
    let size = mark.size.unwrap_or(0);
    let same = incoming.memory.part.as_ref() == Some(mark);
    let held = if same { incoming.held() } else { 0 };
    if held == size && same {
        journal.done(Step::Transfer, "all bytes are here already");
        return Ok(true);
    }
    let resumed = held > 0 && held < size;
    let to = incoming.part();
    incoming.progress.step("fetching", size, Unit::Bytes);
    incoming.progress.set(held);
    if !resumed {
        // The file is made here, readable by its owner alone; sftp fills it.
        drop(incoming.begin(mark.clone())?);
    }
    // -a goes on at the end of the local file, -f calls fsync.
    let batch = format!("get -af {} {}\n", quoted(path), quoted(&to.display().to_string()));
    run(source, &batch, Step::Transfer, Some((&to, size, &incoming.progress))).await?;
    let length = incoming.held();
    if length != size {
        return Err(Trouble::new(Step::Transfer, format!("it ended after {length} of {size} bytes"))
            .help("the next attempt goes on there"));
    }
    let from = if resumed { format!(", from {held} on") } else { String::new() };
    let came = if resumed { size - held } else { size };
    journal.done(Step::Transfer, format!("{came} bytes in {:.1} s{from}", begun.elapsed().as_secs_f32()));
    Ok(resumed)
}

/// A gateway that was killed left its sftp behind, and two must not write one archive: the old one is ended.
async fn leave_alone(part: PathBuf) {
    let end = move || {
        for process in std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            if std::fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.trim() == PROGRAM) {
                let open = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().filter_map(Result::ok);
                let ours = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|file| file == part);
                if let (true, Some(pid)) = (ours, rustix::process::Pid::from_raw(pid)) {
                    // Best effort: it may have ended by itself.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    };
    // Best effort: a file that somebody else fills does not pass size and digest.
    let _ = tokio::task::spawn_blocking(end).await;
}

async fn sidecar(
    source: &SourceConfig,
    path: &str,
    incoming: &Incoming,
    journal: &mut Journal<'_>,
) -> Result<Option<String>, Trouble> {
    if source.checksum == Checksum::Ignore {
        return Ok(None);
    }
    let beside = format!("{path}.sha256");
    let to = incoming.part().with_extension("sha256");
    // Best effort: there is none as a rule.
    let _ = std::fs::remove_file(&to);
    let batch = format!("get {} {}\n", quoted(&beside), quoted(&to.display().to_string()));
    let got = run(source, &batch, Step::Digest, Some((&to, SIDECAR_MOST, &Progress::default()))).await;
    let text = std::fs::read_to_string(&to).unwrap_or_default();
    let _ = std::fs::remove_file(&to);
    match got {
        Ok(_) => sidecar_text(source, &beside, &text, journal),
        Err(trouble) => missing_sidecar(source, &beside, &trouble.problem),
    }
}

/// For a line of sftp's batch: in double quotes, in which it takes wildcards for letters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word of ssh's configuration: percent signs are doubled, blanks are kept by quotes.
fn file_option(name: &str, file: &Path) -> OsString {
    OsString::from(format!("-o{name}=\"{}\"", file.display().to_string().replace('%', "%%")))
}

fn command(source: &SourceConfig) -> Command {
    let at = &source.address;
    let mut command = Command::new(PROGRAM);
    command.args(["-b", "-", "-F", "/dev/null", "-P"]).arg(at.port.to_string());
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ForwardAgent=no",
        "ProxyCommand=none",
        "ControlPath=none",
        "LogLevel=ERROR",
        "ServerAliveCountMax=3",
    ] {
        command.arg(format!("-o{option}"));
    }
    command.arg(format!("-oConnectTimeout={}", source.connect_timeout.as_secs()));
    command.arg(format!("-oServerAliveInterval={}", (source.stall.as_secs() / 3).max(1)));
    command.args(source.known_hosts_file.iter().map(|file| file_option("UserKnownHostsFile", file)));
    command.args(source.key_file.iter().map(|file| file_option("IdentityFile", file)));
    let host = if at.host.contains(':') { format!("[{}]", at.host) } else { at.host.clone() };
    command.arg("--").arg(format!("{}@{host}", source.user.as_deref().unwrap_or_default()));
    command.env_remove("SSH_AUTH_SOCK").env_remove("SSH_ASKPASS").env("LC_ALL", "C").env("TZ", "UTC");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Its ssh goes with it: it ends when nobody holds the other end of its pipe.
    command
}

/// Runs a batch; `watched` is the file that it fills, and how large that may become. Its output comes back.
async fn run(
    source: &SourceConfig,
    batch: &str,
    step: Step,
    watched: Option<(&PathBuf, u64, &Progress)>,
) -> Result<String, Trouble> {
    let mut child = command(source).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Trouble::new(Step::Setup, "the program sftp is not installed")
            .help("install openssh-client, or use another way in"),
        _ => Trouble::new(Step::Setup, format!("start sftp: {error}")),
    })?;
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let mut stdin = child.stdin.take().expect("piped");
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let talking = async {
        let told = async {
            // It may have gone already; then its complaint says why.
            let _ = stdin.write_all(batch.as_bytes()).await;
            drop(stdin);
        };
        tokio::join!(told, limited(stdout, LISTING_MOST, &mut out), limited(stderr, COMPLAINTS_MOST, &mut complaints));
    };
    let ended = tokio::select! {
        () = talking => child_end(&mut child, source, step).await,
        trouble = watch(source, step, watched) => Err(trouble),
    };
    let status = match ended {
        Ok(status) => status,
        Err(trouble) => {
            // Best effort: it is killed and collected in any case when it is dropped.
            let _ = child.start_kill();
            return Err(trouble);
        }
    };
    if status.success() {
        return Ok(String::from_utf8_lossy(&out).into_owned());
    }
    Err(complaint(&String::from_utf8_lossy(&complaints), step, source))
}

async fn child_end(child: &mut Child, source: &SourceConfig, step: Step) -> Result<std::process::ExitStatus, Trouble> {
    let ended = tokio::time::timeout(source.connect_timeout, child.wait()).await;
    let ended = ended.map_err(|_| Trouble::new(step, "sftp does not end"))?;
    ended.map_err(|error| Trouble::new(step, format!("wait for sftp: {error}")))
}

async fn limited(stream: impl AsyncRead + Unpin, most: u64, into: &mut Vec<u8>) {
    let mut stream = stream.take(most);
    // What comes after the limit meets a closed pipe, and sftp ends.
    let _ = stream.read_to_end(into).await;
}

/// Ends with what is wrong: the file grows too large, too slowly, or nothing is answered at all.
async fn watch(source: &SourceConfig, step: Step, watched: Option<(&PathBuf, u64, &Progress)>) -> Trouble {
    let Some((file, most, progress)) = watched else {
        tokio::time::sleep(source.connect_timeout + source.stall).await;
        return Trouble::new(step, format!("no answer within {:?}", source.connect_timeout + source.stall));
    };
    let length = || std::fs::metadata(file).map_or(0, |found| found.len());
    let mut pace = Pace::new(pace::now() + source.connect_timeout, source.stall);
    let mut before = length();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = length();
        pace.came(usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX));
        before = now;
        progress.set(now);
        if now > most {
            return Trouble::new(step, format!("the server sends more than {most} bytes"));
        }
        if let Err(trouble) = http::paced(&mut pace, source) {
            return Trouble { step, ..trouble };
        }
        if let Err(trouble) = still_room(file) {
            return Trouble { step, ..trouble };
        }
    }
}

/// What ssh and sftp print, told as a step with its remedy.
fn complaint(said: &str, step: Step, source: &SourceConfig) -> Trouble {
    let lines: Vec<&str> =
        said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('@')).collect();
    let words: String = lines.join("; ").chars().filter(|c| !c.is_control()).take(300).collect();
    let known = |text: &str| said.contains(text);
    let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    if known("Host key verification failed") || known("IDENTIFICATION HAS CHANGED") {
        return Trouble::new(Step::Login, "the server's host key is not the known one").help(format!(
            "compare `ssh-keyscan -p {} {}` with what its owner says, then write it into {}",
            source.address.port,
            source.address.host,
            file(&source.known_hosts_file)
        ));
    }
    if known("UNPROTECTED PRIVATE KEY") || known("bad permissions") {
        let key = file(&source.key_file);
        return Trouble::new(Step::Setup, format!("{key} can be read by others")).help(format!("chmod 600 {key}"));
    }
    if known("Permission denied (") {
        return Trouble::new(Step::Login, words)
            .help("the server does not take this user with this key: check user, key_file and its authorized_keys");
    }
    if known("not found") || known("No such file") {
        let step = if step == Step::Transfer { Step::Ask } else { step };
        return Trouble::new(step, words).help("check the path in url; nothing has been put there yet");
    }
    let words = if words.is_empty() { "the connection broke".to_owned() } else { words };
    Trouble::new(step, words).help(if step == Step::Transfer { "the next attempt goes on there" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_of_the_listing_is_taken() {
        let line = "-rw-r--r--    1 1000     1000         1234 Nov 22 15:03 /in/a b.zip";
        assert_eq!(long_line(line), Some((1234, "Nov 22 15:03".to_owned())));
        for other in [
            "sftp> ls -ln \"/in/a.zip\"",
            "drwxr-xr-x    2 0 0 4096 Nov 22 15:03 /in",
            "lrwxrwxrwx 1 0 0 9 Nov 22 15:03 /in/a -> b",
            "",
        ] {
            assert_eq!(long_line(other), None, "{other}");
        }
    }

    #[test]
    fn names_stay_names() {
        assert_eq!(quoted("a\" \"b\\"), "\"a\\\" \\\"b\\\\\"");
        assert_eq!(file_option("IdentityFile", Path::new("/a b/%h")), "-oIdentityFile=\"/a b/%%h\"");
    }
}
