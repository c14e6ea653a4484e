"""Updates over the air: the file at nginx (HTTP, HTTPS) or the cloud's HTTP broker, the offer from the stand-in cloud, the real
gateway killed at every step."""
import contextlib
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from file_servers import authority, nginx
from site_files import GATEWAY, Gateway, running, wait_until
from stand_in import StandIn

#: Does not compress, and takes a few seconds at nginx's pace.
SIZE = 24 << 20
KILLS = 10

#: A firmware target: keeps a copy, and says which version runs.
TARGET = """#!/bin/sh
step=$1
at=$HOME_OF_STORY
case $step in
info) echo "version $(cat $at/running 2>/dev/null || echo 1.0.0)";;
esac
"""


def build(folder: pathlib.Path, root: pathlib.Path, version: str) -> pathlib.Path:
    payload = folder / f"payload-{version}"
    payload.write_bytes(random.Random(version).randbytes(SIZE))
    file = root / f"fw-{version}.tar.gz"
    subprocess.run(
        [GATEWAY, "update", "build", "--kind", "firmware", "--target", "store", "--version", version, "--binary", payload,
         "--key", folder / "key", "-o", file], check=True, capture_output=True,
    )
    return file


def write_gateway(folder: pathlib.Path, cloud: StandIn, conditions: str, more: str = ""):
    (folder / "edge.yaml").write_text(f"""state_dir: {folder}/state
cloud: {{ url: "tcp://127.0.0.1:{cloud.port}", product_key: gw, device_key: gw1, device_secret: s }}
update:
  keys: [ {folder}/key.pub ]
  hosts: [ 127.0.0.1 ]
  cleartext: true
  conditions_dir: {folder}/{conditions}
  firmware_dir: {folder}/firmware.d
{more}""")


def offer(file: pathlib.Path, port: int, version: str) -> str:
    return offer_at(file, f"http://127.0.0.1:{port}/{file.name}", version)


def offer_at(file: pathlib.Path, url: str, version: str, method: str = "md5") -> str:
    data = file.read_bytes()
    sign = hashlib.new(method, data).hexdigest()
    return json.dumps({"version": version, "signMethod": method, "sign": sign.upper(), "fileUrl": url, "fileSize": len(data)})


def stage(folder: pathlib.Path) -> pathlib.Path:
    """Keys, a target, and a condition that says no: a story ends where a target would begin. Answers what nginx serves."""
    root = folder / "www"
    for below in (root, folder / "never", folder / "firmware.d", folder / "tmp"):
        below.mkdir()
    subprocess.run([GATEWAY, "package", "keygen", "-o", folder / "key"], check=True, capture_output=True)
    (folder / "never/hold").write_text("#!/bin/sh\necho the plant runs\nexit 75\n")
    (folder / "never/hold").chmod(0o755)
    (folder / "firmware.d/store").write_text(TARGET.replace("$HOME_OF_STORY", str(folder)))
    (folder / "firmware.d/store").chmod(0o755)
    return root


class Mortal(Gateway):
    def again(self):
        """Killed and started. What it remembers of its connects goes: the pace of logins is another story."""
        self.kill()
        for file in (self.folder / "state/identity").glob("*connects*"):
            file.unlink()
        self.__init__(self.folder)


@contextlib.contextmanager
def ending(gateway: Mortal, *others):
    """Whatever happens, all of it ends; if it goes wrong, with the last words of the gateway."""
    with running(gateway, *others):
        try:
            yield
        except BaseException:
            print(gateway.tail())
            raise


def job(gateway: Gateway) -> dict:
    try:
        return gateway.ask("update", "status").get("job") or {}
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return {}


