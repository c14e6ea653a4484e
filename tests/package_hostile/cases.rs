//! What people with bad intentions, bad tools or bad luck hand a gateway, and what it says to each.

use super::archives::{Files, Tar, Zipped, gzip, site, stored, with, with_list, zip, zip_with};
use std::fmt::Write as _;

pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// A part of what is said; `None`: it is right to take it.
    pub refused: Option<&'static str>,
}

fn no(name: &'static str, bytes: Vec<u8>, refused: &'static str) -> Case {
    Case { name, bytes, refused: Some(refused) }
}

fn yes(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, bytes, refused: None }
}

/// Where its name, or what it is, would lead out of the package.
pub fn escapes() -> Vec<Case> {
    let tar = |name: &[u8]| Tar::site().entry(name, b'0', b"owned").gz();
    let zipped = |name: &str| zip_with(vec![Zipped::stored(name, b"owned")]);
    let kind = |kind: u8| Tar::site().entry(b"models/x.yaml", kind, b"").gz();
    let mode = |mode: u32| zip_with(vec![Zipped { mode, ..Zipped::stored("models/x.yaml", b"/etc/passwd") }]);
    let through = Tar::site().entry(b"out", b'2', b"").entry(b"out/passwd", b'0', b"owned").gz();
    vec![
        no("slip.tar.gz", tar(b"../../owned"), "climbs out of the package"),
        no("slip.zip", zipped("models/../../../owned"), "climbs out of the package"),
        no("slip-backslash.zip", zipped("..\\..\\owned"), "holds a backslash"),
        no("slip-pax.tar.gz", Tar::site().pax("path", "../../owned").entry(b"a", b'0', b"x").gz(), "climbs out"),
        no(
            "slip-gnu.tar.gz",
            Tar::site().entry(b"L", b'L', b"../../owned\0").entry(b"a", b'0', b"x").gz(),
            "climbs out",
        ),
        no("absolute.tar.gz", tar(b"/tmp/owned"), "absolute path"),
        no("absolute.zip", zipped("/tmp/owned"), "absolute path"),
        no("drive.zip", zipped("C:/owned"), "drive letter"),
        no("symlink.tar.gz", kind(b'2'), "symbolic link"),
        no("through-a-symlink.tar.gz", through, "symbolic link"),
        no("symlink.zip", mode(0o120_777), "symbolic link"),
        no("hard-link.tar.gz", kind(b'1'), "hard link"),
        no("character-device.tar.gz", kind(b'3'), "is a device"),
        no("block-device.tar.gz", kind(b'4'), "is a device"),
        no("fifo.tar.gz", kind(b'6'), "is a pipe"),
        no("device.zip", mode(0o020_666), "device or pipe"),
        no("fifo.zip", mode(0o010_666), "device or pipe"),
        no("setuid.zip", mode(0o104_755), "set-user"),
        no("sparse.tar.gz", kind(b'S'), "sparse file"),
        no(
            "sparse-pax.tar.gz",
            Tar::site().pax("GNU.sparse.realsize", "9").entry(b"a", b'0', b"x").gz(),
            "sparse file",
        ),
        no("windows-device.zip", zipped("models/nul.yaml"), "device on Windows"),
        no("trailing-dot.zip", zipped("models/a.yaml."), "ends with a dot"),
        no("control.tar.gz", tar(b"models/\x1b[2J.yaml"), "control character U+001B"),
        no("right-to-left.zip", zipped("models/lmay.\u{202e}x.yaml"), "invisible character U+202E"),
        no("not-utf-8.tar.gz", tar(b"models/\xe4.yaml"), "not UTF-8"),
        no("long.zip", zipped(&format!("models/{}.yaml", "n".repeat(60_000))), "longer than 255 bytes"),
        no("deep.tar.gz", tar(b"1/2/3/4/5/6/7/8/9.yaml"), "9 folders deep"),
        no(
            "endless-depth.tar.gz",
            Tar::site().pax("path", &"d/".repeat(20_000)).entry(b"a", b'0', b"").gz(),
            "longer than 255",
        ),
    ]
}

