"""Installed on a fresh system the gateway is up at once, waits for a package, and polls when it has one."""

import json
import time

from guest import until
from packages import package


def story(stage):
    guest, site = stage.guest, stage.site()
    guest.boot()
    took = guest.install(package("1"))
    until("the gateway is active", lambda: guest.show("ActiveState") == "active", 5)
    until("it says that it waits", lambda: "waiting for a package" in guest.show("StatusText"), 10)
    stage.claim("it is enabled", guest.run("systemctl is-enabled enos-edge enos-edge.socket").split() == ["enabled"] * 2)
    stage.claim("it tells what to do", "no package yet" in guest.journal("-o cat"))
    page = guest.run("enos-edge status")
    stage.claim("the status says so too", "no package yet" in page, page)

    site.configure(guest)
    begun = time.monotonic()
    guest.run("systemctl restart enos-edge")
    ready = time.monotonic() - begun
    until("readings are at the cloud", lambda: site.delivered() > 0, 5, step=0.01)
    first = time.monotonic() - begun
    stage.claim("active and polling within 5 s", first < 5, first)
    stage.claim("nothing restarted", guest.show("NRestarts") == "0")
    until("it says what it does", lambda: "2 of 2 sub-devices answer; cloud online" in guest.show("StatusText"), 10)

    facts = guest.run(f"stat -c '%a %U %G %n' /var/lib/enos-edge /run/enos-edge /run/enos-edge/control.sock").splitlines()
    stage.claim("folders and door have the rights they should", [line.rsplit(" ", 1)[0] for line in facts]
                == ["700 enos-edge enos-edge", "750 enos-edge enos-edge", "660 enos-edge enos-edge"], facts)
    guest.run("useradd -G enos-edge otto && useradd stranger")
    stage.claim("a member of the group may ask", guest.succeeds("setpriv --reuid otto --regid otto --init-groups enos-edge status"))
    stage.claim("others may not", not guest.succeeds("setpriv --reuid stranger --regid stranger --init-groups enos-edge status"))

    lines = [json.loads(line) for line in guest.journal("-o json").splitlines()]
    named = [line for line in lines if line.get("CONNECTION") and line.get("SYSLOG_IDENTIFIER") == "enos-edge"]
    stage.claim("the journal has fields", named and all("PRIORITY" in line and "CODE_FILE" in line for line in named), len(lines))
    stage.claim("and can be asked by them", guest.run("journalctl -q -o cat DEVICE='" + [line for line in lines if line.get("DEVICE")][0]["DEVICE"] + "'") != "")

    pid = guest.show("MainPID")
    time.sleep(3)
    memory = int(guest.run(f"awk '/^VmRSS/ {{ print $2 }}' /proc/{pid}/status"))
    stage.fact(f"dpkg {took:.1f} s, restart to READY {ready:.2f} s, to the first reading at the cloud {first:.2f} s, RSS {memory / 1024:.1f} MiB (debug build)")
    stage.nothing_lost(site)
