"""Killed again and again, once while the cloud is out of reach, the installed gateway is back and loses nothing that was stored."""

import time

from guest import until
from packages import emulated, shipped

BACK = 60 if emulated() else 10


def story(stage):
    guest, site = stage.guest, stage.site("--no-machine", "--tls", "--meters", 4, more="outbox: { durability: strict }\n")
    guest.boot()
    guest.install(shipped())
    site.configure(guest)
    guest.run("systemctl restart enos-edge")
    stage.flows(site, within=BACK)
    # The cloud counts connects: four in two minutes, the first start is one.
    rounds, slowest = 3, 0
    for number in range(1, rounds + 1):
        away = number % 2 == 0
        if away:
            site.order("down")
            time.sleep(3)
        pid = guest.show("MainPID")
        site.killed()
        begun = time.monotonic()
        guest.run(f"kill -9 {pid}")
        until("it is back", lambda: guest.show("ActiveState") == "active" and guest.show("MainPID") not in (pid, "0"), BACK)
        slowest = max(slowest, time.monotonic() - begun)
        stage.claim("systemd counts it", guest.show("NRestarts") == str(number))
        if away:
            site.order("up")
        stage.flows(site, within=BACK)
    stage.fact(f"{rounds} kills, back after {slowest:.1f} s at most")
    stage.nothing_lost(site, beyond_bound=True)