def a_gateway_killed_while_it_downloads_verifies_and_waits_goes_on(folder: pathlib.Path):
    root = stage(folder)
    file = build(folder, root, "2.0.0")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    "server.key", "-out", "server.pem", "-subj", "/CN=x"], cwd=folder, check=True, capture_output=True)
    server = nginx(folder, root)
    cloud = StandIn("--gateway", "gw/gw1/s", "--no-connect-limit")
    write_gateway(folder, cloud, "never")
    gateway = Mortal(folder)
    with ending(gateway, cloud, server):
        wait_until("the gateway is online", lambda: cloud.ask("ota gw gw1")["version"])
        cloud.order(f"upgrade gw gw1 {offer(file, server.port, '2.0.0')}")
        answer = cloud.said(30)
        assert answer.get("answer", {}).get("code", 200) == 200, answer
        states = set()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.1, 2.0))
            states.add(job(gateway).get("state"))
            gateway.again()
        wait_until("it waits", lambda: "the plant runs" in (job(gateway).get("why") or ""), 60)
        gateway.again()
        wait_until("it still waits", lambda: job(gateway).get("state") == "waiting", 20)
        log = (folder / "access.log").read_text().splitlines()
        sent = sum(int(line.split()[9]) for line in log)
        assert sent < 1.5 * file.stat().st_size + (KILLS << 20), f"{sent} bytes for {file.stat().st_size}"
        progress = [int(step) for step, _ in wait_until("progress came", lambda: cloud.ask("ota gw gw1")["progress"])]
        assert progress == sorted(progress) and progress[-1] < 100, progress
        subprocess.run([GATEWAY, "update", "cancel", "--config", folder / "edge.yaml"], check=True, capture_output=True)
        last = lambda: (found := cloud.ask("ota gw gw1")["progress"]) and found[-1][0] == "-5" and found[-1]
        print(f"    {KILLS + 1} kills in {sorted(filter(None, states))}, {sent / file.stat().st_size:.2f} of the file sent, told {wait_until('the end is told', last)}")


def held(folder: pathlib.Path) -> int:
    """Bytes of the update file that are here."""
    return max((part.stat().st_size for part in (folder / "state/update/work").glob("*.part")), default=0)


def pushed(cloud: StandIn, order: str):
    cloud.order(f"upgrade gw gw1 {order}")
    answer = cloud.said(30).get("answer", {})
    assert answer.get("code") == 200, answer


def end_of(cloud: StandIn, seconds: float = 60):
    """Step and words of the failure that the cloud was told."""
    last = lambda: (found := cloud.ask("ota gw gw1")["progress"]) and int(found[-1][0]) < 0 and found[-1]
    return wait_until("the end is told", last, seconds)


def a_file_by_https_needs_the_right_authority_and_goes_on_after_each_cut(folder: pathlib.Path):
    root = stage(folder)
    file = build(folder, root, "2.0.0")
    authority(folder)
    (folder / "other").mkdir()
    authority(folder / "other")
    server = nginx(folder, root)
    cloud = StandIn("--gateway", "gw/gw1/s", "--no-connect-limit")
    write_gateway(folder, cloud, "never", f"  ca_file: {folder}/other/ca.pem\n")
    gateway = Mortal(folder)
    url = f"https://127.0.0.1:{server.tls}/{file.name}"
    with ending(gateway, cloud, server):
        wait_until("the gateway is online", lambda: cloud.ask("ota gw gw1")["version"])
        pushed(cloud, offer_at(file, url, "2.0.0"))
        step, words = end_of(cloud)
        assert step == "-2" and "tls" in words and "invalid peer certificate" in words and "ca_file" in words, (step, words)
        # A file trusted by nobody leaves nothing behind.
        assert held(folder) == 0 and job(gateway)["end"] is True, job(gateway)
        write_gateway(folder, cloud, "never", f"  ca_file: {folder}/ca.pem\n")
        gateway.again()
        wait_until("the gateway is online", lambda: job(gateway))
        pushed(cloud, offer_at(file, url, "2.0.0"))
        cuts = []
        for which in (server.cut, server.fall, server.cut):
            goal = held(folder) + random.randrange(1 << 20, 4 << 20)
            wait_until("it grows", lambda: held(folder) >= goal, 40)
            which()
            cuts.append(held(folder))
            if which == server.fall:
                server.start()
        wait_until("it waits", lambda: "the plant runs" in (job(gateway).get("why") or ""), 60)
        log = [line.split('"')[2].split() for line in (folder / "access.log").read_text().splitlines()]
        parts = [int(size) for status, size in log if status == "206"]
        # A worker that is killed logs nothing: what is logged at the end is the rest behind the last cut.
        assert parts and parts[-1] <= file.stat().st_size - cuts[-1] + (1 << 20), (log, cuts)
        print(f"    refused with {step}: {words[:70]}…; cut at {cuts} of {file.stat().st_size}, the last part had {parts[-1]}")


