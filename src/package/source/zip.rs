//! Reads a zip strictly: the list at its end, every local header and every byte between them must tell one story.
//! Written by hand because readers that trust either side alone can be shown two different packages in one file.

use super::metered::{Counted, Metered, Watched};
use super::staging::{RangeReader, Stager};
use super::{Limits, names};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

/// APPNOTE 4.3.16: end of central directory, without its comment.
const END_LEN: u64 = 22;
const CENTRAL_LEN: usize = 46;
const LOCAL_LEN: usize = 30;
/// The list of ten thousand files with long names stays well below.
const DIRECTORY_MAX: u64 = 8 << 20;

const ENCRYPTED: u16 = 1 << 0 | 1 << 6 | 1 << 13;
const DESCRIPTOR: u16 = 1 << 3;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Unpacks all files of an archive of `size` bytes.
///
/// # Errors
/// The reason in words, naming the entry.
pub fn unpack(file: &File, size: u64, stager: &mut Stager<'_>, limits: &Limits) -> Result<(), String> {
    let end = End::find(file, size)?;
    if usize::from(end.count) > limits.files * 2 {
        return Err(format!("the package has more than {} files", limits.files));
    }
    let mut entries = read_directory(file, &end)?;
    entries.sort_by_key(|entry| entry.offset);
    let mut at = 0;
    for (index, entry) in entries.iter().enumerate() {
        let next = entries.get(index + 1).map_or(end.offset, |next| next.offset);
        at = unpack_entry(file, entry, at, next, stager, limits)
            .map_err(|reason| format!("entry \"{}\": {reason}", names::shown(&entry.name)))?
            .ok_or_else(|| {
                format!(
                    "there are bytes before or between the entries of the archive, near \"{}\"",
                    names::shown(&entry.name)
                )
            })?;
    }
    if at == end.offset {
        Ok(())
    } else {
        Err("there are bytes between the entries of the archive and its list".to_owned())
    }
}

/// Where the list of entries lies.
struct End {
    offset: u64,
    len: u64,
    count: u16,
}

impl End {
    fn find(file: &File, size: u64) -> Result<End, String> {
        let tail_len = size.min(END_LEN + 0xffff);
        let tail = read_at(file, size - tail_len, tail_len)?;
        let mut found_any = false;
        for at in (0..=tail.len().saturating_sub(22))
            .rev()
            .filter(|at| tail[*at..].starts_with(b"PK\x05\x06") && tail.len() >= at + 22)
        {
            found_any = true;
            if at + 22 + usize::from(u16_at(&tail, at + 20)) == tail.len() {
                return End::parse(
                    &tail[at..],
                    size - tail_len + at as u64,
                    at >= 20 && tail[at - 20..].starts_with(b"PK\x06\x07"),
                );
            }
        }
        Err(match found_any {
            true => "there is data after the end of the archive".to_owned(),
            false => "the archive is cut off: its end mark is missing".to_owned(),
        })
    }

    fn parse(end: &[u8], at: u64, zip64: bool) -> Result<End, String> {
        let (count, len, offset) = (u16_at(end, 10), u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        if zip64 || count == 0xffff || len == 0xffff_ffff || offset == 0xffff_ffff {
            return Err("the archive is a zip64; a package is far too small to need that".to_owned());
        }
        if u16_at(end, 4) != 0 || u16_at(end, 6) != 0 || u16_at(end, 8) != count {
            return Err("the archive is one of several parts".to_owned());
        }
        if len > DIRECTORY_MAX {
            return Err(format!("the list of entries is larger than {DIRECTORY_MAX} bytes"));
        }
        if offset.checked_add(len) != Some(at) {
            return Err("the list of entries does not end where the archive says; is there data before it?".to_owned());
        }
        Ok(End { offset, len, count })
    }
}

/// One line of the list.
struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    unpacked: u32,
    mode: u32,
    offset: u64,
    extra: Vec<u8>,
}

fn read_directory(file: &File, end: &End) -> Result<Vec<Entry>, String> {
    let list = read_at(file, end.offset, end.len)?;
    let mut rest = &list[..];
    let mut entries = Vec::new();
    for _ in 0..end.count {
        let (entry, after) = parse_central(rest).ok_or("the list of entries is broken")?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err("the list of entries holds more than it says".to_owned()) }
}

