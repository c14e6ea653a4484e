//! Builds the archive of a package. Equal files give equal bytes, whenever and wherever: sorted, without times or owners.

use super::source::{Limits, Source};
use super::{manifest, seal, trust};
use crate::diagnostic::{Diagnostic, Place, Severity};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// zstd's level: 9 packs a million-row table in a second or two; deterministic on one thread.
const ZSTD_LEVEL: i32 = 9;

/// What an archive's name ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    TarGz,
    TarZst,
    Zip,
}

const ENDINGS: &[(&str, Format)] =
    &[(".tar.gz", Format::TarGz), (".tgz", Format::TarGz), (".tar.zst", Format::TarZst), (".zip", Format::Zip)];

impl Format {
    /// The format of a file name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }
}

/// Writes the sealed archive of a folder to `output`; the folder itself stays as it is. Answers the number of files.
///
/// # Errors
/// What keeps the folder from being a package, or the archive from being written.
pub fn build(folder: &Path, output: &Path, limits: &Limits) -> Result<usize, Vec<Diagnostic>> {
    let refuse = |problem: String, help: &str| {
        let fault = Diagnostic::error(Place::new(&output.display().to_string().into(), 0, 0), problem);
        vec![if help.is_empty() { fault } else { fault.help(help) }]
    };
    let format = Format::of(output)
        .ok_or_else(|| refuse("no format ends like this".to_owned(), "end the name in .tar.gz, .tar.zst or .zip"))?;
    if lies_below(output, folder) {
        return Err(refuse("the archive would lie inside the package".to_owned(), "name a file outside the folder"));
    }
    let source = Source::open(folder, limits)?;
    let (manifest_text, files) = seal::sealed_manifest(&source)?;
    let faults: Vec<_> = manifest::read_text(&source, &manifest_text).1;
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(faults);
    }
    trust::check_fresh(&source, &manifest_text)?;
    write(&source, &[(manifest::FILE, manifest_text.as_bytes())], format, output, limits)?;
    Ok(files + 1)
}

/// Writes all files of `source`, some with other bytes or added, as an archive that is read back before it takes
/// the place of `output`.
///
/// # Errors
/// When it can not be written, or what was written is no package.
pub fn write(
    source: &Source,
    replaced: &[(&str, &[u8])],
    format: Format,
    output: &Path,
    limits: &Limits,
) -> Result<(), Vec<Diagnostic>> {
    let files = source.files().map(|name| (name, Content::Of(source, name)));
    let replaced = replaced.iter().map(|(name, bytes)| (*name, Content::Bytes(bytes)));
    source.begin("packing");
    write_files(&files.chain(replaced).collect(), format, output, |archive| read_back(archive, limits))
}

/// Where the bytes of a file in an archive come from.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    Bytes(&'a [u8]),
    Of(&'a Source, &'a str),
    /// A file of this machine.
    File(&'a Path),
}

/// Writes an archive that `read_back` takes before it stands in the place of `output`.
///
/// # Errors
/// When it can not be written, or what `read_back` says.
pub fn write_files(
    files: &BTreeMap<&str, Content<'_>>,
    format: Format,
    output: &Path,
    read_back: impl FnOnce(&Path) -> Result<(), Vec<Diagnostic>>,
) -> Result<(), Vec<Diagnostic>> {
    let refuse = |problem: String, help: &str| {
        let fault = Diagnostic::error(Place::new(&output.display().to_string().into(), 0, 0), problem);
        vec![if help.is_empty() { fault } else { fault.help(help) }]
    };
    let temporary = temporary_for(output);
    let written = Archive { files }
        .write_to(format, &temporary)
        .map_err(|e| {
            let faults = refuse(format!("write the archive: {e}"), "is there space, and may the folder be written?");
            if is_of_disk(&e) { faults.into_iter().map(Diagnostic::of_machine).collect() } else { faults }
        })
        .and_then(|()| read_back(&temporary))
        .and_then(|()| move_into_place(&temporary, output).map_err(|e| refuse(format!("write the archive: {e}"), "")));
    if written.is_err() {
        // Best effort: the error that is returned says more than one about the leftover would.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn lies_below(output: &Path, folder: &Path) -> bool {
    let parent = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), folder.canonicalize()) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false,
    }
}

