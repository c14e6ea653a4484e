//! A gateway's updates with all they stand on, and a disk with which it dies.

use super::*;

/// Dies with its gateway after so many steps.
pub(super) struct Dying {
    pub(super) left: AtomicUsize,
    pub(super) dead: Notify,
}

impl Dying {
    pub(super) fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| {
            self.dead.notify_one();
            io::Error::other("killed")
        })
    }
}

macro_rules! dying {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $back:ty;)*) => {
        impl Disk for Dying {
            $(fn $name(&self, $($argument: $kind),*) -> io::Result<$back> { self.step()?; RealDisk.$name($($argument),*) })*
            fn read(&self, path: &Path) -> io::Result<Vec<u8>> { RealDisk.read(path) }
            fn digest(&self, path: &Path) -> io::Result<String> { RealDisk.digest(path) }
            fn names(&self, path: &Path) -> io::Result<Vec<String>> { RealDisk.names(path) }
        }
    };
}

dying! {
    make_folder(path: &Path) -> ();
    write(path: &Path, bytes: &[u8]) -> ();
    sync(path: &Path) -> ();
    rename(from: &Path, to: &Path) -> ();
    remove(path: &Path) -> ();
    append(path: &Path, bytes: &[u8]) -> ();
    copy(from: &Path, to: &Path) -> ();
    sync_folder(path: &Path) -> ();
    make_executable(path: &Path) -> ();
}

/// A folder that goes with the bench, or is another's.
pub(super) enum Home {
    Own(tempfile::TempDir),
    Theirs(PathBuf),
}

impl Home {
    pub(super) fn path(&self) -> &Path {
        match self {
            Home::Own(folder) => folder.path(),
            Home::Theirs(folder) => folder,
        }
    }
}

pub(super) struct Bench {
    pub(super) home: Home,
    pub(super) key: SigningKey,
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) cloud: Arc<Cloud>,
    pub(super) restart: Arc<Notify>,
    pub(super) config: UpdateConfig,
}

pub(super) struct Gateway {
    pub(super) updates: Updates,
    pub(super) task: tokio::task::JoinHandle<()>,
    pub(super) _stop: watch::Sender<bool>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    pub(super) fn new() -> Bench {
        // Hundreds of fsyncs a story; whether they are made is tested with a disk whose power is cut.
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        Bench::at(home)
    }

    /// Its key is made there.
    pub(super) fn at(home: tempfile::TempDir) -> Bench {
        trust::generate(&home.path().join("k")).unwrap();
        let bench = Bench::in_folder(home.path());
        Bench { home: Home::Own(home), ..bench }
    }

    /// Where another one stands already, in another process.
    pub(super) fn in_folder(folder: &Path) -> Bench {
        let home = Home::Theirs(folder.to_owned());
        let key = SigningKey::read(&home.path().join("k")).unwrap();
        let board = Board { running: "1.0.0".into(), ..Board::default() };
        let config = UpdateConfig {
            conditions: home.path().join("conditions.d"),
            cleartext: true,
            hosts: vec!["127.0.0.1".into()],
            reserve_bytes: 0,
            ..UpdateConfig::default()
        };
        let (board, cloud, restart) = (Arc::new(Mutex::new(board)), Arc::default(), Arc::default());
        Bench { home, key, board, cloud, restart, config }
    }

    pub(super) fn start_on(&self, disk: Arc<dyn Disk>) -> Gateway {
        let (stop, stopped) = watch::channel(false);
        let (updates, task) = runner::start(self.ports(disk), stopped);
        Gateway { updates, task, _stop: stop }
    }

    pub(super) fn ports(&self, disk: Arc<dyn Disk>) -> Ports {
        Ports {
            config: self.config.clone(),
            shelf: Shelf::new(disk, &self.home.path().join("state")),
            keys: Ok(vec![self.key.public()]),
            ear: Arc::clone(&self.cloud) as _,
            around: Arc::new(Here { board: Arc::clone(&self.board), restart: Arc::clone(&self.restart) }),
            gateway: Some(("p".into(), "gw".into())),
            identity: None,
            ask: None,
            warned: Warned::default(),
        }
    }

    pub(super) fn start(&self) -> Gateway {
        self.start_on(Arc::new(RealDisk))
    }

    pub(super) fn file(&self, version: &str) -> PathBuf {
        let path = self.home.path().join(format!("{version}.tar.gz"));
        if !path.exists() {
            let payload = self.home.path().join(format!("{version}.bin"));
            std::fs::write(&payload, payload_of(version)).unwrap();
            let kind = Kind::Firmware { target: "rauc".into(), device: None };
            let version = version.parse().unwrap();
            let wanted = Wanted { kind, name: "panel", version, replaces_from: None, payload: &payload };
            build(&wanted, &self.key, &path, &limits(1 << 20, None)).unwrap();
        }
        path
    }

    pub(super) fn offer(&self, version: &str, device: &str, url: &str) -> Offer {
        let bytes = std::fs::read(self.file(version)).unwrap();
        Offer {
            product_key: "p".into(),
            device_key: device.into(),
            version: version.into(),
            method: Method::Sha256,
            sign: crate::store::sha256(&bytes),
            url: url.into(),
            size: bytes.len() as u64,
        }
    }
}

pub(super) fn payload_of(version: &str) -> Vec<u8> {
    format!("firmware {version} ").repeat(2000).into_bytes()
}

pub(super) async fn until(gateway: &Gateway, fits: impl Fn(&Json) -> bool) -> Json {
    let found = async {
        loop {
            let status = gateway.updates.status();
            if fits(&status["job"]) {
                return status["job"].clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    found.unwrap_or_else(|_| panic!("{}", gateway.updates.status()))
}

pub(super) async fn end(gateway: &Gateway) -> Json {
    until(gateway, |job| job["end"] == true).await
}
