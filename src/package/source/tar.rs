//! Reads a tar stream strictly: plain files and folders, as GNU tar, Python and git write them. Written by hand
//! because a package comes from outside: no name, link or number in it may cost memory or leave the staging file.

use super::names;
use super::staging::Stager;
use std::io::{self, Read};

const BLOCK: usize = 512;
/// Extended headers carry long names only; more is an attack.
const EXTENDED_MAX: u64 = 64 << 10;

type Block = [u8; BLOCK];

/// Unpacks all files of the stream.
///
/// # Errors
/// The reason in words, naming the entry.
pub fn unpack(mut from: impl Read, stager: &mut Stager<'_>, limits: &super::Limits) -> Result<(), String> {
    let mut pending = Pending::default();
    // Folders count too: they cost time.
    let mut entries_left = limits.files * 2 + 2;
    while let Some(block) = next_header(&mut from)? {
        entries_left =
            entries_left.checked_sub(1).ok_or(format!("the package has more than {} files", limits.files))?;
        let header = Header::parse(&block)?;
        match header.kind {
            b'x' => pending.extend(&extended(&mut from, &header)?)?,
            b'L' => pending.name = Some(until_nul(&extended(&mut from, &header)?).to_vec()),
            b'g' => global(&extended(&mut from, &header)?)?,
            _ => entry(&mut from, header, std::mem::take(&mut pending), stager, limits)?,
        }
    }
    if pending.name.is_some() || pending.size.is_some() {
        return Err("the archive ends after an extended header".to_owned());
    }
    only_zeros(&mut from)
}

fn entry(
    from: &mut impl Read,
    header: Header,
    pending: Pending,
    stager: &mut Stager<'_>,
    limits: &super::Limits,
) -> Result<(), String> {
    let name = pending.name.unwrap_or(header.name);
    let size = pending.size.unwrap_or(header.size);
    let shown = names::shown(&name);
    let refuse = |reason: &str| format!("entry \"{shown}\": {reason}");
    let is_folder = header.kind == b'5' || (matches!(header.kind, b'0' | 0) && name.ends_with(b"/"));
    refuse_kind(header.kind).map_err(refuse)?;
    if header.mode & 0o7000 != 0 && !is_folder {
        return Err(refuse("has a set-user, set-group or sticky bit"));
    }
    // `tar c .` begins every name with "./"; that one folder is no harm.
    let bare = name.strip_prefix(b"./").unwrap_or(&name);
    let bare = if is_folder { bare.strip_suffix(b"/").unwrap_or(bare) } else { bare };
    if is_folder {
        if size != 0 {
            return Err(refuse("is a folder with content"));
        }
        return if matches!(bare, b"" | b".") {
            Ok(())
        } else {
            names::check(bare, limits.depth).map(drop).map_err(|r| refuse(&r))
        };
    }
    let bare = names::check(bare, limits.depth).map_err(|reason| refuse(&reason))?;
    if size > limits.file_bytes {
        return Err(refuse(&format!("is larger than {} bytes", limits.file_bytes)));
    }
    let mut body = Exactly { from, left: size };
    if names::is_ignored(bare) {
        stager.skip(&mut body).map_err(|e| refuse(&e))?;
    } else {
        stager.add(bare, &mut body)?;
    }
    skip_padding(body.from, size).map_err(|e| refuse(&format!("can not be unpacked: {e}")))
}

fn refuse_kind(kind: u8) -> Result<(), &'static str> {
    match kind {
        0 | b'0' | b'5' | b'7' => Ok(()),
        b'1' => Err("is a hard link; a package holds plain files only"),
        b'2' => Err("is a symbolic link; a package holds plain files only"),
        b'3' | b'4' => Err("is a device; a package holds plain files only"),
        b'6' => Err("is a pipe; a package holds plain files only"),
        b'S' => Err("is a sparse file; pack it without --sparse"),
        _ => Err("is of an unknown kind; a package holds plain files only"),
    }
}

struct Header {
    name: Vec<u8>,
    mode: u64,
    size: u64,
    kind: u8,
}

impl Header {
    fn parse(block: &Block) -> Result<Header, String> {
        let mut name = until_nul(&block[..100]).to_vec();
        // POSIX ustar only: old GNU headers keep times where the prefix would be.
        if &block[257..263] == b"ustar\0" && block[345] != 0 {
            let mut full = until_nul(&block[345..500]).to_vec();
            full.push(b'/');
            full.extend_from_slice(&name);
            name = full;
        }
        let sum = octal(&block[148..156]).ok_or("the archive is broken or no tar: a header has no checksum")?;
        let found: u64 =
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
        if sum != found {
            return Err("the archive is broken or no tar: the checksum of a header differs".to_owned());
        }
        let number = |range: std::ops::Range<usize>, what: &str| {
            octal(&block[range])
                .ok_or_else(|| format!("entry \"{}\": its {what} is no octal number", names::shown(&name)))
        };
        let (mode, size) = (number(100..108, "mode")?, number(124..136, "size")?);
        Ok(Header { mode, size, kind: block[156], name })
    }
}

