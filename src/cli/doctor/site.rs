//! The package that runs, or would run next, without its secrets.

use crate::config::Config;
use crate::model::Site;
use crate::package::{self, generations};
use crate::south::protocols::Protocols;
use crate::store::RealDisk;

/// Nothing when there is none, or it has faults: another probe tells them.
#[must_use]
pub fn current(config: &Config) -> Option<Site> {
    let kept = generations::current(&RealDisk, &config.state_dir).ok().flatten().map(|(_, path)| path);
    let path = kept.or_else(|| config.package.clone())?;
    package::check(&path, &Protocols::new(&config.state_dir).list()).site
}
