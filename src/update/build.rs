//! Builds update files. Equal payloads and words give equal bytes, whenever and wherever.

use super::file::{self, Opened};
use super::manifest::{Kind, Manifest};
use super::{Failure, elf};
use crate::diagnostic::{Diagnostic, Place};
use crate::package::build::{Content, Format, write_files};
use crate::package::source::Limits;
use crate::package::trust::SigningKey;
use semver::Version;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the payload in every update file built here.
const PAYLOAD: &str = "payload";
/// A program says its version at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between tries of a busy program, and how many there are: whoever keeps it busy does so for milliseconds.
const BUSY: Duration = Duration::from_millis(20);
const BUSY_TRIES: u32 = 100;

/// What goes into an update file.
pub struct Wanted<'a> {
    pub kind: Kind,
    pub name: &'a str,
    pub version: Version,
    pub replaces_from: Option<Version>,
    pub payload: &'a Path,
}

fn refuse(path: &Path, problem: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem)
}

/// Writes a signed update file to `output`, read back before it stands there.
///
/// # Errors
/// What keeps it from being one.
pub fn build(
    wanted: &Wanted<'_>,
    key: &SigningKey,
    output: &Path,
    limits: &Limits,
) -> Result<Manifest, Vec<Diagnostic>> {
    let format = Format::of(output).ok_or_else(|| {
        let fault = refuse(output, "no format ends like this");
        vec![fault.help("end the name in .tar.gz, .tar.zst or .zip")]
    })?;
    let manifest = describe(wanted).map_err(|fault| vec![fault])?;
    let text = manifest.text(wanted.name);
    Manifest::parse(&text)?;
    let signature = file::sign(wanted.name, &manifest, &text, key);
    let files = BTreeMap::from([
        (super::manifest::FILE, Content::Bytes(text.as_bytes())),
        (super::manifest::SIGNATURE, Content::Bytes(signature.as_bytes())),
        (PAYLOAD, Content::File(wanted.payload)),
    ]);
    write_files(&files, format, output, |archive| {
        let again = Opened::open(archive, limits).and_then(|opened| opened.verify(&[key.public()]));
        again.map(drop).map_err(|failure: Failure| vec![file::fault(output, &failure)])
    })?;
    Ok(manifest)
}

fn describe(wanted: &Wanted<'_>) -> Result<Manifest, Diagnostic> {
    let (sha256, bytes) = measure(wanted.payload)?;
    if bytes == 0 {
        return Err(refuse(wanted.payload, "is empty"));
    }
    let failed = |failure: Failure| refuse(wanted.payload, failure.words);
    file::hold_architecture(&start(wanted.payload)?, &wanted.kind).map_err(failed)?;
    Ok(Manifest {
        kind: wanted.kind.clone(),
        version: wanted.version.clone(),
        payload: PAYLOAD.to_owned(),
        payload_bytes: bytes,
        payload_sha256: sha256,
        replaces_from: wanted.replaces_from.clone(),
    })
}

fn measure(path: &Path) -> Result<(String, u64), Diagnostic> {
    use crate::store::Disk;
    let found = std::fs::metadata(path).map_err(|error| refuse(path, format!("can not be read: {error}")))?;
    if !found.is_file() {
        return Err(refuse(path, "is no file"));
    }
    let digest =
        crate::store::RealDisk.digest(path).map_err(|error| refuse(path, format!("can not be read: {error}")))?;
    Ok((digest, found.len()))
}

fn start(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.map(|_| start).map_err(|error| refuse(path, format!("can not be read: {error}")))
}

/// Debian's name of what a program is built for.
///
/// # Errors
/// When it is no program.
pub fn architecture_of(binary: &Path) -> Result<&'static str, Diagnostic> {
    elf::architecture(&start(binary)?).ok_or_else(|| {
        refuse(binary, "is no program").help("give the engine's binary; firmware is built with --kind firmware")
    })
}

/// What an engine says of its own version; `None` when it can not be run here.
///
/// # Errors
/// When it runs and says something else than a version.
pub fn version_of(binary: &Path) -> Result<Option<Version>, Diagnostic> {
    let path = binary.canonicalize().map_err(|error| refuse(binary, format!("can not be read: {error}")))?;
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Some(mut child) = started(&mut command, || std::thread::sleep(BUSY)) else { return Ok(None) };
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            _ => break None,
        }
    };
    if status.is_none() {
        // Best effort: it may have ended by now.
        let _ = child.kill().and_then(|()| child.wait());
        return Err(refuse(binary, format!("does not say its version within {PATIENCE:?}")));
    }
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        // A pipe holds what a version needs; more is none.
        let _ = out.take(4096).read_to_string(&mut said);
    }
    let version = said.split_whitespace().nth(1).and_then(|word| Version::parse(word).ok());
    match (status.is_some_and(|status| status.success()), version) {
        (true, Some(version)) => Ok(Some(version)),
        _ => Err(refuse(binary, "does not answer --version with its name and version, as an engine does")),
    }
}

/// A program that was just written is busy (ETXTBSY, execve(2)) while another thread, between fork and exec, has a copy of
/// the handle it was written with.
fn started(command: &mut Command, mut wait: impl FnMut()) -> Option<Child> {
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => wait(),
            done => return done.ok(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_that_is_still_open_elsewhere_is_started_when_it_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("engine");
        std::fs::copy("/bin/sh", &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let open = || OpenOptions::new().append(true).open(&program).unwrap();
        let mut command = Command::new(&program);
        command.args(["-c", ":"]);
        let (mut held, mut waits): (Option<File>, u32) = (Some(open()), 0);
        let child = started(&mut command, || {
            waits += 1;
            drop(if waits == 3 { held.take() } else { None });
        });
        assert!(child.unwrap().wait().unwrap().success());
        assert!(waits >= 3, "{waits}");
        let _held = open();
        let mut waits = 0;
        assert!(started(&mut command, || waits += 1).is_none());
        assert_eq!(waits, BUSY_TRIES, "it ends");
    }
}