/// Two files where one would be seen.
pub fn doubles() -> Vec<Case> {
    let tar = |name: &str| Tar::site().entry(name.as_bytes(), b'0', b"id: N\n").gz();
    vec![
        no("twice.tar.gz", tar("models/m.yaml"), "is there twice"),
        no("twice.zip", zip_with(vec![Zipped::stored("models/m.yaml", b"id: N\n")]), "is there twice"),
        no("twice-but-for-case.tar.gz", tar("models/M.yaml"), "differ in letter case only"),
        no(
            "folder-but-for-case.zip",
            zip_with(vec![Zipped::stored("Models/n.yaml", b"")]),
            "differ in letter case only",
        ),
        no(
            "twice-but-for-composition.zip",
            zip_with(vec![Zipped::stored("models/u\u{308}.yaml", b"")]),
            "combining mark U+0308",
        ),
        no("file-and-folder.tar.gz", tar("models/m.yaml/x.yaml"), "both a file and a folder"),
        no("folder-and-file.zip", zip_with(vec![Zipped::stored("models", b"")]), "both a file and a folder"),
    ]
}

/// Small archives that unfold to large ones.
pub fn bombs() -> Vec<Case> {
    let zeros = vec![0; 32 << 20];
    let one = Tar::site().entry(b"docs/zeros", b'0', &zeros);
    let hidden: Vec<_> = vec![Zipped::deflated(".hidden", &zeros[..(8 << 20) - 1]); 70];
    let numbered = hidden.iter().enumerate().map(|(at, z)| Zipped { name: format!(".h{at}").into(), ..z.clone() });
    let many = (0..10_100).fold(Tar::site(), |tar, at| tar.entry(format!("docs/f{at}").as_bytes(), b'0', b""));
    let small: Vec<_> = (0..10_100).map(|at| Zipped::stored(&format!("docs/f{at}"), b"")).collect();
    let a = Zipped::deflated("docs/a", &zeros[..1 << 20]);
    let same = [a.listed(0), Zipped { name: b"docs/b".to_vec(), ..a.clone() }.listed(0)].concat();
    // An outer entry whose stored bytes are the next entry, header and all.
    let outer = Zipped::stored("docs/o", &a.local());
    let quoted = with_list(outer.local(), &[outer.listed(0), a.listed(36)].concat(), 2);
    let nested = zip(&[Zipped::deflated("inner", &zeros)]);
    let lying = Zipped { unpacked: 10, ..Zipped::deflated("docs/a", &zeros) };
    // A zstd frame that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2).
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    vec![
        no("bomb.tar.gz", one.clone().gz(), "more than 250 times its size"),
        no("bomb.tar.zst", one.zst(), "more than 250 times its size"),
        no("bomb.zip", zip_with(vec![Zipped::deflated("docs/zeros", &zeros)]), "more than 250 times its size"),
        no("bomb-behind-the-end.tar.gz", gzip(&[Tar::site().plain(), zeros.clone()].concat()), "more than 250 times"),
        no("bomb-that-says-10-bytes.zip", zip_with(vec![lying]), "lies about its size"),
        no("bomb-of-ignored-files.zip", zip_with(numbered.collect()), "the package is larger than"),
        no("huge-header.tar.gz", Tar::site().header(b"a", b'0', "77777777777").gz(), "is larger than"),
        no("huge-pax.tar.gz", Tar::site().header(b"a", b'x', "00077777777").gz(), "extended header is larger"),
        no(
            "huge-pax-size.tar.gz",
            Tar::site().pax("size", "999999999999").entry(b"a", b'0', b"").gz(),
            "is larger than",
        ),
        no("negative-size.tar.gz", Tar::site().header(b"a", b'0', "-0000000001").gz(), "no octal number"),
        no("many-files.tar.gz", many.gz(), "more than 10000 files"),
        no("many-files.zip", zip_with(small), "more than 10000 files"),
        no("overlap.zip", with_list(a.local(), &same, 2), "overlaps another entry"),
        no("quoted.zip", quoted, "overlaps another entry"),
        no("window.tar.zst", window, "can not be unpacked"),
        // What lies inside is a file like any other, and nobody unpacks it.
        yes("nested.tar.gz", Tar::of(&with("docs/bomb.zip", nested)).gz()),
    ]
}

