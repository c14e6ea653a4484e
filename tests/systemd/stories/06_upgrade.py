"""Upgraded while it runs nothing is lost and the settings stay; removed it keeps its state; purged nothing is left."""

from guest import until
from packages import package, version


def story(stage):
    site = stage.gateway("--no-machine", "--meters", 4)
    guest = stage.guest
    settings = guest.run("sha256sum /etc/enos-edge/edge.yaml")
    pid = guest.show("MainPID")
    door = guest.show("ActiveEnterTimestamp", "enos-edge.socket")
    took = guest.install(package("2"))
    until("it runs again", lambda: guest.show("ActiveState") == "active" and guest.show("MainPID") not in (pid, "0"), 10)
    stage.claim("the new version is installed", version("2") in guest.run("dpkg-query -W enos-edge"))
    stage.claim("the settings stay", guest.run("sha256sum /etc/enos-edge/edge.yaml") == settings)
    stage.claim("the door stays open meanwhile", guest.show("ActiveEnterTimestamp", "enos-edge.socket") == door)
    stage.flows(site)
    guest.install(package("1"))
    stage.flows(site)
    stage.fact(f"upgrade {took:.1f} s")
    stage.nothing_lost(site)

    guest.run("dpkg -r enos-edge")
    stage.claim("removed, it runs no more", guest.show("ActiveState") == "inactive" and not guest.path("/usr/bin/enos-edge").exists())
    stage.claim("removed, it keeps state and settings", guest.succeeds("test -d /var/lib/enos-edge/outbox && test -f /etc/enos-edge/edge.yaml"))
    guest.run("rm -rf /etc/enos-edge/site && dpkg -P enos-edge")
    left = guest.run("find / -xdev -name '*enos-edge*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*' 2>/dev/null", check=False)
    stage.claim("purged, nothing is left", left.strip() == "", left)
    failed = guest.run("systemctl list-units --all --no-legend 'enos-edge*'")
    stage.claim("systemd knows it no more", failed.strip() == "", failed)
