//! Secrets the cloud gave to sub-devices, in `device-secrets/` of the state folder: one small file for each answer that
//! brought some, later ones win. So what is stored is never written over, and a torn file costs its own secrets only.

use crate::model::{Secret, SecretShelf};
use crate::store::{self, Disk};
use driver::Answer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// More files than this are made into few when the daemon starts.
const FILES: usize = 64;
/// Secrets in one file: far below what the disk reads as one identity file.
const IN_ONE: usize = 500;

type Keys = (String, String);

/// The open folder, with what is in it.
pub struct DeviceSecrets {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    secrets: BTreeMap<Keys, Secret>,
    last: u32,
}

#[derive(Serialize, Deserialize)]
struct Row {
    product_key: String,
    device_key: String,
    device_secret: String,
}

impl DeviceSecrets {
    /// Reads what there is; the words are for a person and name files that can not be read.
    #[must_use]
    pub fn open(state_dir: &Path, disk: Arc<dyn Disk>) -> (DeviceSecrets, Vec<String>) {
        let folder = state_dir.join("device-secrets");
        let (mut known, mut faults) = (Known::default(), Vec::new());
        let mut numbers: Vec<u32> = std::fs::read_dir(&folder)
            .map(|entries| entries.flatten().filter_map(|e| number_of(&e.file_name().to_string_lossy())).collect())
            .unwrap_or_default();
        numbers.sort_unstable();
        let mut good = Vec::new();
        for number in &numbers {
            known.last = *number;
            match load(disk.as_ref(), &folder.join(name(*number))) {
                Ok(rows) => {
                    good.push(*number);
                    known.secrets.extend(rows);
                }
                Err(why) => {
                    faults.push(format!("{}: {why}; its secrets are left out", folder.join(name(*number)).display()))
                }
            }
        }
        let shelf = DeviceSecrets { disk, folder, known: Arc::new(Mutex::new(known)) };
        if good.len() > FILES
            && let Err(why) = shelf.gather(&good)
        {
            faults.push(format!("{}: the files could not be gathered: {why}", shelf.folder.display()));
        }
        (shelf, faults)
    }

    /// Few files in the place of many. The old ones go last, so a power cut leaves some secrets twice at most.
    fn gather(&self, old: &[u32]) -> std::io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<(Keys, Secret)> = known.secrets.iter().map(|(k, s)| (k.clone(), s.clone())).collect();
        for some in all.chunks(IN_ONE) {
            known.last += 1;
            write(self.disk.as_ref(), &self.folder, known.last, some)?;
        }
        for number in old {
            self.disk.remove(&self.folder.join(name(*number)))?;
        }
        self.disk.sync_folder(&self.folder)
    }
}

impl SecretShelf for DeviceSecrets {
    fn find(&self, product_key: &str, device_key: &str) -> Option<Secret> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.secrets.get(&(product_key.to_owned(), device_key.to_owned())).cloned()
    }

    fn put(&self, secrets: Vec<(String, String, Secret)>) -> Answer<'_, Result<(), String>> {
        let (disk, folder, known) = (Arc::clone(&self.disk), self.folder.clone(), Arc::clone(&self.known));
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let rows: Vec<(Keys, Secret)> = secrets.into_iter().map(|(p, d, s)| ((p, d), s)).collect();
                for some in rows.chunks(IN_ONE) {
                    known.last += 1;
                    write(disk.as_ref(), &folder, known.last, some)
                        .map_err(|error| format!("{}: {error}", folder.display()))?;
                    known.secrets.extend(some.iter().cloned());
                }
                Ok(())
            });
            written.await.unwrap_or_else(|error| Err(error.to_string()))
        })
    }
}

fn name(number: u32) -> String {
    format!("{number:08}.json")
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(".json")?.parse().ok()
}

fn load(disk: &dyn Disk, path: &Path) -> Result<Vec<(Keys, Secret)>, String> {
    let bytes = disk.read(path).map_err(|error| error.to_string())?;
    let rows: Vec<Row> = serde_json::from_slice(&bytes).map_err(|_| "is torn".to_owned())?;
    Ok(rows.into_iter().map(|row| ((row.product_key, row.device_key), Secret::new(row.device_secret))).collect())
}

fn write(disk: &dyn Disk, folder: &Path, number: u32, rows: &[(Keys, Secret)]) -> std::io::Result<()> {
    let row = |((product_key, device_key), secret): &(Keys, Secret)| Row {
        product_key: product_key.clone(),
        device_key: device_key.clone(),
        device_secret: secret.reveal().to_owned(),
    };
    let rows: Vec<Row> = rows.iter().map(row).collect();
    store::replace(disk, folder, &name(number), &serde_json::to_vec(&rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;
    use std::os::unix::fs::PermissionsExt;

    fn open(at: &Path) -> (DeviceSecrets, Vec<String>) {
        DeviceSecrets::open(at, Arc::new(RealDisk))
    }

    fn row(n: usize, secret: &str) -> (String, String, Secret) {
        ("p".to_owned(), format!("d{n}"), Secret::new(secret.to_owned()))
    }

    #[tokio::test]
    async fn secrets_survive_and_the_later_one_wins() {
        let home = tempfile::tempdir().unwrap();
        let (shelf, faults) = open(home.path());
        assert!(faults.is_empty() && shelf.find("p", "d1").is_none());
        shelf.put(vec![row(1, "old"), row(2, "two")]).await.unwrap();
        shelf.put(vec![row(1, "new")]).await.unwrap();
        let (shelf, faults) = open(home.path());
        assert!(faults.is_empty());
        assert_eq!(shelf.find("p", "d1").unwrap().reveal(), "new");
        assert_eq!(shelf.find("p", "d2").unwrap().reveal(), "two");
        let folder = home.path().join("device-secrets");
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for file in std::fs::read_dir(&folder).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn a_torn_file_costs_its_own_secrets_and_is_named() {
        let home = tempfile::tempdir().unwrap();
        let (shelf, _) = open(home.path());
        shelf.put(vec![row(1, "one")]).await.unwrap();
        shelf.put(vec![row(2, "two")]).await.unwrap();
        std::fs::write(home.path().join("device-secrets/00000002.json"), b"[{\"product").unwrap();
        let (shelf, faults) = open(home.path());
        assert!(faults[0].contains("00000002.json") && faults.len() == 1, "{faults:?}");
        assert_eq!(shelf.find("p", "d1").unwrap().reveal(), "one");
        shelf.put(vec![row(3, "three")]).await.unwrap();
        assert_eq!(open(home.path()).0.find("p", "d3").unwrap().reveal(), "three");
    }

    #[tokio::test]
    async fn many_files_become_few_and_nothing_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let (shelf, _) = open(home.path());
        for n in 0..70 {
            shelf.put(vec![row(n, "s")]).await.unwrap();
        }
        drop(open(home.path()));
        assert_eq!(std::fs::read_dir(home.path().join("device-secrets")).unwrap().count(), 1);
        let (shelf, _) = open(home.path());
        assert!((0..70).all(|n| shelf.find("p", &format!("d{n}")).is_some()));
    }
}