/// Archives that were cut, mended, mixed or locked.
pub fn broken() -> Vec<Case> {
    let (gz, zst) = (Tar::site().gz(), Tar::site().zst());
    let whole = zip_with(vec![]);
    let lock = |flags: u16| zip_with(vec![Zipped { flags, ..Zipped::stored("docs/a", b"x") }]);
    let zip64 = zip_with(vec![Zipped { extra: vec![1, 0, 0, 0], ..Zipped::stored("docs/a", b"x") }]);
    let mut parts = whole.clone();
    let end = parts.len() - 22;
    parts[end + 16..end + 20].copy_from_slice(&[255; 4]);
    let mut flipped = gz.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    let global = Tar::default().entry(b"g", b'g', b"13 path=evil\n").gz();
    vec![
        no("cut.tar.gz", gz[..gz.len() / 2].to_vec(), "cut off"),
        no("cut-by-its-sum.tar.gz", gz[..gz.len() - 4].to_vec(), "can not be unpacked"),
        no("cut.tar.zst", zst[..zst.len() - 10].to_vec(), "cut off"),
        no("cut.zip", whole[..whole.len() - 30].to_vec(), "cut off"),
        no("no-end.tar.gz", gzip(&Tar::site().0), "cut off"),
        no("wrong-sum.tar.gz", flipped, "can not be unpacked"),
        no("trailing.tar.gz", [gz.clone(), b"more".to_vec()].concat(), "data after the end"),
        no("trailing.tar.zst", [zst, b"more".to_vec()].concat(), "data after the end"),
        no("trailing.zip", [whole.clone(), b"more".to_vec()].concat(), "data after the end"),
        no("leading.zip", [b"#!/bin/sh\n".to_vec(), whole.clone()].concat(), "no archive"),
        no("two-in-one.tar.gz", [gz.clone(), gz.clone()].concat(), "data after the end"),
        no("zip-after-tar.tar.gz", [gz, whole].concat(), "data after the end"),
        no(
            "zip-inside-the-padding.tar.gz",
            gzip(&[Tar::site().plain(), zip_with(vec![])].concat()),
            "data after the end",
        ),
        no("global-name.tar.gz", global, "renames its entries"),
        no("encrypted.zip", lock(1), "is encrypted"),
        no("strongly-encrypted.zip", lock(0x41), "is encrypted"),
        no("zip64-entry.zip", zip64, "zip64"),
        no("zip64-end.zip", parts, "zip64"),
        no("empty", Vec::new(), "an empty file"),
        no("text", b"hello".to_vec(), "no archive that is known here"),
        no("bare.tar", Tar::site().plain(), "not compressed"),
        no("no-manifest.zip", zip(&[Zipped::stored("assets.yaml", b"")]), "has no package.yaml"),
    ]
}

fn table(body: &[u8]) -> Files {
    with("templates/t/point.csv", [b"name,number,value type,point type\n", body].concat())
}

fn utf16(text: &str, little: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
}

