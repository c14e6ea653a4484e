"""What the unit forbids is refused when it is tried from inside, what the gateway needs works; and the control: without the
sandbox the same probes succeed, so they can fail."""

import pathlib

from packages import package

# Left out of the control, or refused to root by the guest itself: these prove nothing here.
NO_PROOF = 7


def story(stage):
    guest = stage.guest
    guest.boot()
    guest.install(package("1"))
    guest.run("mkdir -p /home/guest")
    guest.write("/etc/hosts", "127.0.0.1 localhost\n")
    guest.write("/usr/lib/probes.py", (pathlib.Path(__file__).parent.parent / "probes.py").read_text())
    unit = guest.path("/lib/systemd/system/enos-edge.service").read_text()
    for old, new in {
        "Type=notify": "Type=oneshot", "Restart=always": "Restart=no", "StandardInput=": "#", "Sockets=": "#",
        "StandardOutput=journal": "StandardOutput=file:/srv/probed", "WatchdogSec=": "#",
    }.items():
        assert old in unit, old
        unit = unit.replace(old, new)
    lines = ["ExecStart=/usr/bin/python3 /usr/lib/probes.py" if line.startswith("ExecStart=") else line for line in unit.splitlines()]
    guest.write("/etc/systemd/system/probes.service", "\n".join(lines))
    guest.run("systemctl stop enos-edge.socket enos-edge; systemctl daemon-reload; systemctl start probes", within=90)
    probed = guest.path("/srv/probed").read_text().splitlines()
    refused = [line for line in probed if line.startswith("denied ")]
    for line in probed:
        stage.claim("refused, or working", line.startswith(("denied ", "works ")), line)
    stage.claim("all were tried", len(refused) >= 30 and len(probed) >= 40, len(probed))

    # As a service of the guest: what enters from outside has the rights of the host.
    command = "systemd-run --quiet --pipe --wait python3 /usr/lib/probes.py harmless"
    control = guest.run(f"mkdir -p /var/lib/enos-edge && {command}").splitlines()
    allowed = [line for line in control if line.startswith("ALLOWED")]
    stage.claim("without the sandbox they are not", len(allowed) >= len(refused) - NO_PROOF, [l for l in control if l.startswith("denied")])
    stage.fact(f"{len(refused)} forbidden things refused, {len(probed) - len(refused)} needed ones work; as root without it {len(allowed)} succeed")
