"""Killed again and again, the gateway is back in a moment, and commands that come meanwhile wait for it."""

import time

from guest import until


def story(stage):
    site = stage.gateway("--no-machine", "--meters", 4)
    # The cloud counts connects: four in two minutes, the first start is one.
    guest, rounds, slowest = stage.guest, 3, 0
    for number in range(1, rounds + 1):
        pid = guest.show("MainPID")
        site.killed()
        begun = time.monotonic()
        guest.run(f"kill -9 {pid}")
        asking = guest.start("enos-edge status --json")
        said, _ = asking.communicate(timeout=20)
        stage.claim("a command waits for the restart", asking.returncode == 0 and '"uptime_s"' in said, said[-300:])
        until("it is back", lambda: guest.show("ActiveState") == "active" and guest.show("MainPID") not in (pid, "0"), 10)
        slowest = max(slowest, time.monotonic() - begun)
        stage.claim("systemd counts it", guest.show("NRestarts") == str(number))
        stage.flows(site)
    stage.claim("the door was never made anew", guest.show("NConnections", "enos-edge.socket") != "")
    stage.fact(f"{rounds} kills, back after {slowest:.1f} s at most")
    stage.nothing_lost(site, beyond_bound=True)
