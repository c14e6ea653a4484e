//! The whole way of an update: the cloud's offer or a person's file, download, proof, slot, restart, trial, and what the
//! cloud is told of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

use crate::gateway::{Home, Make, PATIENCE};
use crate::site::Site;
use enos_edge::store::{Disk as _, RealDisk};
use enos_edge::update::manifest::architecture;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Gives out the files of one folder, whole. It ends with the test.
pub struct Files {
    folder: PathBuf,
    address: SocketAddr,
}

impl Files {
    pub fn serve(folder: &Path) -> Files {
        std::fs::create_dir_all(folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, root) = (listener.local_addr().unwrap(), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever hangs up, as a killed gateway does, asks again.
                let _ = give(stream, &root);
            }
        });
        Files { folder: folder.to_owned(), address }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// As the cloud pushes it.
    pub fn offer(&self, name: &str, version: &str) -> Json {
        let path = self.path(name);
        json!({
            "version": version, "signMethod": "sha256", "sign": RealDisk.digest(&path).unwrap(),
            "fileUrl": format!("http://{}/{name}", self.address), "fileSize": path.metadata().unwrap().len(),
        })
    }
}

fn give(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let bytes = std::fs::read(root.join(name))?;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
    stream.write_all(&bytes)
}

impl Home {
    fn build(&self, kind: &[&str], payload: &Path, trusted: bool, output: &Path) {
        let key = self.folder.join("keys").join(if trusted { "own" } else { "stranger" });
        let mut command = Command::new(self.program());
        command.args(["update", "build"]).args(kind).arg("--binary").arg(payload);
        let built = command.arg("--key").arg(key).arg("--output").arg(output).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// An update file of an engine, as its builder would make it.
    pub fn engine_file(&self, make: &Make, output: &Path) {
        let payload = output.with_extension("engine");
        self.engine(make, &payload);
        self.build(&["--kind", "engine"], &payload, true, output);
        std::fs::remove_file(payload).unwrap();
    }

    pub fn firmware_file(&self, version: &str, trusted: bool, output: &Path) {
        let payload = output.with_extension("image");
        std::fs::write(&payload, format!("firmware {version}")).unwrap();
        let kind = ["--kind", "firmware", "--target", "example", "--version", version];
        self.build(&kind, &payload, trusted, output);
    }

    /// The packaged example as a target, with a root of its own.
    pub fn firmware_target(&self) {
        use std::os::unix::fs::PermissionsExt;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/firmware.d/example");
        let (folder, root) = (self.folder.join("firmware.d"), self.folder.join("board"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut script = "#!/bin/sh\n".to_owned();
        writeln!(script, "FIRMWARE_ROOT='{}' exec '{}' \"$@\"", root.display(), example.display()).unwrap();
        let path = folder.join("example");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// As a person types it, beside the running gateway.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(words).arg("--config").arg(self.folder.join("edge.yaml"));
        command
    }
}

/// What the cloud knows of the gateway's updates.
#[derive(Debug)]
pub struct Known {
    pub version: Option<String>,
    /// Since the offer.
    pub progress: Vec<(i32, String)>,
}

impl Known {
    fn end(&self) -> Option<&(i32, String)> {
        self.progress.last().filter(|(step, _)| *step < 0 || *step == 100)
    }
}

impl Site {
    fn known(&self, from: usize) -> Known {
        let gateway = &self.parts().site.gateway;
        let ota = self.parts().cloud.ota(&gateway.product_key, &gateway.device_key).unwrap();
        let progress = ota.progress.into_iter().skip(from).map(|(step, words)| (step.parse().unwrap(), words));
        Known { version: ota.version, progress: progress.collect() }
    }

    pub async fn told_version(&self, version: &str) {
        let end = Instant::now() + PATIENCE;
        while self.known(0).version.as_deref() != Some(version) {
            assert!(Instant::now() < end, "version {version} was never told: {:?}", self.known(0));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The cloud pushes an offer and hears how it ends.
    pub async fn push(&self, offer: Json) -> Known {
        let (began, from) = (Instant::now(), self.known(0).progress.len());
        let gateway = &self.parts().site.gateway;
        let device = (gateway.product_key.as_str(), gateway.device_key.as_str());
        self.parts().cloud.upgrade(device, offer.clone(), Duration::from_secs(10)).await.unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            let known = self.known(from);
            if let Some((step, words)) = known.end() {
                println!(
                    "  offer of {}: {step} {words:?} after {:.1} s",
                    offer["version"],
                    began.elapsed().as_secs_f64()
                );
                return known;
            }
            assert!(Instant::now() < end, "no end of {offer}: {known:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An offer that comes to nothing, for this reason; what ran goes on.
    pub async fn refuses(&self, offer: Json, step: i32, why: &str) {
        let before = self.running();
        let known = self.push(offer).await;
        let (told, words) = known.end().unwrap();
        assert!(*told == step && words.contains(why), "expected {step} {why:?}: {known:?}");
        assert_eq!((self.running(), known.version), (before.clone(), Some(before.1)));
    }

    /// An offer that is carried out.
    pub async fn takes(&self, offer: Json) {
        let known = self.push(offer).await;
        let steps: Vec<i32> = known.progress.iter().map(|(step, _)| *step).collect();
        assert!(steps.is_sorted() && steps.last() == Some(&100), "{known:?}\n{}", self.log());
    }
}

/// An engine of another machine's kind would be refused; this one is for here.
pub fn named(version: &str) -> String {
    format!("enos-edge-{version}-{}.tar.zst", architecture())
}
