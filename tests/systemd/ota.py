"""A gateway that takes updates over the air: the cloud offers, the files are served, and what the cloud is told is kept."""

import contextlib
import json
import pathlib
import sqlite3
import tempfile
import time

from engines import Engines, digest
from files import Files
from guest import STATE, until
from packages import package

PACKAGED = "0.1.0"
#: One minute is the shortest window; a good engine is proven after a quarter of it.
SETTINGS = """update:
  keys: [ /etc/enos-edge/update.pub ]
  hosts: [ 127.0.0.1 ]
  ca_file: /etc/enos-edge/files.pem
  trial_min: 1
  cleartext: true
  pull: off
  disk_reserve_mb: %d
%soutbox: { durability: strict, disk_reserve_mb: 4 }
"""
# Strict: stored before it is sent. A scan and its commit may be under way when the gateway is killed.
UNDER_WAY_MS = 700
engines = None


def all_engines():
    global engines
    engines = engines or Engines()
    return engines


class Ota:
    """As `stage.gateway`, with update keys, a server of files, and an eye on what the cloud is told."""

    def __init__(self, stage, *flags, more="", drop_in="", disk_mb=0, reserve_mb=16):
        self.stage, self.guest = stage, stage.guest
        self.engines, self.files = all_engines(), Files(stage.folder / "files")
        stage.closes.append(self.files.close)
        self.site = stage.site("--no-machine", "--period-ms", 500, *flags, more=SETTINGS % (reserve_mb, more))
        self.site.bound_ms = UNDER_WAY_MS
        if disk_mb:
            self.guest.use_disk(disk_mb)
        self.guest.boot()
        self.guest.install(package("1"))
        self.guest.write("/etc/enos-edge/update.pub", self.engines.public_key())
        self.guest.write("/etc/enos-edge/files.pem", self.files.authority.read_text())
        self.site.configure(self.guest)
        self.guest.drop_in("[Service]\nEnvironment=ENGINE_TEST_DEATHS=%s/deaths\n%s" % (STATE, drop_in), "ota")
        self.guest.run("systemctl restart enos-edge")
        self.stage.flows(self.site)
        until("the cloud knows the version", lambda: self.told()["version"] == PACKAGED, 10)

    # What the cloud sees

    def told(self):
        return self.site.order("ota")

    def events(self):
        """Events of the gateway itself about engines: name, version, reason."""
        return [event for event in self.site.order("events") if "engine" in json.dumps(event)]

    def offer(self, update, secure=False, sign=None):
        """The gateway's answer to the offer of the cloud."""
        method = "sha256" if secure else "md5"
        offer = {
            "version": update.version, "signMethod": method, "sign": sign or digest(update.path, method),
            "fileUrl": self.files.share(update.path, secure), "fileSize": update.path.stat().st_size,
        }
        # The engines that start for it connect two or three times.
        self.forget_connects()
        self.seen = len(self.told()["progress"])
        return self.site.order("upgrade " + json.dumps(offer))

    def progress(self):
        return [(int(step), words) for step, words in self.told()["progress"][self.seen:]]

    def ended(self):
        progress = self.progress()
        return progress if progress and (progress[-1][0] < 0 or progress[-1][0] == 100) else None

    # What the gateway says

    def status(self):
        with contextlib.suppress(Exception):
            said = self.guest.run("enos-edge status --json", check=False, within=30)
            return json.loads(said[said.index("{"):])
        return {}

    def running(self):
        status = until("the gateway answers", lambda: self.status() or None, 30)
        return status["engine"]["place"], status["version"]

    def job(self):
        """As it lies on disk at this moment."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.state() / "update/job.json").read_text())
        return {}

    def state(self):
        return self.guest.disk.root if self.guest.disk else self.guest.path(STATE)

    def sequence(self):
        """Numbers of batches that were ever given out lie below this one."""
        with tempfile.TemporaryDirectory() as copy:
            for file in (self.state() / "outbox").glob("*.db*"):
                (pathlib.Path(copy) / file.name).write_bytes(file.read_bytes())
            [file] = pathlib.Path(copy).glob("*.db")
            with contextlib.closing(sqlite3.connect(file)) as database:
                return database.execute("SELECT value FROM meta WHERE key = 'seq_limit'").fetchone()[0]

    def engine_is_whole(self):
        """Every slot that the pointer names is proven anew, by the program of the package."""
        listed = json.loads(self.guest.run("enos-edge engine list --json"))
        doubts = {slot: facts["doubt"] for slot, facts in listed["slots"].items() if listed["current"] == slot and facts["doubt"]}
        self.stage.claim("the current engine is whole", not doubts, listed)

    def forget_connects(self):
        """Restarts are ours: they must not run into the cloud's rule against too many connects."""
        for file in (self.state() / "identity").glob("*connects*"):
            file.unlink(missing_ok=True)

    def deaths(self):
        """Engines that died without a word tell the moment; the ledger allows for it."""
        file = self.state() / "deaths"
        # What a power cut left of it.
        for line in file.read_text().replace('\0', ' ').split() if file.exists() else []:
            self.site.killed_at(int(line))

    # Rounds

    def takes(self, update, within=90, **how):
        """Offered, carried out, and told step by step."""
        begun = time.monotonic()
        answer = self.offer(update, **how)
        self.stage.claim("the offer is taken", answer.get("answer", {}).get("code", 200) == 200 and "error" not in answer, answer)
        progress = until(f"{update.version} is installed", self.ended, within, 0.1)
        steps = [step for step, _ in progress]
        self.stage.claim("progress never falls and ends with 100", steps == sorted(steps) and steps[-1] == 100, progress)
        until("the new version is told", lambda: self.told()["version"] == update.version, 10)
        self.stage.claim("it runs", self.running()[1] == update.version, self.running())
        self.well()
        return steps, time.monotonic() - begun

    def refuses(self, update, step, why, within=90, **how):
        """Offered, and it comes to nothing; what ran before runs."""
        before, begun = self.running(), time.monotonic()
        self.offer(update, **how)
        told, words = until(f"{update.version} ends", self.ended, within, 0.1)[-1]
        self.stage.claim(f"the cloud is told {step}: {why}", told == step and why in words, (told, words))
        until("what ran before runs again", lambda: self.status() and self.running() == before, 20)
        self.stage.claim("the version that is told is the old one", self.told()["version"] == before[1], self.told()["version"])
        self.well()
        return time.monotonic() - begun

    def well(self):
        self.stage.flows(self.site, within=30)
        self.stage.claim("the service is active", self.guest.show("ActiveState") == "active")
        self.engine_is_whole()
