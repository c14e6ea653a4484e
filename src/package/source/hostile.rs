//! Opening archives that were made to harm. Headers are written by hand where the crates refuse to.

use super::*;
use std::io::Write;
use std::time::{Duration, Instant};

/// A tar that is nearly right: each part can be told wrong.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(self, name: &[u8], kind: u8, mode: &str, body: &[u8]) -> Tar {
        self.header(name, kind, mode, &format!("{:011o}", body.len())).body(body)
    }

    fn file(self, name: &str, body: &[u8]) -> Tar {
        self.entry(name.as_bytes(), b'0', "0000644", body)
    }

    fn header(mut self, name: &[u8], kind: u8, mode: &str, size: &str) -> Tar {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(mode.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size.as_bytes());
        block[156] = kind;
        block[157..168].copy_from_slice(b"/etc/passwd");
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self
    }

    fn body(mut self, body: &[u8]) -> Tar {
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, kind: u8, key: &str, value: &str) -> Tar {
        let len = key.len() + value.len() + 3;
        let len = len + (len + 3).to_string().len();
        self.entry(b"pax", kind, "0000644", format!("{len} {key}={value}\n").as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        gzip(&self.0)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// One entry of a zip, as its header and as the list tell it.
#[derive(Clone)]
struct Zipped {
    name: Vec<u8>,
    local_name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    packed: Vec<u8>,
    unpacked: u32,
    local_unpacked: u32,
    mode: u32,
    extra: Vec<u8>,
    descriptor: Vec<u8>,
}

impl Zipped {
    fn stored(name: &str, body: &[u8]) -> Zipped {
        let mut crc = flate2::Crc::new();
        crc.update(body);
        let len = u32::try_from(body.len()).unwrap();
        Zipped {
            name: name.into(),
            local_name: name.into(),
            flags: 0,
            method: 0,
            crc: crc.sum(),
            packed: body.to_vec(),
            unpacked: len,
            local_unpacked: len,
            mode: 0o100_644,
            extra: vec![],
            descriptor: vec![],
        }
    }

    fn deflated(name: &str, body: &[u8]) -> Zipped {
        Zipped { method: 8, packed: deflate(body), ..Zipped::stored(name, body) }
    }

    fn fields(&self, unpacked: u32, extra: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for half in [20, self.flags, self.method, 0, 33] {
            out.extend(half.to_le_bytes());
        }
        let packed = u32::try_from(self.packed.len()).unwrap();
        let hidden = self.flags & 8 != 0 && !self.descriptor.is_empty() && extra == usize::MAX;
        for word in if hidden { [0; 3] } else { [self.crc, packed, unpacked] } {
            out.extend(word.to_le_bytes());
        }
        out
    }

    fn local(&self) -> Vec<u8> {
        let mut out = b"PK\x03\x04".to_vec();
        out.extend(self.fields(self.local_unpacked, usize::MAX));
        out.extend(u16::try_from(self.local_name.len()).unwrap().to_le_bytes());
        out.extend([0, 0]);
        out.extend(&self.local_name);
        out.extend(&self.packed);
        out.extend(&self.descriptor);
        out
    }

    fn central(&self, offset: usize) -> Vec<u8> {
        let mut out = b"PK\x01\x02\x14\x03".to_vec();
        out.extend(self.fields(self.unpacked, 0));
        for len in [self.name.len(), self.extra.len(), 0, 0, 0] {
            out.extend(u16::try_from(len).unwrap().to_le_bytes());
        }
        out.extend((self.mode << 16).to_le_bytes());
        out.extend(u32::try_from(offset).unwrap().to_le_bytes());
        out.extend(&self.name);
        out.extend(&self.extra);
        out
    }
}

fn zip(entries: &[Zipped]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut list = Vec::new();
    for entry in entries {
        list.extend(entry.central(out.len()));
        out.extend(entry.local());
    }
    with_list(out, &list, entries.len())
}

fn with_list(mut out: Vec<u8>, list: &[u8], count: usize) -> Vec<u8> {
    let offset = u32::try_from(out.len()).unwrap();
    out.extend(list);
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = u16::try_from(count).unwrap().to_le_bytes();
    out.extend(count);
    out.extend(count);
    out.extend(u32::try_from(list.len()).unwrap().to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn good() -> Zipped {
    Zipped::stored("package.yaml", b"format: 1\n")
}

/// Why it was refused. The staging folder must be empty afterwards, and time is short.
fn refusal_with(bytes: &[u8], limits: &Limits) -> String {
    let home = tempfile::tempdir().unwrap();
    let (staging, archive) = (home.path().join("staging"), home.path().join("archive"));
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(&archive, bytes).unwrap();
    let limits = Limits { staging: Some(staging.clone()), ..limits.clone() };
    let started = Instant::now();
    let opened = Source::open(&archive, &limits);
    assert!(started.elapsed() < Duration::from_secs(10), "refused late");
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0, "left over");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2, "written outside");
    opened.err().map_or_else(|| "was opened".to_owned(), |faults| faults[0].problem.clone())
}

fn check(cases: &[(&str, Vec<u8>, &str)]) {
    let refusals: Vec<_> = cases.iter().map(|(_, bytes, _)| refusal_with(bytes, &Limits::default())).collect();
    let wrong: Vec<_> = cases
        .iter()
        .zip(&refusals)
        .filter(|((_, _, reason), refusal)| !refusal.contains(reason))
        .map(|((case, _, reason), refusal)| format!("{case}: wanted \"{reason}\", got \"{refusal}\""))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_hand_made_archives_open_when_nothing_is_wrong_with_them() {
    let mut streamed = Zipped::deflated("a.yaml", b"aaaaaaaaaa");
    streamed.flags = 8;
    streamed.descriptor = b"PK\x07\x08".to_vec();
    for word in [streamed.crc, u32::try_from(streamed.packed.len()).unwrap(), 10] {
        streamed.descriptor.extend(word.to_le_bytes());
    }
    let long = format!("models/{}.yaml", "n".repeat(200));
    for bytes in [
        Tar::default().file("package.yaml", b"x").file("a.yaml", b"aaaaaaaaaa").end(),
        Tar::default()
            .entry(b"./", b'5', "0000755", b"")
            .file("./package.yaml", b"x")
            .file("./a.yaml", b"aaaaaaaaaa")
            .end(),
        Tar::default()
            .pax(b'g', "comment", "0123")
            .file("p/package.yaml", b"x")
            .pax(b'x', "path", "p/a.yaml")
            .file("b", b"aaaaaaaaaa")
            .end(),
        Tar::default().entry(b"L", b'L', "0000000", b"a.yaml\0").file("cut", b"aaaaaaaaaa").end(),
        zip(&[good(), Zipped::deflated("a.yaml", b"aaaaaaaaaa"), Zipped { mode: 0, ..Zipped::stored("models/", b"") }]),
        zip(&[good(), streamed]),
        zip(&[good(), Zipped::stored("a.yaml", b"aaaaaaaaaa"), Zipped::stored("__MACOSX/._a.yaml", b"x")]),
        Tar::default()
            .file("package.yaml", b"x")
            .pax(b'x', "path", &long)
            .file("n", b"x")
            .file("a.yaml", b"aaaaaaaaaa")
            .end(),
    ] {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("a"), bytes).unwrap();
        let source = Source::open(&home.path().join("a"), &Limits::default()).unwrap_or_else(|f| panic!("{f:?}"));
        assert_eq!(source.text("a.yaml").unwrap(), "aaaaaaaaaa");
    }
}

#[test]
fn hostile_names_are_refused_in_both_kinds_of_archive() {
    let names: &[(&[u8], &str)] = &[
        (b"../evil", "climbs out"),
        (b"models/../../evil", "climbs out"),
        (b"models/..", "climbs out"),
        (b"/etc/evil", "absolute"),
        (b"//evil", "absolute"),
        (b"..\\evil", "backslash"),
        (b"models\\evil", "backslash"),
        (b"C:evil", "drive letter"),
        (b"c:/evil", "drive letter"),
        (b"a//b", "empty or ."),
        (b"a/./b", "empty or ."),
        (b"././a", "empty or ."),
        (b"a\x01b", "U+0001"),
        (b"a\x7fb", "U+007F"),
        (b"a\nb", "U+000A"),
        ("lmay.\u{202e}vsc".as_bytes(), "U+202E"),
        ("a\u{2066}b".as_bytes(), "U+2066"),
        ("a\u{200d}b".as_bytes(), "U+200D"),
        (b"\xb5\xe7\xb1\xed.yaml", "not UTF-8"),
        (b"1/2/3/4/5/6/7/8/9", "9 folders deep"),
    ];
    let mut cases = Vec::new();
    for (name, reason) in names {
        let shown = String::from_utf8_lossy(name).into_owned();
        cases.push((
            shown.clone(),
            Tar::default().file("package.yaml", b"").entry(name, b'0', "0000644", b"x").end(),
            *reason,
        ));
        let entry = Zipped { name: name.to_vec(), local_name: name.to_vec(), ..Zipped::stored("x", b"x") };
        cases.push((shown, zip(&[good(), entry]), *reason));
    }
    cases.push(("zip NUL".to_owned(), zip(&[Zipped::stored("a\0b", b"")]), "NUL"));
    cases.push(("pax NUL".to_owned(), Tar::default().pax(b'x', "path", "a\0b").file("x", b"").end(), "NUL"));
    cases.push(("pax ..".to_owned(), Tar::default().pax(b'x', "path", "../x").file("x", b"").end(), "climbs out"));
    let long = "n/".repeat(200);
    cases.push(("long".to_owned(), Tar::default().pax(b'x', "path", &long).file("x", b"").end(), "longer than 255"));
    cases.push(("long zip".to_owned(), zip(&[Zipped::stored(&"n".repeat(60_000), b"")]), "longer than 255"));
    let deep = "d/".repeat(10_000);
    cases.push((
        "deep".to_owned(),
        Tar::default().entry(b"L", b'L', "0000000", deep.as_bytes()).file("x", b"").end(),
        "longer than 255",
    ));
    let cases: Vec<_> = cases.iter().map(|(case, bytes, reason)| (case.as_str(), bytes.clone(), *reason)).collect();
    check(&cases);
}

#[test]
fn names_that_collide_are_refused() {
    check(&[
        ("tar twice", Tar::default().file("a", b"1").file("a", b"2").end(), "there twice"),
        ("tar case", Tar::default().file("models/a", b"1").file("Models/b", b"2").end(), "letter case"),
        ("tar ./ twice", Tar::default().file("a", b"1").file("./a", b"2").end(), "there twice"),
        ("tar folder", Tar::default().file("a", b"1").file("a/b", b"2").end(), "both a file and a folder"),
        ("zip twice", zip(&[good(), good()]), "there twice"),
        ("zip case", zip(&[good(), Zipped::stored("Package.yaml", b"")]), "letter case"),
    ]);
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let mode = |mode: u32| zip(&[good(), Zipped { mode, ..Zipped::stored("x", b"/etc/passwd") }]);
    check(&[
        ("tar symlink", Tar::default().entry(b"x", b'2', "0000777", b"").end(), "symbolic link"),
        (
            "tar symlink, then through it",
            Tar::default().entry(b"x", b'2', "0000777", b"").file("x/y", b"1").end(),
            "symbolic link",
        ),
        ("tar hard link", Tar::default().entry(b"x", b'1', "0000644", b"").end(), "hard link"),
        ("tar character device", Tar::default().entry(b"x", b'3', "0000644", b"").end(), "device"),
        ("tar block device", Tar::default().entry(b"x", b'4', "0000644", b"").end(), "device"),
        ("tar pipe", Tar::default().entry(b"x", b'6', "0000644", b"").end(), "pipe"),
        ("tar sparse", Tar::default().entry(b"x", b'S', "0000644", b"").end(), "sparse"),
        ("tar pax sparse", Tar::default().pax(b'x', "GNU.sparse.major", "1").file("x", b"").end(), "sparse"),
        ("tar unknown kind", Tar::default().entry(b"x", b'Z', "0000644", b"").end(), "unknown kind"),
        ("tar setuid", Tar::default().entry(b"x", b'0', "0004755", b"").end(), "set-user"),
        ("tar setgid", Tar::default().entry(b"x", b'0', "0002755", b"").end(), "set-user"),
        ("tar folder with content", Tar::default().entry(b"x", b'5', "0000755", b"1").end(), "folder with content"),
        ("zip symlink", mode(0o120_777), "symbolic link"),
        ("zip device", mode(0o020_644), "device"),
        ("zip pipe", mode(0o010_644), "pipe"),
        ("zip socket", mode(0o140_644), "device"),
        ("zip folder that is a file", mode(0o040_755), "device"),
        ("zip setuid", mode(0o104_755), "set-user"),
    ]);
}

#[test]
fn archives_that_are_cut_or_lie_are_refused() {
    let tar = Tar::default().file("package.yaml", &[b'x'; 2000]).end();
    let zipped = zip(&[good(), Zipped::deflated("a", &[b'x'; 2000])]);
    let mut more = Tar::default().file("a", b"");
    more.0.extend([0; 1024]);
    more.0.extend([1; 512]);
    let after = [zipped.clone(), b"after".to_vec()].concat();
    let before = [b"before".to_vec(), zipped.clone()].concat();
    let lie = |change: fn(&mut Zipped)| {
        let mut entry = Zipped::deflated("a", &[b'x'; 2000]);
        change(&mut entry);
        zip(&[good(), entry])
    };
    let local = |change: fn(&mut Zipped)| lie(change);
    let mut wrong_sum = Tar::default().file("a", b"").0;
    wrong_sum[0] = b'b';
    let mut gzip_crc = tar.clone();
    let at = gzip_crc.len() - 8;
    gzip_crc[at] ^= 1;
    check(&[
        ("tar cut in a body", gzip(&Tar::default().file("a", &[b'x'; 2000]).0[..1000]), "cut off"),
        ("tar cut in a header", gzip(&Tar::default().file("a", b"").0[..300]), "cut off"),
        ("tar without end", gzip(&Tar::default().file("a", b"").0), "cut off"),
        ("gzip cut", tar[..tar.len() - 9].to_vec(), "incomplete"),
        ("gzip without its sum", tar[..tar.len() - 4].to_vec(), "can not be unpacked"),
        ("gzip sum", gzip_crc, "can not be unpacked"),
        ("gzip, more after", [tar.clone(), b"x".to_vec()].concat(), "data after the end"),
        ("two gzips", [tar.clone(), tar].concat(), "data after the end"),
        ("tar, more after", gzip(&more.0), "data after the end"),
        ("no tar", gzip(&[b'x'; 2048]), "no tar"),
        ("tar checksum", gzip(&wrong_sum), "checksum"),
        ("tar size lies", Tar::default().header(b"a", b'0', "0000644", "77777777777").end(), "larger than"),
        ("tar size no number", Tar::default().header(b"a", b'0', "0000644", "9999999999x").end(), "no octal number"),
        (
            "tar base-256 size",
            Tar::default().header(b"a", b'0', "0000644", "\u{7f}xxxxxxxxxx").end(),
            "no octal number",
        ),
        ("pax size lies", Tar::default().pax(b'x', "size", "99999999999").file("a", b"").end(), "larger than"),
        ("pax huge", Tar::default().header(b"x", b'x', "0000644", "00077777777").end(), "extended header"),
        ("pax last", Tar::default().pax(b'x', "path", "a").end(), "ends after an extended header"),
        ("global path", Tar::default().pax(b'g', "path", "a").file("b", b"").end(), "renames"),
        ("zip cut", zipped[..zipped.len() - 1].to_vec(), "cut off"),
        ("zip cut in its list", zipped[..zipped.len() - 30].to_vec(), "cut off"),
        ("zip, more after", after, "after the end"),
        ("zip, more before", before, "no archive"),
        ("zip, local name differs", local(|e| e.local_name = b"b".to_vec()), "differ"),
        ("zip, local size differs", local(|e| e.local_unpacked = 1), "differ"),
        ("zip sum", lie(|e| e.crc ^= 1), "checksum differs"),
        ("zip says less", lie(|e| (e.unpacked, e.local_unpacked) = (10, 10)), "lies about its size"),
        ("zip says more", lie(|e| (e.unpacked, e.local_unpacked) = (9999, 9999)), "lies about its size"),
        ("zip, junk in the packed bytes", lie(|e| e.packed.extend(b"junk")), "lies about its size"),
        ("zip cut deflate", lie(|e| e.packed.truncate(5)), "entry \"a\""),
        ("zip encrypted", lie(|e| e.flags = 1), "encrypted"),
        ("zip strongly encrypted", lie(|e| e.flags = 0x40), "encrypted"),
        ("zip AES", lie(|e| e.method = 99), "method 99"),
        ("zip bzip2", lie(|e| e.method = 12), "method 12"),
        ("zip zip64 entry", lie(|e| e.extra = vec![1, 0, 0, 0]), "zip64"),
        ("zip second name", lie(|e| e.extra = vec![0x75, 0x70, 1, 0, 1]), "second name"),
        ("zip broken extra", lie(|e| e.extra = vec![9, 9, 99, 0]), "broken extra"),
        ("zip descriptor lies", lie(|e| (e.flags, e.descriptor) = (8, vec![1; 12])), "before or between"),
        ("zip descriptor missing", lie(|e| e.flags = 8), "before or between"),
    ]);
}

#[test]
fn entries_of_a_zip_that_overlap_or_hide_bytes_are_refused() {
    let a = Zipped::deflated("a", &[b'x'; 2000]);
    let mut same = Vec::new();
    same.extend(a.local());
    let list = [a.central(0), Zipped { name: b"b".to_vec(), ..a.clone() }.central(0)].concat();
    let overlap = with_list(same, &list, 2);
    // David Fifield's bomb: an outer entry whose stored bytes are the next entry, header and all.
    let inner = a.local();
    let outer = Zipped::stored("o", &inner);
    let quoted = with_list(outer.local(), &[outer.central(0), a.central(31)].concat(), 2);
    let mut hidden = good().local();
    let gap = hidden.len() + 3;
    hidden.extend(b"abc");
    hidden.extend(a.local());
    let hidden = with_list(hidden, &[good().central(0), a.central(gap)].concat(), 2);
    let unlisted = with_list([good().local(), a.local()].concat(), &good().central(0), 1);
    let mut count = zip(&[good(), a.clone()]);
    let end = count.len() - 22;
    count[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
    let mut parts = zip(&[good()]);
    let end = parts.len() - 22;
    parts[end + 4] = 1;
    let mut zip64 = zip(&[good()]);
    let end = zip64.len() - 22;
    zip64[end + 16..end + 20].copy_from_slice(&[255; 4]);
    check(&[
        ("same bytes twice", overlap, "overlaps"),
        ("quoted", quoted, "overlaps"),
        ("gap", hidden, "before or between"),
        ("unlisted entry", unlisted, "before or between"),
        ("fewer than listed", count, "more than it says"),
        ("several parts", parts, "several parts"),
        ("zip64", zip64, "zip64"),
    ]);
}

#[test]
fn bombs_stop_while_they_unfold() {
    let zeros = vec![0; 40 << 20];
    let tar = Tar::default().file("package.yaml", &zeros).end();
    let padding = gzip(&zeros);
    let zstd = zstd::bulk::compress(&Tar::default().file("package.yaml", &zeros).0, 3).unwrap();
    let lying = Zipped { unpacked: 10, local_unpacked: 10, ..Zipped::deflated("a", &zeros) };
    check(&[
        ("tar.gz", tar, "more than 250 times"),
        ("tar.gz of zeros after the end", padding, "more than 250 times"),
        ("tar.zst", zstd, "more than 250 times"),
        ("zip", zip(&[Zipped::deflated("a", &zeros)]), "more than 250 times"),
        ("zip that says 10 bytes", zip(&[lying]), "lies about its size"),
    ]);
}

#[test]
fn a_million_entries_are_refused_early() {
    let mut tar = Tar::default();
    for n in 0..25_000 {
        tar = if n % 2 == 0 { tar.file(&format!("f{n}"), b"") } else { tar.entry(b"d", b'5', "0000755", b"") };
    }
    let files: Vec<_> = (0..20_001).map(|n| Zipped::stored(&format!("f{n}"), b"")).collect();
    check(&[("tar", tar.end(), "more than 10000 files"), ("zip", zip(&files), "more than 10000 files")]);
}

#[test]
fn caps_on_sizes_name_the_entry() {
    let limits = Limits { file_bytes: 1000, total_bytes: 1500, ..Limits::default() };
    let big = Tar::default().file("a", &[b'x'; 1001]).end();
    assert_eq!(refusal_with(&big, &limits), "entry \"a\": is larger than 1000 bytes");
    let many = Tar::default().file("a", &[b'x'; 900]).file("b", &[b'x'; 900]).end();
    assert_eq!(refusal_with(&many, &limits), "entry \"b\": the package is larger than 1500 bytes");
    let limits = Limits { archive_bytes: 10, ..Limits::default() };
    assert_eq!(refusal_with(&many, &limits), "the archive is larger than 10 bytes");
}

#[test]
fn a_zstd_frame_may_not_ask_for_all_memory() {
    // A frame header with a window of 2^31 bytes (RFC 8878, 3.1.1.1.2: exponent 21, mantissa 0), then nothing useful.
    let bytes = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    assert!(refusal_with(&bytes, &Limits::default()).contains("can not be unpacked"));
}

#[test]
fn no_single_flipped_bit_or_cut_is_a_panic() {
    let zipped = zip(&[good(), Zipped::deflated("a", &[b'x'; 200])]);
    let tar = Tar::default().file("package.yaml", b"x").pax(b'x', "path", "a").file("b", b"y").end();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a");
    for bytes in [zipped, tar] {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            for broken in [&flipped[..], &bytes[..at]] {
                std::fs::write(&path, broken).unwrap();
                // Opened or refused: either is an answer.
                drop(Source::open(&path, &Limits::default()));
            }
        }
    }
}