def a_file_that_changes_between_two_parts_is_begun_anew(folder: pathlib.Path):
    root = stage(folder)
    file = build(folder, root, "2.0.0")
    good = file.read_bytes()
    authority(folder)
    # Of the same length, so that only the ETag tells it apart, until the digest would.
    file.write_bytes(random.Random(3).randbytes(len(good)))
    os.utime(file, (1_700_000_000, 1_700_000_000))
    server = nginx(folder, root)
    cloud = StandIn("--gateway", "gw/gw1/s", "--no-connect-limit")
    write_gateway(folder, cloud, "never", f"  ca_file: {folder}/ca.pem\n")
    gateway = Mortal(folder)
    with ending(gateway, cloud, server):
        wait_until("the gateway is online", lambda: cloud.ask("ota gw gw1")["version"])
        (folder / "good").write_bytes(good)
        pushed(cloud, offer_at(folder / "good", f"https://127.0.0.1:{server.tls}/{file.name}", "2.0.0", "sha256"))
        wait_until("it grows", lambda: held(folder) > 2 << 20)
        server.fall()
        (folder / "good").rename(file)
        file.chmod(0o644)
        server.start()
        wait_until("it waits", lambda: "the plant runs" in (job(gateway).get("why") or ""), 60)
        log = [line.split('"')[2].split() for line in (folder / "access.log").read_text().splitlines()]
        assert log[-1] == ["200", str(len(good))], f"the whole of the new one, in one piece: {log}"
        print(f"    changed after {2 << 20} bytes; then {log[-1][1]} bytes in one piece")


def a_file_of_the_http_broker_goes_on_over_kills_cuts_and_new_sessions(folder: pathlib.Path):
    root = stage(folder)
    file = build(folder, root, "2.0.0")
    size = file.stat().st_size
    cloud = StandIn("--gateway", "gw/gw1/s", "--no-connect-limit", "--http-port", 0, "--http-ca-file", folder / "ca.pem")
    write_gateway(folder, cloud, "never", f"  ca_file: {folder}/ca.pem\n  http_broker: {cloud.http}\n")
    uri = "enos-connect://6f1/panel.tar.gz"
    cloud.order(f"http file {uri} {file}")
    # As the vendor's SDK takes it: ranges without anything that proves them.
    for knob in ("without_proof true", "session_for_one true", f"cut {size // 4}"):
        cloud.order(f"http {knob}")
    gateway = Mortal(folder)
    with ending(gateway, cloud):
        wait_until("the gateway is online", lambda: cloud.ask("ota gw gw1")["version"])
        pushed(cloud, offer_at(file, uri, "2.0.0"))
        for part in (1, 2):
            wait_until("it grows", lambda: held(folder) >= part * (size // 4) - (4 << 20), 40)
            gateway.again()
        wait_until("it waits", lambda: "the plant runs" in (job(gateway).get("why") or ""), 60)
        stats = cloud.ask("http stats")
        assert stats["logins"] == stats["downloads"] and stats["downloads"] >= 4, stats
        assert stats["refused_logins"] == stats["refused_downloads"] == 0, stats
        # What a kill may cost is what was not written yet.
        assert stats["bytes"] < size + 3 * (size // 4), (stats, size)
        print(f"    {stats['logins']} logins, {stats['downloads']} downloads, {stats['bytes'] / size:.2f} of the file sent")
        subprocess.run([GATEWAY, "update", "cancel", "--config", folder / "edge.yaml"], check=True, capture_output=True)
        status = gateway.command("status").stdout
        assert "update" in status and "2.0.0: refused (cancelled by a person)" in status, status


STORIES = [
    a_gateway_killed_while_it_downloads_verifies_and_waits_goes_on,
    a_file_by_https_needs_the_right_authority_and_goes_on_after_each_cut,
    a_file_that_changes_between_two_parts_is_begun_anew,
    a_file_of_the_http_broker_goes_on_over_kills_cuts_and_new_sessions,
]


def main():
    random.seed(18)
    for story in STORIES:
        if sys.argv[1:] and story.__name__ not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            print(f"- {story.__name__.replace('_', ' ')}", flush=True)
            story(pathlib.Path(folder).resolve())


if __name__ == "__main__":
    main()
