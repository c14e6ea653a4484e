//! PURE. Names a file that is no update file by its first bytes, and says how to make one of it (R18).

use super::elf;

/// As many first bytes as [`describe`] wants: ext4 writes its mark at 1080.
pub const START: usize = 2048;

struct Mark {
    at: usize,
    bytes: &'static [u8],
    what: &'static str,
    way: Way,
}

/// What can be done with such a file.
#[derive(Clone, Copy)]
enum Way {
    /// It is firmware; the target that usually takes it.
    Firmware(&'static str),
    Package,
    Certificate,
    Nothing,
}

const fn mark(at: usize, bytes: &'static [u8], what: &'static str, way: Way) -> Mark {
    Mark { at, bytes, what, way }
}

const MARKS: &[Mark] = &[
    mark(0, b"!<arch>\ndebian-binary", "a Debian package", Way::Package),
    mark(0, b"\xed\xab\xee\xdb", "an RPM package", Way::Nothing),
    mark(0, b"hsqs", "a squashfs image, as RAUC's bundles are", Way::Firmware("rauc")),
    mark(0, b"070701", "a cpio archive, as SWUpdate's images are", Way::Firmware("swupdate")),
    mark(0, b"070702", "a cpio archive, as SWUpdate's images are", Way::Firmware("swupdate")),
    mark(0, b"\x27\x05\x19\x56", "a U-Boot image", Way::Firmware("NAME")),
    mark(0, b"\xd0\x0d\xfe\xed", "a device tree or FIT image", Way::Firmware("NAME")),
    mark(0, b"\x3a\xff\x26\xed", "an Android sparse image", Way::Firmware("NAME")),
    mark(0, b"UBI#", "a UBI image", Way::Firmware("NAME")),
    mark(1080, b"\x53\xef", "an ext4 image", Way::Firmware("NAME")),
    mark(510, b"\x55\xaa", "an image of a disk", Way::Firmware("NAME")),
    mark(257, b"ustar", "a tar that is not compressed", Way::Nothing),
    mark(0, b"-----BEGIN CERTIFICATE", "a certificate", Way::Certificate),
    mark(0, b"BZh", "a bzip2 archive", Way::Nothing),
    mark(0, b"\xfd7zXZ\0", "an xz archive", Way::Nothing),
    mark(0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", Way::Nothing),
    mark(0, b"MZ", "a program for Windows", Way::Nothing),
    mark(0, b"#!", "a script", Way::Nothing),
    mark(0, b":", "an Intel HEX file", Way::Firmware("NAME")),
];

/// Archives that update files may be.
const ARCHIVES: &[&[u8]] = &[b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06"];

const WRAP: &str = "wrap it with `enos-edge update build`, which signs it and says what it is for";

/// What the file is and what to do; `None` for an archive, which has to be opened to know.
#[must_use]
pub fn describe(start: &[u8]) -> Option<(String, String)> {
    if ARCHIVES.iter().any(|magic| start.starts_with(magic)) {
        return None;
    }
    if start.is_empty() {
        return Some(("an empty file".to_owned(), "was it downloaded to its end?".to_owned()));
    }
    if is_page(start) {
        return Some(("a page of the web, perhaps of a login".to_owned(), WRAP.to_owned()));
    }
    if let Some(architecture) = elf::architecture(start) {
        let help = "an engine: `enos-edge update build --kind engine --binary FILE --key KEY -o FILE.tar.zst`";
        return Some((format!("a bare program for {architecture}"), format!("wrap and sign it; {help}")));
    }
    let found = MARKS.iter().find(|mark| start.get(mark.at..).is_some_and(|rest| rest.starts_with(mark.bytes)));
    Some(found.map_or_else(
        || ("a file of an unknown kind".to_owned(), WRAP.to_owned()),
        |mark| (mark.what.to_owned(), way(mark.way)),
    ))
}

/// Whether it is a page of the web, as they come in place of files.
#[must_use]
pub fn is_page(start: &[u8]) -> bool {
    let text = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start).trim_ascii_start();
    ["<!doctype html", "<html", "<?xml"]
        .iter()
        .any(|mark| text.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes())))
}

fn way(way: Way) -> String {
    let firmware = |target: &str| {
        format!(
            "`enos-edge update build --kind firmware --target {target} --binary FILE --version V --key KEY -o FILE.tar.zst`"
        )
    };
    match way {
        Way::Firmware(target) => format!("wrap and sign it; {}", firmware(target)),
        Way::Package => format!(
            "install it with apt on the gateway, or wrap and sign it for a target that takes packages; {}",
            firmware("NAME")
        ),
        Way::Certificate => {
            "certificates are renewed by the gateway itself, never by an update: see `enos-edge certificate`".to_owned()
        }
        Way::Nothing => WRAP.to_owned(),
    }
}

/// An archive without update.yaml, by the names in it.
#[must_use]
pub fn describe_archive<'n>(mut names: impl Iterator<Item = &'n str>) -> (String, String) {
    let mut shown = Vec::new();
    for name in names.by_ref().take(1000) {
        match name {
            "package.yaml" => {
                let help = "install it with `enos-edge package install`, or let `fetch:` bring it";
                return ("a resource package".to_owned(), help.to_owned());
            }
            "sw-description" | "manifest.raucm" => {
                return (format!("an archive with {name} in it"), WRAP.to_owned());
            }
            _ if name.ends_with("/update.yaml") => {
                let help = "pack the files themselves, or use `enos-edge update build`";
                return (format!("an archive with {name} in it, one folder too deep"), help.to_owned());
            }
            _ if shown.len() < 3 => shown.push(name.to_owned()),
            _ => {}
        }
    }
    (
        format!("an archive of {}", if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }),
        WRAP.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_file_is_named_with_its_remedy() {
        for (start, what, help) in [
            (&b"!<arch>\ndebian-binary   1342943816  0"[..], "Debian package", "apt"),
            (b"hsqs\x07\0\0\0", "RAUC", "--target rauc"),
            (b"070701000A", "SWUpdate", "--target swupdate"),
            (b"-----BEGIN CERTIFICATE-----", "certificate", "never by an update"),
            (b"<!DOCTYPE html>", "login", "update build"),
            (b"\xef\xbb\xbf\r\n<HTML><head>", "login", "update build"),
            (b"", "empty", "to its end"),
            (b"what is this", "unknown kind", "update build"),
        ] {
            let (told, way) = describe(start).unwrap();
            assert!(told.contains(what) && way.contains(help), "{told}: {way}");
        }
        let mut program = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x28\0".to_vec();
        program.resize(64, 0);
        assert_eq!(describe(&program).unwrap().0, "a bare program for armhf");
        assert!(describe(b"PK\x03\x04").is_none() && describe(b"\x1f\x8b").is_none());
    }

    #[test]
    fn archives_are_told_by_what_lies_in_them() {
        assert_eq!(describe_archive(["assets.yaml", "package.yaml"].into_iter()).0, "a resource package");
        assert!(describe_archive(["fw/update.yaml"].into_iter()).0.contains("too deep"));
        assert_eq!(describe_archive(["a", "b", "c", "d"].into_iter()).0, "an archive of a, b, c");
    }
}
