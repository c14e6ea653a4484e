"""Installed by dpkg as it goes out, it runs as its own user, polls both protocols over TLS, sits out an outage, and goes again."""

import time

from guest import until
from packages import emulated, field, shipped

# Promised is 5 s on a gateway's own processor.
START = 60 if emulated() else 5


def story(stage):
    guest, site = stage.guest, stage.site("--tls")
    guest.boot()
    architecture = field(shipped(), "Architecture")
    stage.claim("the guest is of the package's kind", guest.run("dpkg --print-architecture").strip() == architecture)
    took = guest.install(shipped())
    begun = time.monotonic()
    until("the gateway is active", lambda: guest.show("ActiveState") == "active", START)
    until("it says that it waits", lambda: "waiting for a package" in guest.show("StatusText"), START)
    active = time.monotonic() - begun
    installed(stage, guest)

    site.configure(guest)
    begun = time.monotonic()
    guest.run("systemctl restart enos-edge")
    until("readings are at the cloud", lambda: site.delivered() > 0, START, step=0.01)
    first = time.monotonic() - begun
    stage.claim("over TLS", "url: ssl://" in guest.path("/etc/enos-edge/edge.yaml").read_text())
    until("both devices answer", lambda: "2 of 2 sub-devices answer; cloud online" in guest.show("StatusText"), START)
    outage(stage, site)
    stage.claim("nothing restarted by itself", guest.show("NRestarts") == "0")
    stage.claim("nothing went wrong", "panicked" not in guest.journal("-o cat"), guest.journal("-o cat -n 20"))
    stage.nothing_lost(site)
    # Installing once more is an upgrade: settings and state stay.
    before = guest.run("sha256sum /etc/enos-edge/edge.yaml")
    guest.install(shipped())
    until("it is active again", lambda: guest.show("ActiveState") == "active", START)
    stage.claim("settings outlive it", guest.run("sha256sum /etc/enos-edge/edge.yaml") == before)
    gone(stage, guest)
    stage.fact(f"dpkg -i {took:.1f} s, active {active:.1f} s later, from a restart to the first reading {first:.2f} s")


def installed(stage, guest):
    stage.claim("dpkg is content", guest.run("dpkg-query -W -f '${Status}' enos-edge") == "install ok installed")
    stage.claim("every file is as packed", guest.run("dpkg --verify enos-edge") == "")
    stage.claim("it is enabled", guest.run("systemctl is-enabled enos-edge enos-edge.socket").split() == ["enabled"] * 2)
    user = guest.run("id enos-edge")
    stage.claim("its user may use serial ports and cannot log in", "(dialout)" in user
                and "nologin" in guest.run("getent passwd enos-edge"), user)
    rights = guest.run("stat -c '%a %U %G' /etc/enos-edge /etc/enos-edge/edge.yaml /var/lib/enos-edge /usr/bin/enos-edge")
    stage.claim("owners and rights are as they should", rights.split("\n")[:4]
                == ["2750 root enos-edge", "640 root enos-edge", "700 enos-edge enos-edge", "755 root root"], rights)
    pid = guest.show("MainPID")
    uid = guest.run(f"awk '/^Uid:/ {{ print $2 }}' /proc/{pid}/status").strip()
    stage.claim("it runs as that user", uid == guest.run("id -u enos-edge").strip(), uid)


def outage(stage, site):
    site.order("down")
    delivered, polled = site.delivered(), site.order("polled")["polled"]
    until("it polls on", lambda: site.order("polled")["polled"] > polled + 100, START)
    time.sleep(2)
    stage.claim("nothing came while the cloud was away", site.delivered() == delivered)
    site.order("up")
    stage.flows(site, within=60)


def gone(stage, guest):
    guest.run("dpkg --purge enos-edge", within=120)
    stage.claim("nothing of it runs", guest.run("systemctl show enos-edge -p ActiveState --value").strip() == "inactive")
    left = guest.run("ls -d /var/lib/enos-edge /usr/bin/enos-edge /usr/lib/systemd/system/enos-edge* 2>/dev/null", check=False)
    stage.claim("purge takes program and state", left == "", left)