/// Next to the archive, so that it can be renamed.
/// The disk does not take it, whatever it is.
fn is_of_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

fn temporary_for(output: &Path) -> PathBuf {
    output.with_file_name(format!(".enos-edge-{}-{:08x}.tmp", std::process::id(), fastrand::u32(..)))
}

/// Opens what was written as a gateway would. Finds files that changed meanwhile, and caps that are passed.
fn read_back(archive: &Path, limits: &Limits) -> Result<(), Vec<Diagnostic>> {
    let faults = manifest::read(&Source::open(archive, limits)?).1;
    if faults.iter().any(|fault| fault.severity == Severity::Error) { Err(faults) } else { Ok(()) }
}

fn move_into_place(temporary: &Path, output: &Path) -> io::Result<()> {
    std::fs::rename(temporary, output)?;
    File::open(output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

struct Archive<'a> {
    files: &'a BTreeMap<&'a str, Content<'a>>,
}

impl Archive<'_> {
    fn write_to(&self, format: Format, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::options().read(true).write(true).create_new(true).open(path)?);
        self.write(format, &mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    fn write(&self, format: Format, to: &mut BufWriter<File>) -> io::Result<()> {
        match format {
            Format::TarGz => {
                let gzip = flate2::GzBuilder::new().mtime(0).write(to, flate2::Compression::best());
                self.tar(gzip)?.finish().map(drop)
            }
            Format::TarZst => {
                let mut zstd = zstd::stream::write::Encoder::new(to, ZSTD_LEVEL)?;
                zstd.include_checksum(true)?;
                self.tar(zstd)?.finish().map(drop)
            }
            Format::Zip => self.zip(to),
        }
    }

    /// Every file with its length and bytes, in the order of their names.
    fn each(&self, mut add: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
        for (name, content) in self.files {
            match content {
                Content::Bytes(bytes) => add(name, bytes.len() as u64, &mut &bytes[..])?,
                Content::Of(source, file) => {
                    let other = |e: Diagnostic| io::Error::other(e.to_string());
                    add(name, source.length(file).map_err(other)?, &mut source.reader(file).map_err(other)?)?;
                }
                Content::File(path) => {
                    let mut file = File::open(path)?;
                    let length = file.metadata()?.len();
                    add(name, length, &mut file)?;
                }
            }
        }
        Ok(())
    }

    fn tar<W: Write>(&self, to: W) -> io::Result<W> {
        let mut builder = tar::Builder::new(to);
        self.each(|name, length, bytes| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(length);
            // A file that grows or shrinks meanwhile would tear the archive.
            let mut bytes = Exactly { from: bytes, left: length };
            builder.append_data(&mut header, name, &mut bytes)
        })?;
        builder.into_inner()
    }

    fn zip(&self, to: &mut BufWriter<File>) -> io::Result<()> {
        let mut writer = zip::ZipWriter::new(to);
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(0o644);
        self.each(|name, _, bytes| {
            writer.start_file(name, options)?;
            io::copy(bytes, &mut writer).map(drop)
        })?;
        writer.finish().map(drop).map_err(io::Error::from)
    }
}

/// `left` bytes, or an error.
struct Exactly<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.from.read(&mut buffer[..want])?;
        if got == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was packed"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        for (name, format) in [
            ("p.tar.gz", Some(Format::TarGz)),
            ("P.TGZ", Some(Format::TarGz)),
            ("p-1.0.0.tar.zst", Some(Format::TarZst)),
            ("p.zip", Some(Format::Zip)),
            ("p.rar", None),
            ("zip", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }
}
