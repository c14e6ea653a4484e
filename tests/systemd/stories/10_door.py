"""The door without the socket unit, with sockets handed over as descriptors, and ports below 1024 by the drop-in."""

from guest import until
from packages import TOP


def story(stage):
    site = stage.gateway("--no-machine")
    guest = stage.guest
    guest.run("systemctl stop enos-edge")
    asking = guest.start("enos-edge status --json")
    said, _ = asking.communicate(timeout=20)
    stage.claim("a knock starts a stopped gateway", asking.returncode == 0 and guest.show("ActiveState") == "active", said[-200:])

    guest.run("systemctl stop enos-edge.socket enos-edge")
    guest.drop_in((TOP / "packaging/systemd/drop-ins/without-socket.conf").read_text(), "without-socket")
    guest.run("systemctl mask enos-edge.socket && systemctl start enos-edge")
    stage.claim("it opens the door itself", guest.succeeds("enos-edge status"))
    stage.claim("for its user alone", guest.run("stat -c %a /run/enos-edge/control.sock").strip() == "600")
    guest.run("systemctl stop enos-edge && systemctl unmask enos-edge.socket")
    stage.claim("and takes it away", not guest.succeeds("test -e /run/enos-edge/control.sock"))
    guest.run("rm -r /etc/systemd/system/enos-edge.service.d && systemctl daemon-reload")

    run = "setpriv --reuid enos-edge --regid enos-edge --init-groups systemd-socket-activate -l /run/enos-edge/control.sock"
    guest.run("chown enos-edge:enos-edge /run/enos-edge")
    by_hand = guest.start(f"exec {run} enos-edge run --config /etc/enos-edge/edge.yaml")
    until("somebody listens", lambda: guest.succeeds("test -S /run/enos-edge/control.sock"), 10)
    said = guest.run("enos-edge status --json", within=30)
    stage.claim("LISTEN_FDS is taken over", '"uptime_s"' in said, said[-200:])
    by_hand.kill()
    guest.run("kill $(pidof enos-edge) ; sleep 1; rm -f /run/enos-edge/control.sock", check=False)

    polled = site.order("polled")["polled"]
    guest.run("systemctl start enos-edge.socket enos-edge")
    until("it polls as ever", lambda: site.order("polled")["polled"] > polled, 10)
    stage.claim("and the door is systemd's again", guest.run("stat -c %a /run/enos-edge/control.sock").strip() == "660")
