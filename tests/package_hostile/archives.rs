//! Archives written by hand, byte by byte: each part can be told wrong.

use std::io::Write;

pub type Files = Vec<(String, Vec<u8>)>;

/// A small site that passes its check.
pub fn site(version: &str) -> Files {
    let mut files = Files::new();
    let mut put = |name: &str, text: &str| files.push((name.to_owned(), text.as_bytes().to_vec()));
    put("package.yaml", &format!("format: 1\nname: site\nversion: {version}\n"));
    put(
        "assets.yaml",
        "devices:\n  - { name: D, product_key: pk, device_key: d, device_secret: s, template: t, connection: c, address: \"1\" }\n",
    );
    put("models/m.yaml", "id: M\nmeasurepoints:\n  - { id: p, data_type: int }\n");
    put("connections/c.yaml", "name: c\nprotocol: virtual\nprotocol.sys: { scan_period_ms: 50 }\n");
    put("templates/t/template.yaml", "model: M\n");
    put("templates/t/point.csv", "name,number,value type,point type\nP,counter0,int,ai\n");
    put("templates/t/mapping.yaml", "mapping: { p: ai.counter0 }\n");
    files
}

/// The site with one file more, or another one in its place.
pub fn with(name: &str, body: impl Into<Vec<u8>>) -> Files {
    let mut files = site("1.1.0");
    files.retain(|(known, _)| known != name);
    files.push((name.to_owned(), body.into()));
    files
}

/// A tar, entry after entry.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn of(files: &Files) -> Tar {
        files.iter().fold(Tar::default(), |tar, (name, body)| tar.entry(name.as_bytes(), b'0', body))
    }

    /// The site, then what the case is about.
    pub fn site() -> Tar {
        Tar::of(&site("1.1.0"))
    }

    pub fn entry(self, name: &[u8], kind: u8, body: &[u8]) -> Tar {
        self.header(name, kind, &format!("{:011o}", body.len())).body(body)
    }

    pub fn header(mut self, name: &[u8], kind: u8, size: &str) -> Tar {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[124..124 + size.len()].copy_from_slice(size.as_bytes());
        block[156] = kind;
        if matches!(kind, b'1' | b'2') {
            block[157..168].copy_from_slice(b"/etc/passwd");
        }
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self
    }

    fn body(mut self, body: &[u8]) -> Tar {
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn pax(self, key: &str, value: &str) -> Tar {
        let len = key.len() + value.len() + 3;
        let len = len + (len + 3).to_string().len();
        self.entry(b"pax", b'x', format!("{len} {key}={value}\n").as_bytes())
    }

    pub fn plain(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    pub fn gz(self) -> Vec<u8> {
        gzip(&self.plain())
    }

    pub fn zst(self) -> Vec<u8> {
        zstd::bulk::compress(&self.plain(), 3).unwrap()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// One entry of a zip.
#[derive(Clone)]
pub struct Zipped {
    pub name: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    pub packed: Vec<u8>,
    pub unpacked: u32,
    pub mode: u32,
    pub extra: Vec<u8>,
}

impl Zipped {
    pub fn stored(name: &str, body: &[u8]) -> Zipped {
        let mut crc = flate2::Crc::new();
        crc.update(body);
        let unpacked = u32::try_from(body.len()).unwrap();
        let (name, packed) = (name.as_bytes().to_vec(), body.to_vec());
        Zipped { name, flags: 0, method: 0, crc: crc.sum(), packed, unpacked, mode: 0o100_644, extra: Vec::new() }
    }

    pub fn deflated(name: &str, body: &[u8]) -> Zipped {
        let mut to = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        to.write_all(body).unwrap();
        Zipped { method: 8, packed: to.finish().unwrap(), ..Zipped::stored(name, body) }
    }

    fn fields(&self) -> Vec<u8> {
        let halves = [20, self.flags, self.method, 0, 33].map(u16::to_le_bytes).concat();
        let packed = u32::try_from(self.packed.len()).unwrap();
        [halves, [self.crc, packed, self.unpacked].map(u32::to_le_bytes).concat()].concat()
    }

    pub fn local(&self) -> Vec<u8> {
        let name = u16::try_from(self.name.len()).unwrap().to_le_bytes();
        [b"PK\x03\x04", &self.fields()[..], &name, &[0, 0], &self.name, &self.packed].concat()
    }

    pub fn listed(&self, offset: usize) -> Vec<u8> {
        let lens = [self.name.len(), self.extra.len(), 0, 0, 0].map(|len| u16::try_from(len).unwrap().to_le_bytes());
        let places = [self.mode << 16, u32::try_from(offset).unwrap()].map(u32::to_le_bytes).concat();
        [b"PK\x01\x02\x14\x03", &self.fields()[..], &lens.concat(), &places, &self.name, &self.extra].concat()
    }
}

pub fn zip(entries: &[Zipped]) -> Vec<u8> {
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for entry in entries {
        list.extend(entry.listed(out.len()));
        out.extend(entry.local());
    }
    with_list(out, &list, entries.len())
}

pub fn with_list(mut out: Vec<u8>, list: &[u8], count: usize) -> Vec<u8> {
    let offset = u32::try_from(out.len()).unwrap();
    let count = u16::try_from(count).unwrap().to_le_bytes();
    out.extend(list);
    out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count].concat());
    out.extend([u32::try_from(list.len()).unwrap(), offset].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}

/// The site's files, then what the case is about.
pub fn zip_with(more: Vec<Zipped>) -> Vec<u8> {
    zip(&[stored(&site("1.1.0")), more].concat())
}

pub fn stored(files: &Files) -> Vec<Zipped> {
    files.iter().map(|(name, body)| Zipped::stored(name, body)).collect()
}
