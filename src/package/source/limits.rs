//! PURE. How large a package may be. Every number is checked while bytes stream, never read from a header.

use crate::model::progress::Progress;
use std::path::PathBuf;

/// Caps of one package. The defaults fit a million-row point table with room to spare.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Files, folders not counted.
    pub files: usize,
    /// Bytes of one file after unpacking.
    pub file_bytes: u64,
    /// Bytes of all files after unpacking.
    pub total_bytes: u64,
    /// Bytes of the archive itself.
    pub archive_bytes: u64,
    /// Unpacked bytes for each packed byte, once [`Limits::RATIO_FLOOR`] is passed.
    pub ratio: u64,
    /// Bytes of a file that is read as one text (YAML, mapping tables).
    pub text_bytes: u64,
    /// Components of a path.
    pub depth: usize,
    /// Rows of one point table, and about as many of all of them.
    pub rows: usize,
    /// Values of all YAML files.
    pub values: usize,
    /// Points of all connected devices.
    pub points: u64,
    /// Where archives are unpacked; `None` is the system's folder for temporary files.
    pub staging: Option<PathBuf>,
    /// It ran here before and is needed: where the disk has no room it is unpacked to memory.
    pub needed: bool,
    /// Told what is unpacked and read.
    pub progress: Progress,
}

impl Limits {
    /// Small archives of repetitive text compress very well; below this no ratio is computed.
    pub const RATIO_FLOOR: u64 = 8 << 20;
    /// Bytes that stay free on the disk an archive is unpacked to.
    pub const RESERVE: u64 = 16 << 20;
    /// Longest name of a file in a package, with its folders.
    pub const NAME_BYTES: usize = 255;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            files: 10_000,
            file_bytes: 256 << 20,
            total_bytes: 512 << 20,
            archive_bytes: 256 << 20,
            // Point tables of one number after the other reach 60:1 (zstd -19); deflate bombs 1000:1.
            ratio: 250,
            // A file of 100,000 devices has about 25 MB; a hostile one shall not take all memory.
            text_bytes: 64 << 20,
            depth: 8,
            rows: 1_200_000,
            // 100,000 devices with a dozen keys each are 2.5 million; a value takes up to 200 bytes on its way.
            values: 12_000_000,
            // Live values, plans and upload memory of a point take some 200 bytes while it runs.
            points: 5_000_000,
            staging: None,
            needed: false,
            progress: Progress::default(),
        }
    }
}
