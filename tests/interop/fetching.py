"""A gateway that fetches packages, run from outside, and the packages it fetches."""
import hashlib
import json
import pathlib
import random
import shutil
import subprocess

from file_servers import authority, nginx
from site_files import GATEWAY, ROOT, wait_until

#: Every server is throttled (file_servers.RATE), so that there is time to cut.
SIZE = 12 << 20


def served(folder: pathlib.Path) -> tuple[pathlib.Path, str]:
    """A folder with a large archive in it, and the archive's digest."""
    root = folder / "files"
    root.mkdir()
    content = random.Random(7).randbytes(SIZE)
    (root / "site-1.9.zip").write_bytes(b"old")
    (root / "site-1.10.zip").write_bytes(content)
    root.chmod(0o755)
    for file in root.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    return root, hashlib.sha256(content).hexdigest()


def configure(folder: pathlib.Path, *sources: dict, **more) -> pathlib.Path:
    file = folder / "edge.yaml"
    file.write_text(json.dumps({"state_dir": str(folder / "state"), "fetch": list(sources), **more}))
    file.chmod(0o600)
    return file


def fetch(config: pathlib.Path, name: str, *flags) -> subprocess.Popen:
    words = [GATEWAY, "package", "fetch", name, "--config", config, *flags]
    return subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def told(config: pathlib.Path, name: str, *flags) -> tuple[int, str]:
    client = fetch(config, name, *flags)
    said = client.communicate(timeout=120)[0]
    return client.returncode, said


class Daemon:
    def __init__(self, folder: pathlib.Path, config: pathlib.Path):
        self.config = config
        self.log = open(folder / "gateway.log", "ab")
        package = ROOT / "examples/quickstart/site"
        for name in ("meter-1", "machine-1"):
            secret = folder / "state/secrets" / name
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_text("secret")
            secret.chmod(0o600)
        words = [GATEWAY, "run", "--config", config, "--package", package]
        self.process = subprocess.Popen([str(w) for w in words], stdout=self.log, stderr=self.log)
        wait_until("it answers", lambda: self.process.poll() is None and self.status(), 20)

    def status(self) -> dict:
        asked = subprocess.run([str(GATEWAY), "status", "--json", "--config", str(self.config)], capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else {}

    def kill(self):
        self.process.terminate()
        self.process.wait(15)

    def generation(self) -> int:
        return self.status().get("package", {}).get("generation", 0)


def package(folder: pathlib.Path, version: str, padding: int = 0) -> pathlib.Path:
    """The quickstart's package in another version, and as much larger as is wanted."""
    site = folder / f"site-{version}"
    shutil.copytree(ROOT / "examples/quickstart/site", site)
    manifest = site / "package.yaml"
    manifest.write_text(manifest.read_text().replace("version: 1.0.0", f"version: {version}"))
    if padding:
        (site / "docs").mkdir()
        (site / "docs/manual.bin").write_bytes(random.Random(1).randbytes(padding))
    archive = folder / f"site-{version}.tar.gz"
    subprocess.run([str(GATEWAY), "package", "build", str(site), "-o", str(archive)], check=True, capture_output=True)
    return archive


def good_package(folder: pathlib.Path) -> pathlib.Path:
    archive = folder / "good.tar.gz"
    subprocess.run([str(GATEWAY), "package", "build", str(ROOT / "examples/quickstart/site"), "-o", str(archive)], check=True,
                   capture_output=True)
    return archive


def nginx_plain(folder, root):
    authority(folder)
    return nginx(folder, root)
