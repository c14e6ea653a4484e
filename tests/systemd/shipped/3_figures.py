"""What the shipped package costs: time to install and to start, memory, and what it writes to the flash."""

import json
import os
import pathlib
import time

from guest import until
from memory import memory
from packages import emulated, field, shipped

DAY = 86_400
# Seconds that are measured; a day is scaled from them.
IDLE, LOADED = (int(word) for word in os.environ.get("ENOS_EDGE_FIGURES_SECONDS", "120,60").split(","))
# What is polled, lines of edge.yaml, whether the cloud is away, how long.
LOADS = {
    "idle": (("--meters", 1, "--registers", 1, "--period-ms", 10_000), "", False, IDLE),
    "loaded": (("--meters", 10, "--registers", 97, "--period-ms", 1000), "", False, LOADED),
    "loaded, cloud away": (("--meters", 10, "--registers", 97, "--period-ms", 1000), "", True, LOADED),
    "loaded, strict": (("--meters", 10, "--registers", 97, "--period-ms", 1000), "outbox: { durability: strict }\n", False, LOADED),
}


def story(stage):
    guest = stage.guest
    guest.use_disk()
    guest.boot()
    took = guest.install(shipped())
    figures = {
        "architecture": field(shipped(), "Architecture"), "emulated": emulated(),
        "package_bytes": shipped().stat().st_size, "installed_kb": int(field(shipped(), "Installed-Size")),
        "program_bytes": guest.path("/usr/bin/enos-edge").stat().st_size, "install_s": round(took, 2), "loads": {},
    }
    for name, (flags, more, away, seconds) in LOADS.items():
        figures["loads"][name] = measure(stage, flags, more, away, seconds)
    stage.claim("a load writes more to the flash than none", figures["loads"]["loaded, strict"]["device_bytes_a_day"]
                > figures["loads"]["idle"]["device_bytes_a_day"])
    pathlib.Path(os.environ["ENOS_EDGE_FIGURES"]).write_text(json.dumps(figures, indent=1))


def measure(stage, flags, more, away, seconds):
    """One load, on a gateway that begins with an empty state."""
    guest, site = stage.guest, stage.site("--no-machine", "--tls", *flags, more=more)
    guest.run("systemctl stop enos-edge && rm -rf /var/lib/enos-edge/* ")
    site.configure(guest)
    begun = time.monotonic()
    guest.run("systemctl start enos-edge")
    ready = time.monotonic() - begun
    until("readings are at the cloud", lambda: site.delivered() > 0, 90, step=0.01)
    first = time.monotonic() - begun
    if away:
        site.order("down")
    time.sleep(20)
    # What the start left in memory is not of the time that is measured.
    guest.disk.settle()
    pid = guest.main_process()
    polled, before, written = site.order("polled")["polled"], guest.disk.written(), of_process(pid)
    begun = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    polled, now, wrote = site.order("polled")["polled"] - polled, guest.disk.written(), of_process(pid) - written
    found = {
        "start_to_ready_s": round(ready, 2), "start_to_first_reading_s": round(first, 2), "seconds": round(took, 1),
        "values_a_second": round(polled / took, 1), "memory": memory(pid),
        "process_bytes_a_day": round(wrote * DAY / took), "device_bytes_a_day": round((now[0] - before[0]) * DAY / took),
        "flushes_a_day": round((now[1] - before[1]) * DAY / took),
    }
    if away:
        site.order("up")
        stage.flows(site, within=90)
    stage.nothing_lost(site)
    site.close()
    return found


def of_process(pid):
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])
