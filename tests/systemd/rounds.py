"""Rounds of an update that is cut off: an offer, an end in the middle, and what has to be so afterwards."""

import collections
import os
import pathlib
import signal
import threading
import time

from guest import Failed, until

ENDS = ("done", "failed", "rolled_back", "refused")
# The gateway that runs afterwards: its trial, and the cloud's patience with an offer that nobody answered.
PATIENCE = 120


def children(pid):
    """Of a process and of theirs."""
    try:
        found = [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [further for child in found for further in children(child)]


class Rounds:
    def __init__(self, stage, ota):
        self.stage, self.ota, self.guest = stage, ota, ota.guest
        self.hits, self.ends, self.number, self.took = collections.Counter(), collections.Counter(), 0, []

    def one(self, how, step, kind, delay=0.0):
        """Offers an engine and ends everything when its job is at this step. Answers the step that was hit."""
        before = self.ota.running()
        version = {"good": "0.3.0" if before[1] == "0.2.0" else "0.2.0", "crash": "0.4.0"}[kind]
        update = self.ota.engines.engine(version, kind)
        update.path
        # A download takes a moment at this pace.
        self.ota.files.pace = 20 << 20 if step == "downloading" else None
        old = self.ota.job().get("id")
        offering = threading.Thread(target=self.ota.offer, args=(update,))
        offering.start()
        try:
            hit = self._cut(how, old, lambda state: state == step, delay)
        finally:
            offering.join()
        if self.ota.job().get("id") == old:
            # It was never written down: the cloud says it again.
            self.ota.offer(update)
        self._over(how, hit, before, {"done": version}, old)
        return hit

    def taken_back(self, how):
        """A person takes the newest engine back, and it is cut off."""
        self.stage.claim("there is something to take back", self.ota.job().get("state") == "done" or self._good())
        before, old = self.ota.running(), self.ota.job()["id"]
        asking = self.guest.start("enos-edge update roll-back")
        # It is over already: that it is under way again is the first that is waited for.
        hit = self._cut(how, "", lambda state: state in ("rolling_back", "rolled_back"), 0, ends=())
        said, _ = asking.communicate(timeout=30)
        if how == "power" and hit == "done":
            # It was never written down: the person, who got no answer, says it again.
            self.stage.claim("nothing was promised", "rolled back" not in said, said)
            self.guest.run("enos-edge update roll-back", check=False)
        state = self._end()
        until("another one runs", lambda: self.ota.status() and self.ota.running()[1] != before[1], 40)
        self.stage.claim("it was taken back", state == "rolled_back" and self.ota.job()["id"] == old, state)
        self._whole(how, hit, "taken back")

    def _good(self):
        self.ota.takes(self.ota.engines.engine("0.3.0" if self.ota.running()[1] == "0.2.0" else "0.2.0"))
        return True

    def _cut(self, how, old, wanted, delay, ends=ENDS):
        """Looks at the job on disk as fast as it can."""
        file, begun, seen = self.ota.state() / "update/job.json", time.monotonic(), None
        while True:
            try:
                stat = file.stat()
            except OSError:
                stat = None
            if stat and (stat.st_ino, stat.st_mtime_ns) != seen:
                seen = (stat.st_ino, stat.st_mtime_ns)
                job = self.ota.job()
                if job.get("id") not in (None, old) and (wanted(job["state"]) or job["state"] in ends):
                    break
            if time.monotonic() - begun > PATIENCE:
                raise Failed(f"no step to cut at: {self.ota.job()}")
        time.sleep(delay)
        return self._end_all(how)

    def _end_all(self, how):
        """What the disk says of the job then."""
        self.ota.deaths()
        self.ota.site.killed()
        if how == "power":
            self.guest.pull_the_plug()
            self._forget()
            found = self.ota.job().get("state", "nothing")
            self.guest.boot()
            return found
        for pid in children(self.guest.leader):
            try:
                if os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)").endswith("/enos-edge"):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        # A second until it starts again.
        self._forget()
        return self.ota.job().get("state", "nothing")

    def _forget(self):
        """So many ends are ours: none of them is the engine's. In here every boot has the boot id of the host."""
        self.ota.forget_connects()
        (self.ota.state() / "engines/starts").unlink(missing_ok=True)

    def _end(self):
        return until("the job ends", lambda: (state := self.ota.job().get("state")) in ENDS and state, PATIENCE, 0.1)

    def _over(self, how, hit, before, versions, old):
        state = self._end()
        self.stage.claim("it is a new job", self.ota.job()["id"] != old, self.ota.job())
        expected = versions.get(state, before[1])
        until(f"{expected} runs", lambda: self.ota.status() and self.ota.running()[1] == expected, 40)
        self._whole(how, hit, state)

    def _whole(self, how, hit, end):
        version = self.ota.running()[1]
        until("the cloud is told what runs", lambda: self.ota.told()["version"] == version, 40)
        self.ota.well()
        self.number += 1
        self.hits[f"{how} at {hit.replace('_', ' ')}"] += 1
        self.ends[end] += 1

    def figures(self):
        count = lambda counter: ", ".join(f"{what} {times}" for what, times in sorted(counter.items()))
        return f"{self.number} rounds end with a whole engine ({count(self.ends)}); {count(self.hits)}"
