"""Told to stop under load, it stops well within its time, and everything is on disk: not one reading is missing later."""

import time

from guest import until


def story(stage):
    site = stage.gateway("--no-machine", "--meters", 10, "--period-ms", 100)
    guest, slowest = stage.guest, 0
    site.order("down")
    for how in ("systemctl restart enos-edge", "systemctl stop enos-edge enos-edge.socket", "systemctl kill -s INT enos-edge"):
        time.sleep(3)
        before = int(guest.show("NRestarts"))
        begun = time.monotonic()
        guest.run(how)
        if "stop" in how:
            stage.claim("it has stopped", guest.show("ActiveState") == "inactive" and guest.show("Result") == "success")
            slowest = max(slowest, time.monotonic() - begun)
            stage.claim("nobody wakes it", guest.show("ActiveState") == "inactive")
            guest.run("systemctl start enos-edge.socket enos-edge")
        elif "INT" in how:
            until("it is started again", lambda: int(guest.show("NRestarts")) == before + 1, 10)
        else:
            slowest = max(slowest, time.monotonic() - begun)
        until("it is active", lambda: guest.show("ActiveState") == "active", 10)
    stage.claim("no stop needed a kill", "SIGKILL" not in guest.journal("-o cat"))
    stage.claim("every stop stored what waits", guest.journal("-o cat").count("stopped; what waits is on disk") >= 4)
    site.order("up")
    stage.flows(site, within=30)
    stage.fact(f"stopped after {slowest:.1f} s at most")
    stage.nothing_lost(site)