fn parse_central(text: &[u8]) -> Option<(Entry, &[u8])> {
    if text.len() < CENTRAL_LEN || !text.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name, extra, comment) =
        (usize::from(u16_at(text, 28)), usize::from(u16_at(text, 30)), usize::from(u16_at(text, 32)));
    let texts = text.get(CENTRAL_LEN..CENTRAL_LEN + name + extra + comment)?;
    let entry = Entry {
        flags: u16_at(text, 8),
        method: u16_at(text, 10),
        crc: u32_at(text, 16),
        packed: u32_at(text, 20),
        unpacked: u32_at(text, 24),
        // Unix mode, whatever system the archive claims to come from.
        mode: u32_at(text, 38) >> 16,
        offset: u64::from(u32_at(text, 42)),
        name: texts[..name].to_vec(),
        extra: texts[name..name + extra].to_vec(),
    };
    Some((entry, &text[CENTRAL_LEN + name + extra + comment..]))
}

impl Entry {
    fn is_folder(&self) -> bool {
        self.name.ends_with(b"/")
    }

    fn check(&self, limits: &Limits) -> Result<&str, String> {
        if self.flags & ENCRYPTED != 0 {
            return Err("is encrypted".to_owned());
        }
        if self.method != STORED && self.method != DEFLATED {
            return Err(format!("is packed with method {}; only stored and deflated are read", self.method));
        }
        self.check_mode()?;
        check_extra(&self.extra)?;
        if self.is_folder() && self.unpacked != 0 {
            return Err("is a folder with content".to_owned());
        }
        if u64::from(self.unpacked) > limits.file_bytes {
            return Err(format!("is larger than {} bytes", limits.file_bytes));
        }
        names::check(self.name.strip_suffix(b"/").unwrap_or(&self.name), limits.depth)
    }

    fn check_mode(&self) -> Result<(), String> {
        match self.mode & 0o170_000 {
            0 | 0o100_000 => {}
            0o040_000 if self.is_folder() => {}
            0o120_000 => return Err("is a symbolic link; a package holds plain files only".to_owned()),
            _ => return Err("is a device or pipe; a package holds plain files only".to_owned()),
        }
        if self.mode & 0o7000 != 0 && !self.is_folder() {
            return Err("has a set-user, set-group or sticky bit".to_owned());
        }
        Ok(())
    }

    /// Length of the local header, if it says the same as the list.
    fn check_local(&self, file: &File) -> Result<u64, String> {
        let header = read_at(file, self.offset, LOCAL_LEN as u64)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err("its header is missing".to_owned());
        }
        let (name, extra) = (u16_at(&header, 26), u16_at(&header, 28));
        let texts = read_at(file, self.offset + LOCAL_LEN as u64, u64::from(name) + u64::from(extra))?;
        // With a descriptor behind the data a header may leave each of them 0 (APPNOTE 4.4.4, bit 3).
        let same_sum =
            |at: usize, sum: u32| u32_at(&header, at) == sum || self.has_descriptor() && u32_at(&header, at) == 0;
        let same_sums = same_sum(14, self.crc) && same_sum(18, self.packed) && same_sum(22, self.unpacked);
        let same = u16_at(&header, 6) == self.flags
            && u16_at(&header, 8) == self.method
            && texts[..usize::from(name)] == self.name
            && same_sums;
        if !same {
            return Err("its header and the archive's list differ".to_owned());
        }
        check_extra(&texts[usize::from(name)..])?;
        Ok(LOCAL_LEN as u64 + u64::from(name) + u64::from(extra))
    }

    fn has_descriptor(&self) -> bool {
        self.flags & DESCRIPTOR != 0
    }

    /// True when `gap` is nothing, or the data descriptor (APPNOTE 4.3.9) of this entry.
    fn is_descriptor(&self, gap: &[u8]) -> bool {
        let fields = match gap.len() {
            16 if gap.starts_with(b"PK\x07\x08") => &gap[4..],
            12 => gap,
            0 => return !self.has_descriptor(),
            _ => return false,
        };
        self.has_descriptor()
            && (u32_at(fields, 0), u32_at(fields, 4), u32_at(fields, 8)) == (self.crc, self.packed, self.unpacked)
    }
}

