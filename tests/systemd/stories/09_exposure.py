"""What systemd itself thinks of the units: no complaint, and an exposure within the bound; also of each drop-in."""

import re

from packages import TOP, package

BOUND = 1.3
# Each gives something up, for those who need it.
DROP_INS = {"ports-80-443": 1.6, "without-socket": 1.3, "addresses": 1.2, "no-user-namespaces": 1.5}


def story(stage):
    guest = stage.guest
    guest.boot()
    guest.install(package("1"))
    said = guest.run("systemd-analyze verify --man=no enos-edge.service enos-edge.socket 2>&1")
    stage.claim("verify has no complaint", "enos-edge" not in said, said)
    plain = exposure(guest)
    stage.claim("the exposure is within the bound", plain <= BOUND, plain)
    worths = []
    for name, bound in DROP_INS.items():
        guest.drop_in((TOP / f"packaging/systemd/drop-ins/{name}.conf").read_text(), "story")
        worth = exposure(guest)
        stage.claim(f"with {name} as well", worth <= bound, worth)
        worths.append(f"{name} {worth}")
        said = guest.run("systemd-analyze verify --man=no enos-edge.service 2>&1")
        stage.claim(f"{name} is understood", "enos-edge" not in said, said)
    found = {path.stem for path in (TOP / "packaging/systemd/drop-ins").glob("*.conf")}
    stage.claim("every drop-in was looked at", found == set(DROP_INS), found)
    stage.fact(f"exposure {plain}; with {', '.join(worths)}")


def exposure(guest):
    said = guest.run("systemd-analyze security enos-edge.service --no-pager")
    return float(re.search(r"exposure level for enos-edge.service: ([0-9.]+)", said)[1])
