//! `package_trust:` of `edge.yaml`: whose packages are taken.

use crate::yaml::fields::{Faults, Fields, scalar};
use std::path::{Path, PathBuf};

/// Whose packages are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageTrustConfig {
    /// Public keys, or folders of `*.pub`; those in `STATE/trust` come on top.
    pub keys: Vec<PathBuf>,
    pub require: RequireSignature,
    /// An older version of the same package is taken without being forced.
    pub allow_downgrade: bool,
}

/// When a package must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireSignature {
    /// Once a key is installed.
    #[default]
    Auto,
    Always,
    Never,
}

pub(super) const KEYS: &[&str] = &["keys", "require", "allow_downgrade"];

const REQUIRE: &[(&str, RequireSignature)] =
    &[("auto", RequireSignature::Auto), ("always", RequireSignature::Always), ("never", RequireSignature::Never)];

pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> PackageTrustConfig {
    let nodes = fields.list("keys", faults);
    let keys = nodes.iter().filter_map(|node| scalar(fields.file, node, "keys", faults));
    PackageTrustConfig {
        keys: keys.map(|text| folder.join(text.text)).collect(),
        require: fields.word("require", REQUIRE, faults).unwrap_or_default(),
        allow_downgrade: fields.flag("allow_downgrade", false, faults),
    }
}
