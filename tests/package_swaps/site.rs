//! Packages of the stories: a line that never changes, and one that does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Devices on the line that never changes.
pub const KEPT: usize = 4;
/// Points of each device.
pub const POINTS: usize = 20;

/// What a package of the stories is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Make {
    /// Devices before the kept ones, so that the numbers of those shift.
    pub before: usize,
    /// Period of the line that changes.
    pub period_ms: u32,
    /// So many points of each device on the changing line can not be read.
    pub broken: usize,
    /// A measurement point has another type.
    pub retyped: bool,
}

/// Writes the package and answers its folder.
pub fn write(home: &Path, version: &str, make: Make) -> PathBuf {
    let folder = home.join(format!("site-{version}"));
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("package.yaml", &format!("format: 1\nname: story\nversion: {version}\n"));
    let mut assets = "devices:\n".to_owned();
    let mut device = |name: &str, template: &str, connection: &str| {
        let _ = writeln!(
            assets,
            "  - {{ name: {name}, product_key: pk, device_key: {name}, device_secret: s, template: {template}, connection: {connection}, address: {name} }}"
        );
    };
    (0..make.before).for_each(|at| device(&format!("other-{at}"), "other", "other"));
    (0..KEPT).for_each(|at| device(&format!("kept-{at}"), "kept", "kept"));
    put("assets.yaml", &assets);
    put("connections/kept.yaml", "name: kept\nprotocol: virtual\nprotocol.sys: { scan_period_ms: 20 }\n");
    if make.before > 0 {
        let period = make.period_ms.max(1);
        put(
            "connections/other.yaml",
            &format!("name: other\nprotocol: virtual\nprotocol.sys: {{ scan_period_ms: {period} }}\n"),
        );
    }
    let kind = |at: usize| if make.retyped && at == 7 { "double" } else { "int" };
    let points: String = (0..POINTS).map(|at| format!("  - {{ id: p{at}, data_type: {} }}\n", kind(at))).collect();
    put("models/m.yaml", &format!("id: M\nmeasurepoints:\n{points}"));
    template(&put, "kept", 0, 0);
    if make.before > 0 {
        template(&put, "other", 1_000_000, make.broken);
    }
    folder
}

/// Counters that begin at `low`; a broken one never fits its type.
fn template(put: &impl Fn(&str, &str), name: &str, low: u32, broken: usize) {
    put(&format!("templates/{name}/template.yaml"), "model: M\n");
    let mut table = "name,number,value type,point type,coefficient,base value,alias,low,high\n".to_owned();
    let mut mapping = "mapping:\n".to_owned();
    for at in 0..POINTS {
        let (kind, low) = if at < broken { ("short", 900_000_000) } else { ("int", low) };
        let _ = writeln!(table, "P{at},counter{at},{kind},ai,1,0,,{low},1000000000");
        let _ = writeln!(mapping, "  - {{ point: p{at}, mapping: ai.counter{at} }}");
    }
    put(&format!("templates/{name}/point.csv"), &table);
    put(&format!("templates/{name}/mapping.yaml"), &mapping);
}
