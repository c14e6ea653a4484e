"""A hang is found, named, and ended: the disk of the state stands still, then the whole process. A slow disk is no hang."""

import time

from guest import until

# Every limit of the watchdog is this time.
LIMIT = 6


def story(stage):
    site = stage.gateway("--no-machine", disk=True, drop_in=f"[Service]\nWatchdogSec={LIMIT}\n")
    guest, disk = stage.guest, stage.guest.disk
    # Without a cloud every reading has to go to the disk.
    site.order("down")
    until("readings go to the disk", lambda: stored(guest) > 0, 15)

    disk.freeze(True)
    time.sleep(LIMIT / 2)
    disk.freeze(False)
    time.sleep(LIMIT)
    stage.claim("a disk that is slow is no hang", guest.show("NRestarts") == "0", guest.journal("-n 5 -o cat"))

    disk.freeze(True)
    begun = time.monotonic()
    until("the hang is found", lambda: "Watchdog request" in guest.journal("-o cat") or "Watchdog timeout" in guest.journal("-o cat"), LIMIT * 2 + 7, 0.2)
    found = time.monotonic() - begun
    site.killed(since=found)
    said = [line for line in guest.journal("-o cat").splitlines() if line.startswith("stuck:")]
    stage.claim("the log names the part", said and "the outbox" in said[0], said)
    disk.freeze(False)
    until("it is back", lambda: guest.show("ActiveState") == "active" and guest.show("NRestarts") != "0", 40)
    back = time.monotonic() - begun
    restarts = int(guest.show("NRestarts"))

    until("readings go to the disk", lambda: stored(guest) > 0, 15)
    pid = guest.show("MainPID")
    guest.run(f"kill -STOP {pid}")
    site.killed()
    begun = time.monotonic()
    until("a process that stands still is restarted", lambda: int(guest.show("NRestarts")) > restarts, LIMIT + 8, 0.2)
    stood = time.monotonic() - begun
    stage.claim("within WatchdogSec + 5 s", stood <= LIMIT + 5 + 1, stood)
    until("it is back", lambda: guest.show("ActiveState") == "active" and guest.show("MainPID") not in (pid, "0"), 10)
    site.order("up")
    stage.fact(f"WatchdogSec={LIMIT}: frozen disk found after {found:.1f} s, polling again {back:.1f} s after it froze; SIGSTOP ended after {stood:.1f} s")
    stage.flows(site, within=40)
    stage.nothing_lost(site, beyond_bound=True)


def stored(guest):
    said = guest.run("enos-edge status --json | grep -o '\"outbox_stored\":[0-9]*'", check=False)
    return int(said.rpartition(":")[2] or 0) if said.strip() else 0
