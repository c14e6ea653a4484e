"""A package comes in from root's own folders, and in its sandbox the gateway opens a serial port that belongs to dialout, and
no other terminal."""

import json
import pathlib

from guest import until
from packages import package

FILES = {
    "package.yaml": "format: 1\nname: serial\nversion: 1.0.0\nengine: 0.1.0\n",
    "assets.yaml": "sites: [ { id: plant, name: Plant } ]\ndevices:\n  - { name: Meter, product_key: pk, device_key: m1, register: true, site: plant, "
    "template: meter, connection: line, address: \"1\" }\n",
    "connections/line.yaml": "name: line\nprotocol: modbus-rtu\nprotocol.sys:\n  serial_port: /run/tty-story\n  baud_rate: 9600\n  scan_period_ms: 500\n  timeout_ms: 500\n",
    "models/meter.yaml": "models:\n  - id: Meter\n    name: Meter\n    measurepoints:\n      - { id: level, name: Level, type: AI, data_type: int }\n",
    "templates/meter/template.yaml": "model: Meter\n",
    "templates/meter/point.csv": "name,number,value type,point type,coefficient,base value,alias\nlevel,7,ushort,ai,1,0,\n",
    "templates/meter/mapping.yaml": "mapping:\n  level: ai.7\n",
}


def story(stage):
    guest = stage.guest
    guest.boot()
    guest.install(package("1"))
    for name, text in FILES.items():
        guest.write(f"/home/site/{name}", text)
    guest.write("/usr/lib/rtu_slave.py", (pathlib.Path(__file__).parent.parent / "rtu_slave.py").read_text())
    dialout = guest.run("getent group dialout").split(":")[2]
    device = guest.start(f"exec python3 /usr/lib/rtu_slave.py /run/tty-story {dialout}")
    until("the device is there", lambda: guest.succeeds("test -e /run/tty-story"), 10)
    # From where the sandbox lets nobody look.
    said = guest.run("enos-edge package install /home/site")
    stage.claim("a package is installed from anywhere", "is generation 1" in said, said)
    left = guest.run("ls /var/lib/enos-edge")
    stage.claim("and no copy of it is left", "handed" not in left, left)
    until("the device is read", lambda: "1 of 1 sub-devices answer" in guest.show("StatusText"), 20)
    values = json.loads(guest.run("enos-edge read Meter --json"))
    shown = {value["point"]: value["value"] for value in (values if isinstance(values, list) else values["values"])}
    stage.claim("with the right value", shown.get("level") == 7, values)
    groups = guest.run(f"grep -w Groups: /proc/{guest.show('MainPID')}/status")
    stage.claim("by its group", dialout in groups.split(), groups)
    guest.run(f"chmod 600 $(readlink -f /run/tty-story)")
    guest.run("systemctl restart enos-edge")
    until("a port of somebody else is refused", lambda: "ermission" in guest.journal("-o cat -n 20"), 15)
    stage.claim("and it goes on all the same", guest.show("ActiveState") == "active")
    device.kill()
