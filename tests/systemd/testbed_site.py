"""Devices, cloud and ledger beside the guest (`testbed site`): they live on whatever is done to the gateway."""

import json
import os
import pathlib
import shutil
import subprocess
import time

TESTBED = pathlib.Path(os.environ.get("ENOS_EDGE_TESTBED", "target/debug/testbed")).resolve()
DOOR = "control_socket: /run/enos-edge/control.sock\n"
# A reading is acknowledged, on disk, or younger than this (durability bound), and a scan takes its time.
BOUND_MS = 1000 + 250


class Site:
    def __init__(self, folder, *flags, more=""):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.absolute()
        self.kills, self.bound_ms = [], BOUND_MS
        command = [TESTBED, "site", str(self.folder), "--more", DOOR + more, *map(str, flags)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().startswith("READY"), "testbed site did not start"

    def order(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def configure(self, guest):
        """Package and settings, as an engineer puts them into /etc/enos-edge."""
        target = guest.path("/etc/enos-edge/site")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.folder / "package", target)
        text = (self.folder / "edge.yaml").read_text().replace(str(self.folder / "package"), "/etc/enos-edge/site")
        guest.write("/etc/enos-edge/edge.yaml", text)
        for authority in self.folder.glob("*.pem"):
            guest.write(f"/etc/enos-edge/{authority.name}", authority.read_text())
        guest.run("chown -R root:enos-edge /etc/enos-edge && chmod -R g+rX,o= /etc/enos-edge")

    def delivered(self):
        return self.order("report")["delivered"]

    def killed(self, since=0.0):
        """The gateway dies now. `since` so many seconds the disk took nothing."""
        self.killed_at(time.time() * 1000, since)

    def killed_at(self, moment, since=0.0):
        """Milliseconds since 1970."""
        self.kills.append((moment - since * 1000 - self.bound_ms, moment + self.bound_ms))

    def verdict(self):
        """(the report, readings lost although they were older than the bound when the gateway was killed)."""
        report = self.order("silence")
        beyond = 0
        for run in report["lost_runs"]:
            # It lies wholly within what may be missing after one of the kills.
            within = any(begun <= run["after"] and (run["before"] or end) <= end + 10_000 for begun, end in self.kills)
            beyond += 0 if within else run["count"]
        return report, beyond

    def close(self):
        self.process.kill()
        self.process.wait()
