//! What the launcher reads of `edge.yaml`: where the state is, and whose engines it starts. Faults elsewhere in the file,
//! and keys that only a newer engine knows, are the engine's affair.

use super::UpdateConfig;
use super::read::{self, KEYS, folder, text};
use super::update::owner;
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields, scalar};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Enough to start an engine.
#[derive(Clone, Debug)]
pub struct LaunchConfig {
    pub state_dir: PathBuf,
    /// Its keys and their owner are read; the rest is not.
    pub update: UpdateConfig,
}

/// # Errors
/// When the file can not be read, or not be understood where it says where the state is.
pub fn launch(path: &Path, state_dir: Option<PathBuf>) -> Result<LaunchConfig, Vec<Diagnostic>> {
    let file: Arc<str> = path.display().to_string().into();
    let text = text(path, &file)?;
    let (node, mut faults) = read::document(&file, &text);
    let mut unheeded = Faults::new();
    let Some(node) = node else { return Err(faults.finish()) };
    let Some(fields) = Fields::open(&file, &node, "configuration", KEYS, &mut unheeded) else {
        return Err(unheeded.finish());
    };
    let state_dir = match state_dir {
        Some(dir) => Some(dir),
        None => read::state_dir_of(&fields, folder(path), &mut faults),
    };
    let update = fields.node("update").and_then(|node| Fields::open(&file, node, "update", &["keys"], &mut unheeded));
    let keys = update.map(|update| {
        let nodes = update.list("keys", &mut unheeded).iter();
        nodes.filter_map(|node| scalar(&file, node, "keys", &mut unheeded)).collect::<Vec<_>>()
    });
    let keys = keys.unwrap_or_default().into_iter().map(|key| folder(path).join(key.text)).collect();
    let update = UpdateConfig { keys, owner: owner(&file), ..UpdateConfig::default() };
    state_dir.map(|state_dir| LaunchConfig { state_dir, update }).ok_or_else(|| faults.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_engine_knows_does_not_keep_it_from_starting() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("edge.yaml");
        std::fs::write(&file, "state_dir: s\nmoon: full\nupdate: { keys: [a.pub, /k], sun: 1 }\ncloud: 7\n").unwrap();
        let found = launch(&file, None).unwrap();
        assert_eq!(found.state_dir, home.path().join("s"));
        assert_eq!(found.update.keys, [home.path().join("a.pub"), "/k".into()]);
        // As the package installs it.
        std::fs::write(&file, "# state_dir: x\n").unwrap();
        assert_eq!(launch(&file, None).unwrap().state_dir, Path::new("/var/lib/enos-edge"));
        std::fs::write(&file, "state_dir: [ a ]\nupdate: { keys: 1 }\n").unwrap();
        assert!(launch(&file, None).unwrap_err()[0].problem.contains("state_dir"));
        assert!(launch(&file, Some("/s".into())).unwrap().update.keys.is_empty());
    }
}