/// What extended headers say of the entry after them.
#[derive(Default)]
struct Pending {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Pending {
    fn extend(&mut self, records: &[u8]) -> Result<(), String> {
        for (key, value) in pax_records(records)? {
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(value).ok_or("an extended header has a size that is no number")?),
                _ if key.starts_with(b"GNU.sparse") => return Err("the archive holds a sparse file".to_owned()),
                // Times, owners, and the target of a link that is refused for itself.
                _ => {}
            }
        }
        Ok(())
    }
}

/// A global header (git writes its commit in one) may not rename or resize what follows.
fn global(records: &[u8]) -> Result<(), String> {
    match pax_records(records)?.iter().any(|(key, _)| matches!(*key, b"path" | b"size" | b"linkpath")) {
        true => Err("a global header of the archive renames its entries".to_owned()),
        false => Ok(()),
    }
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Records of `LENGTH KEY=VALUE\n` (POSIX.1-2001 pax).
fn pax_records(mut text: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let broken = || "an extended header of the archive is broken".to_owned();
    let mut records = Vec::new();
    while !text.is_empty() {
        let space = text.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let len = decimal(&text[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(broken)?;
        if len > text.len() || len < space + 3 || text[len - 1] != b'\n' {
            return Err(broken());
        }
        let record = &text[space + 1..len - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
        records.push((&record[..equals], &record[equals + 1..]));
        text = &text[len..];
    }
    Ok(records)
}

fn extended(from: &mut impl Read, header: &Header) -> Result<Vec<u8>, String> {
    if header.size > EXTENDED_MAX {
        return Err(format!("an extended header is larger than {EXTENDED_MAX} bytes"));
    }
    let mut text = Vec::new();
    let mut body = Exactly { from, left: header.size };
    body.read_to_end(&mut text).map_err(|e| format!("an extended header can not be read: {e}"))?;
    skip_padding(body.from, header.size).map_err(|e| format!("an extended header can not be read: {e}"))?;
    Ok(text)
}

/// The next header; `None` at the block of zeros that ends the archive.
fn next_header(from: &mut impl Read) -> Result<Option<Block>, String> {
    let mut block = [0; BLOCK];
    from.read_exact(&mut block).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => "the archive is cut off: its end mark is missing".to_owned(),
        _ => format!("the archive can not be unpacked: {e}"),
    })?;
    Ok((block != [0; BLOCK]).then_some(block))
}

fn only_zeros(from: &mut impl Read) -> Result<(), String> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) if buffer[..got].iter().all(|b| *b == 0) => {}
            Ok(_) => return Err("there is data after the end of the archive".to_owned()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("the archive can not be unpacked: {e}")),
        }
    }
}

fn skip_padding(from: &mut impl Read, size: u64) -> io::Result<()> {
    let rest = usize::try_from(size % BLOCK as u64).expect("below 512");
    if rest == 0 { Ok(()) } else { from.read_exact(&mut [0; BLOCK][rest..]) }
}

/// Exactly `left` bytes; an earlier end is an error, not a shorter file.
struct Exactly<'a, R> {
    from: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Exactly<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.from.read(&mut buffer[..want])?;
        if got == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|b| *b == 0).unwrap_or(text.len())]
}

/// Octal digits between spaces and NULs. Base-256 numbers are for files far beyond a package's.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { u64::from_str_radix(text, 8).ok() }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_digits_and_nothing_else() {
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b"   644 \0"), Some(0o644));
        assert_eq!(octal(b"\x80\0\0\0\0\0\0\x01"), None);
        assert_eq!(octal(b"-0000001"), None);
        assert_eq!(octal(b"\0\0\0\0\0\0\0\0"), None);
    }

    #[test]
    fn extended_records_that_lie_about_their_length_are_broken() {
        assert_eq!(pax_records(b"10 path=a\n").unwrap(), [(&b"path"[..], &b"a"[..])]);
        for text in
            [&b"99 path=a\n"[..], b"3 path=a\n", b"0 path=a\n", b"path", b"10 pathxa\n", b"99999999999999999999 p=a\n"]
        {
            assert!(pax_records(text).is_err());
        }
    }
}
