"""Long after its trial: an engine that crashes again and again is taken back; what apt installs is the last word, a person may
choose again, and purging takes the slots too."""

from guest import until
from ota import PACKAGED, Ota, all_engines
from packages import of_engine


def story(stage):
    engines = all_engines()
    good, later = engines.engine("0.2.0"), engines.engine("0.3.0", "crash-confirmed")
    ota = Ota(stage)
    guest = stage.guest
    newer = of_engine(engines.program_of("0.1.5"), "0.1.5~story", stage.folder)
    ota.takes(good)
    ota.takes(later)
    guest.run("systemctl restart enos-edge", check=False)
    until("the one before is back", lambda: ota.status() and ota.running() == ("a", "0.2.0"), 60)
    ota.forget_connects()
    ota.deaths()
    why = "engine 0.3.0 ended by itself 10 times within 60 min"
    until("the cloud hears why", lambda: why in str(ota.events()), 30)
    until("and which version runs", lambda: ota.told()["version"] == "0.2.0", 30)
    stage.claim("the doctor says so", why in guest.run("enos-edge doctor", check=False), guest.run("enos-edge doctor", check=False))
    ota.well()
    stage.fact(f"taken back after {len((ota.state() / 'deaths').read_text().split())} crashes")

    # Newer than the package was, older than the engine that runs: all the same it is what a person installed last.
    apt(guest, newer)
    runs(ota, "packaged", "0.1.5")
    until("the cloud hears of it", lambda: "engineUpgraded" in str(ota.events()), 30)
    guest.run("enos-edge engine use a && systemctl restart enos-edge")
    runs(ota, "a", "0.2.0")
    apt(guest, newer, "--reinstall")
    runs(ota, "a", "0.2.0")
    former = of_engine(engines.program_of(PACKAGED), "0.1.0~story", stage.folder)
    said = apt(guest, former, check=False)
    stage.claim("apt goes back for nobody who does not say so", "downgrade" in said, said)
    runs(ota, "a", "0.2.0")
    apt(guest, former, "--allow-downgrades")
    runs(ota, "packaged", PACKAGED)
    stage.nothing_lost(ota.site, beyond_bound=True)

    stage.claim("slots were there", guest.succeeds("test -x /var/lib/enos-edge/engines/a/enos-edge"))
    guest.run("systemctl start enos-edge; rm -rf /etc/enos-edge/site /etc/enos-edge/*.p*; dpkg -P enos-edge")
    left = guest.run("find / -xdev -path '*enos-edge*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*' -not -path '/etc/systemd/system/*' 2>/dev/null", check=False)
    stage.claim("purged, nothing is left of them", left.strip() == "", left)


def apt(guest, deb, *flags, check=True):
    guest.path(f"/srv/{deb.name}").write_bytes(deb.read_bytes())
    words = " ".join(("apt-get install -y -o Dpkg::Options::=--force-confold", *flags))
    return guest.run(f"DEBIAN_FRONTEND=noninteractive {words} /srv/{deb.name} 2>&1", check=check, within=120)


def runs(ota, place, version):
    until(f"{version} runs", lambda: ota.status() and ota.running() == (place, version), 30)
    ota.forget_connects()
    until("the cloud knows", lambda: ota.told()["version"] == version, 30)
    ota.well()
