//! A folder with a gateway's state in it and things beside it that nobody may touch.

use super::archives::{Files, site};
use enos_edge::config::{self, Config};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub struct Sandbox {
    home: tempfile::TempDir,
    pub config: Config,
}

/// Every path with what it is: the digest of a file, where a link leads, "folder", or what else.
pub type Listing = BTreeMap<PathBuf, String>;

impl Sandbox {
    /// With version 1.0.0 of the site installed.
    pub fn new() -> Sandbox {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("edge.yaml");
        std::fs::write(&file, format!("state_dir: {}\n", home.path().join("state").display())).unwrap();
        std::fs::create_dir(home.path().join("beside")).unwrap();
        std::fs::write(home.path().join("beside/owned"), "not yet").unwrap();
        std::fs::write(home.path().join("owned"), "not yet").unwrap();
        let config = config::read(&file).unwrap();
        let sandbox = Sandbox { home, config };
        let first = folder(&sandbox.path("first"), &site("1.0.0"));
        enos_edge::app::install_offline(&sandbox.config, &first, false).unwrap();
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The archive, put where a person would.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Everything but the line that a refusal adds to the history.
    pub fn listing(&self) -> Listing {
        let mut all = Listing::new();
        list(self.home.path(), self.home.path(), &mut all);
        all.retain(|path, _| path != Path::new("state/packages/history"));
        all
    }
}

pub fn list(top: &Path, folder: &Path, into: &mut Listing) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let what = if kind.is_dir() {
            list(top, &path, into);
            "folder".to_owned()
        } else if kind.is_file() {
            enos_edge::package::source::sha256(&std::fs::read(&path).unwrap())
        } else {
            format!("{kind:?} {:?}", std::fs::read_link(&path).ok())
        };
        into.insert(path.strip_prefix(top).unwrap().to_owned(), what);
    }
}

pub fn folder(path: &Path, files: &Files) -> PathBuf {
    for (name, body) in files {
        let file = path.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, body).unwrap();
    }
    path.to_owned()
}