/// Texts that are none, or cost more than they say. Stored, so that nothing is refused for its ratio.
pub fn texts() -> Vec<Case> {
    let yaml = |body: Vec<u8>| zip(&stored(&with("assets.yaml", body)));
    let csv = |body: &[u8]| zip(&stored(&table(body)));
    let assets = String::from_utf8(site("1").remove(1).1).unwrap();
    let header = "name,number,value type,point type\nP,counter0,int,ai\n";
    let point = |bytes: Vec<u8>| zip(&stored(&with("templates/t/point.csv", bytes)));
    let anchors: String = (0..46).map(|at| format!("&a{at} [")).collect();
    let anchors = format!("a: {anchors}{}x{}\n", "x,".repeat(300_000), "]".repeat(46));
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for at in 1..12 {
        let _ = writeln!(laughs, "a{at}: &a{at} [{}]", vec![format!("*a{}", at - 1); 10].join(","));
    }
    let twice: String = (0..150_000).map(|at| format!("u{at}: 1\n")).collect();
    let long_word = assets.replace("template: t,", &format!("template: {},", "t".repeat(20 << 20)));
    let many_devices: String = (0..20_000)
        .map(|at| format!("- {{ name: D{at}, product_key: pk, device_key: d{at}, device_secret: s, template: t, connection: c, address: \"{at}\" }}\n"))
        .collect();
    let mut crowd = table((0..1000).map(|at| format!("P{at},counter{at},int,ai\n")).collect::<String>().as_bytes());
    crowd.retain(|(name, _)| name != "assets.yaml");
    crowd.push(("assets.yaml".to_owned(), format!("devices:\n{many_devices}").into_bytes()));
    vec![
        no("yaml-aliases.zip", yaml(laughs.into()), "aliases repeat more than"),
        no("yaml-anchors.zip", yaml(anchors.into()), "more values than a package may have"),
        no("yaml-depth.zip", yaml([b"a: ".to_vec(), vec![b'['; 100_000]].concat()), "recursion limit exceeded"),
        no("yaml-giant-scalar.zip", yaml(long_word.into()), "is not known"),
        no(
            "yaml-keys-twice.zip",
            yaml(format!("{}{twice}", "k: 1\n".repeat(150_000)).into()),
            "key \"k\" stands twice",
        ),
        no("yaml-too-large.zip", yaml(vec![b' '; (64 << 20) + 1]), "larger than"),
        no("yaml-nul.zip", yaml(b"devices: [\"a\0b\"]\n".to_vec()), "the text holds a NUL"),
        no("yaml-utf-16.zip", yaml([vec![0xff, 0xfe], utf16(&assets, true)].concat()), "UTF-16"),
        no("yaml-utf-16-unmarked.zip", yaml(utf16(&assets, false)), "UTF-16"),
        no("yaml-windows-1252.zip", yaml(b"devices: # Z\xe4hler\n".to_vec()), "byte 0xe4 is not UTF-8"),
        no("yaml-escapes.zip", yaml(assets.replace("template: t", "template: \"\\e[2Jx\"").into()), "\\u{1b}[2Jx"),
        yes("yaml-byte-order-mark.zip", yaml(format!("\u{feff}{assets}").into())),
        no("points-of-all-devices.zip", zip(&stored(&crowd)), "points; 5000000 is the most"),
        no("csv-giant-cell.zip", csv(&vec![b'a'; 20 << 20]), "the line is longer than 65536 bytes"),
        no("csv-open-quote.zip", csv(&[b"\"".to_vec(), b"a,b\n".repeat(200_000)].concat()), "is never closed"),
        no("csv-million-columns.zip", csv(&vec![b','; 1_000_000]), "the line is longer than 65536 bytes"),
        no("csv-columns.zip", csv(&b"a,".repeat(300)), "more than 256 cells"),
        no("csv-blank-lines.zip", csv(&vec![b'\n'; 3_000_000]), "more than 2400000 lines"),
        no("csv-nul.zip", csv(b"P,coun\0ter0,int,ai\n"), "the line holds a NUL"),
        no("csv-only-carriage-returns.zip", point(header.replace('\n', "\r").into()), "carriage return only"),
        no("csv-windows-1252.zip", csv(b"Z\xe4hler,counter0,int,ai\n"), "not UTF-8"),
        no("csv-utf-16.zip", point([vec![0xff, 0xfe], utf16(header, true)].concat()), "UTF-16"),
        no("csv-utf-16-big.zip", point([vec![0xfe, 0xff], utf16(header, false)].concat()), "UTF-16"),
        no("csv-utf-16-unmarked.zip", point(utf16(header, true)), "UTF-16"),
        yes("csv-byte-order-mark.zip", point(format!("\u{feff}{header}").into())),
        yes("csv-windows-line-ends.zip", point(header.replace('\n', "\r\n").into())),
    ]
}

