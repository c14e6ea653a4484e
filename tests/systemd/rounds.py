"""Rounds of an update that is cut off: an offer, an end in the middle, and what has to be so afterwards."""

import collections
import contextlib
import os
import pathlib
import signal
import threading
import time

from guest import Failed, until
from held import Held

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
        self.hits, self.ends, self.number = collections.Counter(), collections.Counter(), 0

    def one(self, how, step, moment, kind):
        """Offers an engine and ends everything at this moment (`held.MOMENTS`) of this step of its job."""
        before, old, update = self._ready(kind)
        offering = threading.Thread(target=self.ota.offer, args=(update,))
        with self._held(old, step, moment) as held:
            offering.start()
            try:
                self._cut(how, held, old, {step})
            finally:
                offering.join()
        if self.ota.job().get("id") == old:
            # It was never written down: the cloud says it again.
            self.ota.offer(update)
        self._over(f"{how} at {step}", before, update, old)

    def later(self, how, seconds, kind):
        """The same when an engine has been on trial for so long."""
        before, old, update = self._ready(kind)
        self.ota.offer(update)
        there = lambda: self.ota.job().get("id") != old and self.ota.job().get("state") in ("on_trial", *ENDS)
        until("it is on trial", there, PATIENCE, 0.01)
        time.sleep(seconds)
        self._end_all(how)
        self._over(f"{how} later on trial", before, update, old)

    def taken_back(self, how, moment):
        """A person takes the newest engine back, and it is cut off."""
        if self.ota.job().get("state") != "done":
            self.ota.takes(self._other("good"))
        before, old = self.ota.running(), self.ota.job()["id"]
        with self._held(None, "rolling_back", moment) as held:
            asking = self.guest.start("enos-edge update roll-back")
            found = self._cut(how, held, None, {"rolling_back"})
            said, _ = asking.communicate(timeout=30)
        if found == "done":
            # It was never written down: the person, who got no answer, says it again.
            self.stage.claim("nothing was promised", "rolled back" not in said, said)
            self.guest.run("enos-edge update roll-back", check=False)
        state = self._end()
        until("another one runs", lambda: self.ota.status() and self.ota.running()[1] != before[1], 40)
        self.stage.claim("it was taken back", state == "rolled_back" and self.ota.job()["id"] == old, state)
        self._whole(f"{how} at rolling back", "taken back")

    def _ready(self, kind):
        update = self._other(kind)
        update.path
        return self.ota.running(), self.ota.job().get("id"), update

    def _other(self, kind):
        """Than the one that runs."""
        good = "0.3.0" if self.ota.running()[1] == "0.2.0" else "0.2.0"
        return self.ota.engines.engine({"good": good, "crash": "0.4.0"}[kind], kind)

    @contextlib.contextmanager
    def _held(self, old, step, moment):
        held = Held(self.guest.disk.root, self.ota.job, old, step, moment)
        try:
            yield held
        finally:
            held.release()

    def _cut(self, how, held, old, states):
        """Ends everything at the moment that was asked for. Answers what the disk says of the job then."""
        if not held.reached.wait(PATIENCE):
            raise Failed(f"{held.step}, {held.moment}: never reached, {self.ota.job()}")
        found = self._end_all(how, held.release)
        if how == "kill" or held.moment != "shown":
            # Written down before it is acted on: no power cut takes that away.
            self.stage.claim(f"{held.step} is on disk", found in states, found)
        return found

    def _end_all(self, how, release=lambda: None):
        self.ota.deaths()
        self.ota.site.killed()
        if how == "power":
            self.guest.pull_the_plug(release)
            self._forget()
            found = self.ota.job().get("state", "nothing")
            self.guest.boot()
            return found
        for pid in children(self.guest.leader):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)").endswith("/enos-edge"):
                    os.kill(pid, signal.SIGKILL)
        release()
        # A second until it starts again.
        self._forget()
        return self.ota.job().get("state", "nothing")

    def _forget(self):
        """So many ends are ours: none of them is the engine's. In here every boot has the boot id of the host."""
        self.ota.forget_connects()
        (self.ota.state() / "engines/starts").unlink(missing_ok=True)

    def _end(self):
        return until("the job ends", lambda: (state := self.ota.job().get("state")) in ENDS and state, PATIENCE, 0.1)

    def _over(self, hit, before, update, old):
        state = self._end()
        self.stage.claim("it is a new job", self.ota.job()["id"] != old, self.ota.job())
        expected = update.version if state == "done" else before[1]
        until(f"{expected} runs", lambda: self.ota.status() and self.ota.running()[1] == expected, 40)
        self._whole(hit, state)

    def _whole(self, hit, end):
        version = self.ota.running()[1]
        until("the cloud is told what runs", lambda: self.ota.told()["version"] == version, 40)
        self.ota.well()
        self.number += 1
        self.hits[hit.replace("_", " ")] += 1
        self.ends[end] += 1

    def figures(self):
        count = lambda counter: ", ".join(f"{what} {times}" for what, times in sorted(counter.items()))
        return f"{self.number} rounds end with a whole engine ({count(self.ends)}; {count(self.hits)})"
