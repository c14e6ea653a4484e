//! Recognises an archive by its first bytes and unpacks it.

use super::metered::{Counted, Metered, Watched};
use super::staging::{Staged, Stager};
use super::{Limits, tar, zip};
use crate::model::progress::Unit;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Why an archive is not opened, and what to do.
pub struct Refusal {
    pub problem: String,
    pub help: Option<String>,
    /// The disk it is unpacked to is at fault.
    pub machine: bool,
}

impl From<String> for Refusal {
    fn from(problem: String) -> Refusal {
        Refusal { problem, help: None, machine: false }
    }
}

/// 32 MiB: what `zstd` needs up to level 20; a frame may ask for more to fill our memory.
const ZSTD_WINDOW_LOG: u32 = 25;

/// First bytes of files that are sent by mistake.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
];

/// Unpacks to the end, or not at all.
pub fn unpack(path: &Path, limits: &Limits) -> Result<Staged, Refusal> {
    let mut file = File::open(path).map_err(|e| format!("open the package: {e}"))?;
    let size = file.metadata().map_err(|e| format!("open the package: {e}"))?.len();
    if size > limits.archive_bytes {
        return Err(format!("the archive is larger than {} bytes", limits.archive_bytes).into());
    }
    let mut start = Vec::new();
    let mut rewound = || {
        (&mut file).take(512).read_to_end(&mut start)?;
        file.seek(SeekFrom::Start(0))
    };
    rewound().map_err(|e| format!("read the package: {e}"))?;
    limits.progress.step("unpacking", size, Unit::Bytes);
    let of_machine = |problem| Refusal { problem, help: None, machine: true };
    let mut stager = Stager::new(limits).map_err(of_machine)?;
    let unpacked = unpack_to(file, size, &start, &mut stager, limits);
    unpacked.map_err(|refusal| Refusal { machine: stager.has_no_disk(), ..refusal })?;
    Ok(stager.finish())
}

fn unpack_to(file: File, size: u64, start: &[u8], stager: &mut Stager<'_>, limits: &Limits) -> Result<(), Refusal> {
    if start.starts_with(&[0x1f, 0x8b]) {
        unpack_gzip(file, stager, limits)?;
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        unpack_zstd(file, stager, limits)?;
    } else if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        zip::unpack(&file, size, stager, limits)?;
    } else {
        return Err(unknown(start));
    }
    Ok(())
}

fn unpack_gzip(file: File, stager: &mut Stager<'_>, limits: &Limits) -> Result<(), String> {
    let packed = Counted::new(BufReader::new(Watched::new(file, &limits.progress)));
    let count = packed.count();
    let mut stream = Metered::new(flate2::bufread::GzDecoder::new(packed), count, limits);
    tar::unpack(&mut stream, stager, limits)?;
    nothing_after(stream.inner.into_inner())
}

fn unpack_zstd(file: File, stager: &mut Stager<'_>, limits: &Limits) -> Result<(), String> {
    let packed = Counted::new(BufReader::new(Watched::new(file, &limits.progress)));
    let count = packed.count();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
        .map_err(|e| format!("unpack the archive: {e}"))?
        .single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|e| format!("unpack the archive: {e}"))?;
    let mut stream = Metered::new(decoder, count, limits);
    tar::unpack(&mut stream, stager, limits)?;
    nothing_after(stream.inner.finish())
}

fn nothing_after(mut rest: impl BufRead) -> Result<(), String> {
    match rest.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => Err("there is data after the end of the archive".to_owned()),
        Err(e) => Err(format!("read the package: {e}")),
    }
}

fn unknown(start: &[u8]) -> Refusal {
    let what = match FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => *what,
        None if start.is_empty() => "an empty file",
        None if start.get(257..262) == Some(b"ustar") => "a tar that is not compressed",
        None => "no archive that is known here",
    };
    Refusal {
        problem: format!("open the package: it is {what}"),
        help: Some(
            "a package is a folder, a .tar.gz, a .tar.zst or a .zip; make one with `enos-edge package build`"
                .to_owned(),
        ),
        machine: false,
    }
}
