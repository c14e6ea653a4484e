"""Updates over the air: the file at nginx, the offer from the stand-in cloud, the real gateway killed at every step."""
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from fetch_stories import nginx
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


def write_gateway(folder: pathlib.Path, cloud: StandIn, conditions: str):
    (folder / "edge.yaml").write_text(f"""state_dir: {folder}/state
cloud: {{ url: "tcp://127.0.0.1:{cloud.port}", product_key: gw, device_key: gw1, device_secret: s }}
update:
  keys: [ {folder}/key.pub ]
  hosts: [ 127.0.0.1 ]
  cleartext: true
  conditions_dir: {folder}/{conditions}
  firmware_dir: {folder}/firmware.d
""")


def offer(file: pathlib.Path, port: int, version: str) -> str:
    data = file.read_bytes()
    return json.dumps({
        "version": version, "signMethod": "md5", "sign": hashlib.md5(data).hexdigest().upper(),
        "fileUrl": f"http://127.0.0.1:{port}/{file.name}", "fileSize": len(data),
    })


def again(gateway: Gateway) -> Gateway:
    """Killed and started. What it remembers of its connects goes: the pace of logins is another story."""
    gateway.kill()
    for file in (gateway.folder / "state/identity").glob("*connects*"):
        file.unlink()
    return Gateway(gateway.folder)


def job(gateway: Gateway) -> dict:
    try:
        return gateway.ask("update", "status").get("job") or {}
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return {}


def a_gateway_killed_while_it_downloads_verifies_and_waits_goes_on(folder: pathlib.Path):
    root = folder / "www"
    for below in (root, folder / "never", folder / "firmware.d", folder / "tmp"):
        below.mkdir()
    subprocess.run([GATEWAY, "package", "keygen", "-o", folder / "key"], check=True, capture_output=True)
    # Nothing here says yes: the story ends where a target would begin.
    (folder / "never/hold").write_text("#!/bin/sh\necho the plant runs\nexit 75\n")
    (folder / "never/hold").chmod(0o755)
    (folder / "firmware.d/store").write_text(TARGET.replace("$HOME_OF_STORY", str(folder)))
    (folder / "firmware.d/store").chmod(0o755)
    file = build(folder, root, "2.0.0")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    "server.key", "-out", "server.pem", "-subj", "/CN=x"], cwd=folder, check=True, capture_output=True)
    server = nginx(folder, root)
    cloud = StandIn("--gateway", "gw/gw1/s", "--no-connect-limit")
    write_gateway(folder, cloud, "never")
    gateway = Gateway(folder)
    try:
        wait_until("the gateway is online", lambda: cloud.ask("ota gw gw1")["version"])
        cloud.order(f"upgrade gw gw1 {offer(file, server.port, '2.0.0')}")
        answer = cloud.said(30)
        assert answer.get("answer", {}).get("code", 200) == 200, answer
        states = set()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.1, 2.0))
            states.add(job(gateway).get("state"))
            gateway = again(gateway)
        wait_until("it waits", lambda: "the plant runs" in (job(gateway).get("why") or ""), 60)
        gateway = again(gateway)
        wait_until("it still waits", lambda: job(gateway).get("state") == "waiting", 20)
        log = (folder / "access.log").read_text().splitlines()
        sent = sum(int(line.split()[9]) for line in log)
        assert sent < 1.5 * file.stat().st_size + (KILLS << 20), f"{sent} bytes for {file.stat().st_size}"
        progress = [int(step) for step, _ in wait_until("progress came", lambda: cloud.ask("ota gw gw1")["progress"])]
        assert progress == sorted(progress) and progress[-1] < 100, progress
        subprocess.run([GATEWAY, "update", "cancel", "--config", folder / "edge.yaml"], check=True, capture_output=True)
        last = lambda: (found := cloud.ask("ota gw gw1")["progress"]) and found[-1][0] == "-5" and found[-1]
        print(f"    {KILLS + 1} kills in {sorted(filter(None, states))}, {sent / file.stat().st_size:.2f} of the file sent, told {wait_until('the end is told', last)}")
    except BaseException:
        print(gateway.tail())
        raise
    finally:
        gateway.kill()
        cloud.kill()
        server.kill()


STORIES = [a_gateway_killed_while_it_downloads_verifies_and_waits_goes_on]


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