/// Manifests that do not fit what lies beside them.
pub fn manifests() -> Vec<Case> {
    let sealed = |list: &str| {
        let text = format!("format: 1\nname: site\nversion: 1.1.0\nfiles:\n{list}");
        zip(&stored(&with("package.yaml", text)))
    };
    let digest = "0".repeat(64);
    let all: String = site("1.1.0")
        .iter()
        .filter(|(name, _)| name != "package.yaml")
        .map(|(name, body)| format!("  {name}: {}\n", enos_edge::package::source::sha256(body)))
        .collect();
    let own = enos_edge::package::source::sha256(&site("1")[2].1);
    let many: String = (0..200_000).map(|at| format!("  f{at}.yaml: {digest}\n")).collect();
    vec![
        yes("sealed.zip", sealed(&all)),
        no("wrong-digest.zip", sealed(&all.replace(&own, &digest)), "was changed since the package was sealed"),
        no("missing-digest.zip", sealed(&all.replace(&format!("  models/m.yaml: {own}\n"), "")), "but not in its list"),
        no("missing-file.zip", sealed(&format!("{all}  models/n.yaml: {digest}\n")), "but not in the package"),
        no("short-digest.zip", sealed(&all.replace(&own, "abc")), "64 hex digits"),
        no("digest-twice.zip", sealed(&format!("{all}  models/m.yaml: {own}\n")), "stands twice"),
        no("own-digest.zip", sealed(&format!("{all}  package.yaml: {digest}\n")), "can not hold its own digest"),
        no("endless-list.zip", sealed(&many), "package.yaml: the file is larger than"),
        no(
            "newer-engine.zip",
            zip(&stored(&with("package.yaml", "format: 1\nname: site\nversion: 1.1.0\nengine: 99.0.0\n"))),
            "needs engine 99.0.0",
        ),
        no(
            "format-2.zip",
            zip(&stored(&with("package.yaml", "format: 2\nname: site\nversion: 1.1.0\n"))),
            "format \"2\" is not known",
        ),
        no(
            "older.zip",
            zip(&stored(&with("package.yaml", "format: 1\nname: site\nversion: 0.9.0\n"))),
            "is older than 1.",
        ),
    ]
}

/// Made differently from ours, and right.
pub fn unusual() -> Vec<Case> {
    let model = b"id: N\nmeasurepoints: [ { id: q, data_type: int } ]\n";
    let long = format!("models/{}.yaml", "n".repeat(150));
    let in_a_folder: Files = site("1.1.0").into_iter().map(|(name, body)| (format!("top/{name}"), body)).collect();
    let padded = [Tar::site().plain(), vec![0; 20 * 512]].concat();
    vec![
        yes(
            "gnu-long-name.tar.gz",
            Tar::site().entry(b"L", b'L', format!("{long}\0").as_bytes()).entry(b"cut", b'0', model).gz(),
        ),
        yes("pax-name.tar.gz", Tar::site().pax("path", &long).pax("mtime", "1.5").entry(b"cut", b'0', model).gz()),
        yes("top-folder.zip", zip(&stored(&in_a_folder))),
        yes("padded.tar.gz", gzip(&padded)),
        yes("plain.tar.zst", Tar::site().zst()),
        yes(
            "deflated.zip",
            zip(&site("1.1.0").iter().map(|(name, body)| Zipped::deflated(name, body)).collect::<Vec<_>>()),
        ),
        yes(
            "editors-traces.zip",
            zip_with(vec![Zipped::stored("__MACOSX/._m.yaml", b"x"), Zipped::stored("models/.m.swp", b"x")]),
        ),
    ]
}

pub fn all() -> Vec<Case> {
    [escapes(), doubles(), bombs(), broken(), texts(), manifests(), unusual()].into_iter().flatten().collect()
}
