"""Writes small sites (package and edge.yaml) and runs the real gateway on them."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
GATEWAY = TARGET / "enos-edge"
TESTBED = TARGET / "testbed"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what: str, condition, seconds: float = 20.0):
    """Polls until the condition holds; a deadline keeps a dead peer from hanging the run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@contextlib.contextmanager
def running(*things):
    """Whatever happens, every process ends."""
    try:
        yield things
    finally:
        for thing in things:
            if getattr(thing, "process", None) and thing.process.poll() is None:
                thing.kill()


class Peer:
    """A process of somebody else's that prints READY."""

    def __init__(self, *command, ready: str | None = "READY"):
        self.process = subprocess.Popen(
            [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if ready:
            for line in self.process.stdout:
                if ready in line:
                    return
            raise AssertionError(f"{command[0]} ended without {ready}: status {self.process.wait()}")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Gateway:
    """The real `enos-edge run` in a folder of its own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.log = open(folder / "gateway.log", "a")
        self.process = subprocess.Popen(
            [GATEWAY, "run", "--config", folder / "edge.yaml", "--log-format", "text"],
            stdout=self.log,
            stderr=self.log,
        )

    def ask(self, *command) -> dict:
        done = subprocess.run(
            [GATEWAY, *command, "--config", self.folder / "edge.yaml", "--json"], capture_output=True, text=True, timeout=40
        )
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def command(self, *command) -> subprocess.CompletedProcess:
        """As a person types it."""
        words = [GATEWAY, *command, "--config", self.folder / "edge.yaml"]
        return subprocess.run(words, capture_output=True, text=True, timeout=40)

    def told(self, words: str) -> int:
        """How often the log says so."""
        return (self.folder / "gateway.log").read_text().count(words)

    def counter(self, name: str) -> int:
        return self.ask("status").get("counters", {}).get(name, -1)

    def stop(self):
        """SIGTERM: it has five seconds and leaves with status 0."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=10)
        took = time.monotonic() - begun
        assert status == 0, f"gateway left with status {status}; see {self.folder}/gateway.log"
        assert took < 5.0, f"stopping took {took:.1f} s"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        return "\n".join((self.folder / "gateway.log").read_text().splitlines()[-30:])


def write_site(folder: pathlib.Path, connection: str, points: str, devices: list, model: list, mapping: list, cloud: str):
    """One connection, one template, one model: as small as a site can be. A mapping may name a control point, too."""
    package = folder / "site"
    for below in ("models", "connections", "templates/t"):
        (package / below).mkdir(parents=True, exist_ok=True)
    (package / "package.yaml").write_text("format: 1\nname: interop\nversion: 1.0.0\nengine: 0.1.0\n")
    (package / "connections/line.yaml").write_text(connection)
    (package / "templates/t/template.yaml").write_text("model: M\n")
    (package / "templates/t/point.csv").write_text(points, encoding="utf-8-sig")
    (package / "templates/t/mapping.csv").write_text(
        "point,pdesp,mapping,mdesp,control\n"
        + "".join(f'{point},,"{source}",,{"".join(control)}\n' for point, source, *control in mapping)
    )
    measurepoints = "".join(
        f"      - {{ id: {point}, name: {point}, type: AI, data_type: {data_type} }}\n" for point, data_type in model
    )
    (package / "models/m.yaml").write_text(f"models:\n  - id: M\n    name: M\n    measurepoints:\n{measurepoints}")
    (package / "assets.yaml").write_text(
        "devices:\n"
        + "".join(
            f"  - {{ name: {name}, product_key: pk, device_key: {name}, device_secret: s-{name}, "
            f'template: t, connection: line, address: "{address}" }}\n'
            for name, address in devices
        )
    )
    (folder / "edge.yaml").write_text(f"state_dir: {folder}/state\npackage: {package}\n{cloud}")


def plain_broker(port: int) -> str:
    return (
        f"cloud:\n  url: tcp://127.0.0.1:{port}\n  product_key: gw\n  device_key: gw1\n"
        "  acknowledge: puback\n  sub_device_login: false\n"
    )
