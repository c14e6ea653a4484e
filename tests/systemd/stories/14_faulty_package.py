"""The package that edge.yaml names is faulty, and there is no other: the gateway stays up, says why, and takes the first good one."""

from guest import until
from packages import package


def story(stage):
    guest, site = stage.guest, stage.site("--no-machine")
    guest.boot()
    guest.install(package("1"))
    site.configure(guest)
    points = guest.path("/etc/enos-edge/site/templates/meter/point.csv")
    whole = points.read_text()
    points.write_text(whole + "one more,7,flaot,ai,1,0,\n")
    guest.run("enos-edge package seal /etc/enos-edge/site", check=False)
    guest.run("systemctl restart enos-edge")
    until("it says that it waits, and why", lambda: "waiting for a good package" in guest.show("StatusText"), 10)
    stage.claim("the place of the fault is named", "point.csv:" in guest.show("StatusText"), guest.show("StatusText"))
    first = guest.show("MainPID")
    page = guest.run("enos-edge status")
    stage.claim("the status says so too", "point.csv:" in page and "package install" in page, page)
    found = guest.run("enos-edge doctor", check=False)
    stage.claim("and the doctor", "point.csv:" in found, found)
    stage.claim("nothing restarts", guest.show("NRestarts") == "0" and guest.show("MainPID") == first)
    guest.run("systemctl restart enos-edge")
    stage.claim("a restart comes to the same", guest.show("ActiveState") == "active")

    points.write_text(whole)
    guest.run("enos-edge package seal /etc/enos-edge/site && enos-edge package install /etc/enos-edge/site")
    stage.flows(site)
    stage.claim("without a restart", guest.show("NRestarts") == "0")
    stage.nothing_lost(site)
