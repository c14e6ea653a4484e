"""The power goes while the cloud is out of reach, twice, and comes back: it boots without a network, polls, and keeps
what it had."""

import time

from guest import until


def story(stage):
    site = stage.gateway("--no-machine", "--meters", 4, disk=True)
    guest, boots = stage.guest, []
    site.order("down")
    for _ in range(2):
        time.sleep(3)
        site.killed()
        guest.pull_the_plug()
        boots.append(guest.boot())
        until("the gateway is active", lambda: guest.show("ActiveState") == "active", 10)
        stage.claim("it did not wait for a network", "network-online" not in guest.run("systemctl show enos-edge -p After -p Wants -p Requires"))
        polled = site.order("polled")["polled"]
        until("it polls", lambda: site.order("polled")["polled"] > polled, 10)
        stage.claim("the outbox is whole", "damaged" not in guest.journal("-b -o cat"))
        page = until("it says that the cloud is out of reach", lambda: status(guest, "cloud out of reach"), 10)
    since_boot = float(guest.run("systemctl show enos-edge -p ActiveEnterTimestampMonotonic --value")) / 1e6
    kernel = float(guest.run("systemctl show -p UserspaceTimestampMonotonic --value")) / 1e6
    site.order("up")
    stage.flows(site, within=60)
    stage.fact(f"2 power cuts, active {since_boot - kernel:.1f} s after the first process; {page.split(';')[-1].strip()}")
    stage.nothing_lost(site, beyond_bound=True)


def status(guest, text):
    said = guest.show("StatusText")
    return said if text in said else None