/// Extra fields that would give the entry another name or size than the one that was checked.
fn check_extra(mut extra: &[u8]) -> Result<(), String> {
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        match id {
            0x0001 => return Err("is a zip64 entry; a package is far too small to need that".to_owned()),
            0x7075 => return Err("has a second name in an extra field".to_owned()),
            0x9901 => return Err("is encrypted".to_owned()),
            _ => {}
        }
        extra = extra.get(4 + len..).ok_or("has a broken extra field")?;
    }
    // Some writers align data with a few zeros.
    if extra.iter().all(|b| *b == 0) { Ok(()) } else { Err("has a broken extra field".to_owned()) }
}

/// Unpacks the entry that must begin at `at` and end at `next`; `None` when it does not.
fn unpack_entry(
    file: &File,
    entry: &Entry,
    at: u64,
    next: u64,
    stager: &mut Stager<'_>,
    limits: &Limits,
) -> Result<Option<u64>, String> {
    let name = entry.check(limits)?;
    if entry.offset < at {
        return Err("overlaps another entry".to_owned());
    }
    if entry.offset > at {
        return Ok(None);
    }
    let start = entry.offset + entry.check_local(file)?;
    let end = start + u64::from(entry.packed);
    if end > next {
        return Err("overlaps another entry or the archive's list".to_owned());
    }
    if next - end > 16 || !entry.is_descriptor(&read_at(file, end, next - end)?) {
        return Ok(None);
    }
    if !entry.is_folder() {
        let mut body = Checked::new(entry, body(file, entry, start, limits)?);
        if names::is_ignored(name) {
            stager.skip(&mut body)?;
        } else {
            stager.add(name, body).map_err(|reason| without_entry(&reason, &entry.name))?;
        }
    }
    Ok(Some(next))
}

/// The stager names the entry too; once is enough.
fn without_entry(reason: &str, name: &[u8]) -> String {
    let prefix = format!("entry \"{}\": ", names::shown(name));
    reason.strip_prefix(&prefix).unwrap_or(reason).to_owned()
}

fn body<'f>(file: &'f File, entry: &Entry, start: u64, limits: &Limits) -> Result<Body<'f>, String> {
    let packed = Watched::new(RangeReader::new(file, start, u64::from(entry.packed)), &limits.progress);
    if entry.method == STORED {
        return if entry.packed == entry.unpacked {
            Ok(Body::Stored(packed))
        } else {
            Err("lies about its size".to_owned())
        };
    }
    let counted = Counted::new(BufReader::new(packed));
    let count = counted.count();
    Ok(Body::Deflated(Metered::new(flate2::bufread::DeflateDecoder::new(counted), count, limits)))
}

enum Body<'f> {
    Stored(Watched<RangeReader<'f>>),
    Deflated(Metered<flate2::bufread::DeflateDecoder<Counted<BufReader<Watched<RangeReader<'f>>>>>>),
}

/// Gives out the entry's bytes, and an error instead of the end when they are not what the list says.
struct Checked<'e, 'f> {
    entry: &'e Entry,
    body: Body<'f>,
    crc: flate2::Crc,
    len: u64,
}

impl<'e, 'f> Checked<'e, 'f> {
    fn new(entry: &'e Entry, body: Body<'f>) -> Checked<'e, 'f> {
        Checked { entry, body, crc: flate2::Crc::new(), len: 0 }
    }

    fn check_end(&self) -> io::Result<()> {
        let taken = match &self.body {
            Body::Stored(_) => self.len,
            Body::Deflated(body) => body.inner.total_in(),
        };
        if taken != u64::from(self.entry.packed) || self.len != u64::from(self.entry.unpacked) {
            return Err(io::Error::other("it lies about its size"));
        }
        if self.crc.sum() != self.entry.crc {
            return Err(io::Error::other("its checksum differs"));
        }
        Ok(())
    }
}

impl Read for Checked<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match &mut self.body {
            Body::Stored(body) => body.read(buffer)?,
            Body::Deflated(body) => body.read(buffer)?,
        };
        self.crc.update(&buffer[..got]);
        self.len += got as u64;
        if self.len > u64::from(self.entry.unpacked) {
            return Err(io::Error::other("it lies about its size"));
        }
        if got == 0 && !buffer.is_empty() {
            self.check_end()?;
        }
        Ok(got)
    }
}

fn read_at(file: &File, at: u64, len: u64) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; usize::try_from(len).expect("callers cap what they read at once")];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err("the archive is cut off".to_owned()),
        Err(e) => Err(format!("read the archive: {e}")),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
