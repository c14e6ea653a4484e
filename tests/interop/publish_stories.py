"""Packages that the cloud publishes: stories of fetch_stories.py, which runs them."""
import hashlib
import json
import pathlib
import random
import shutil
import subprocess

from fetching import Daemon, configure, package, served, told
from file_servers import authority, nginx, standing
from site_files import GATEWAY, wait_until
from stand_in import StandIn


def cloud_of(folder: pathlib.Path) -> tuple[StandIn, dict]:
    cloud = StandIn("--gateway", "gw/gw1/s", "--accept-all", "--no-connect-limit")
    return cloud, {"url": f"tcp://127.0.0.1:{cloud.port}", "product_key": "gw", "device_key": "gw1", "device_secret": "s"}


def publish(cloud: StandIn, inputs: dict, number: int) -> dict:
    cloud.order(f"command gw gw1 thing/service/updatePackage id={number} {json.dumps(inputs)}")
    return cloud.said(40)["answer"]


def steps_of(cloud: StandIn, number) -> list:
    events = [event for event in cloud.ask("events") if event["event"] == "packageProgress"]
    return [event["outputs"] for event in events if event["outputs"].get("publish") == str(number)]


def states_of(cloud: StandIn, number) -> list:
    return [step["state"] for step in steps_of(cloud, number)]


def the_cloud_publishes_and_is_told_each_step_of_it(folder):
    authority(folder)
    root, _ = served(folder)
    second, third = package(folder, "1.1.0", 9 << 20), package(folder, "1.2.0")
    for archive in (second, third):
        shutil.copy(archive, root)
    sha256 = hashlib.sha256(third.read_bytes()).hexdigest()
    (root / "bad.zip").write_bytes(b"PK no zip")
    cloud, link = cloud_of(folder)
    with standing(server := nginx(folder, root), cloud):
        at = f"https://127.0.0.1:{server.tls}"
        source = {"name": "site", "url": f"{at}/site-1.1.0.tar.gz", "when": "on_notice", "ca_file": str(folder / "ca.pem")}
        hand = {"name": "hand", "url": f"http://127.0.0.1:{server.port}/x.zip", "when": "manual"}
        config = configure(folder, source, hand, cloud=link, publish={"progress_s": 1}, package_watch={"window_s": 2})
        with standing(daemon := Daemon(folder, config)):
            wait_until("the cloud sees it", lambda: cloud.ask("online gw gw1")["online"], 30)
            answer = publish(cloud, {}, 7)
            assert answer["code"] == 200 and answer["data"] == {"publish": "7", "sources": ["site"]}, answer
            wait_until("it is kept", lambda: states_of(cloud, 7)[-1:] == ["kept"], 60)
            told = steps_of(cloud, 7)
            states = [step["state"] for step in told]
            assert [s for s in states if s != "progress"] == ["begun", "verified", "checked", "switched", "watching", "kept"], states
            progress = [step for step in told if step["state"] == "progress"]
            assert progress and all(0 < step["percent"] <= 100 and step["total"] > 9 << 20 for step in progress), told
            assert told[-1]["version"] == "1.1.0" and told[-1]["generation"] == 2 and told[-1]["message"], told[-1]
            assert daemon.generation() == 2
            for words, status in ((("--version", "1.1.0", "--timeout", "5"), 0), (("--version", "9", "--timeout", "0"), 1)):
                waited = subprocess.run([str(GATEWAY), "package", "wait", "--json", "--config", str(config), *words],
                                        capture_output=True, text=True)
                assert waited.returncode == status and json.loads(waited.stdout)["version"] == "1.1.0", waited
            for inputs, code, words in (
                ({"url": "https://127.0.0.1:1/site-1.2.0.tar.gz"}, 2017, "configured hosts"),
                ({"url": f"http://127.0.0.1:{server.port}/site-1.2.0.tar.gz"}, 2017, "configured hosts"),
                ({"url": "file:///etc/passwd"}, 2017, "configured hosts"),
                ({"source": "hand"}, 2017, "person"), ({"sha256": "12"}, 2000, "64 hex digits"), ({"what": 1}, 2000, "not known"),
            ):
                answer = publish(cloud, inputs, random.randrange(10**6, 10**9))
                assert answer["code"] == code and words in answer["message"], (inputs, answer)
            # The same again runs already; another digest or version than was said is refused, and the right one taken.
            assert publish(cloud, {"url": f"{at}/site-1.1.0.tar.gz"}, 8)["code"] == 200
            wait_until("it runs already", lambda: states_of(cloud, 8)[-1:] == ["unchanged"], 40)
            other = {"url": f"{at}/site-1.2.0.tar.gz"}
            assert publish(cloud, {**other, "version": "1.3.0"}, 9)["code"] == 200
            wait_until("it is refused", lambda: states_of(cloud, 9)[-1:] == ["refused"], 40)
            assert "1.3.0" in steps_of(cloud, 9)[-1]["message"], steps_of(cloud, 9)
            assert publish(cloud, {"url": f"{at}/bad.zip"}, 10)["code"] == 200
            wait_until("it is refused", lambda: states_of(cloud, 10)[-1:] == ["refused"], 40)
            assert steps_of(cloud, 10)[-1]["faults"] >= 1 and daemon.generation() == 2, steps_of(cloud, 10)
            assert publish(cloud, {**other, "sha256": "0" * 64}, 11)["code"] == 200
            wait_until("it fails", lambda: states_of(cloud, 11)[-1:] == ["failed"], 40)
            assert steps_of(cloud, 11)[-1]["step"] == "digest" and sha256 in steps_of(cloud, 11)[-1]["message"]
            assert publish(cloud, {**other, "sha256": sha256, "version": "1.2.0"}, 12)["code"] == 200
            wait_until("it is switched", lambda: "switched" in states_of(cloud, 12), 40)
            assert states_of(cloud, 11)[-1] == "failed" and daemon.generation() == 3
            audit = subprocess.run([str(GATEWAY), "audit", "--json", "--config", str(config)], capture_output=True, text=True).stdout
            asked = [record for record in json.loads(audit) if "updatePackage" in json.dumps(record)]
            assert len(asked) >= 12 and all(record["door"] == "enos" for record in asked), audit


def the_result_of_a_publish_outlives_a_dead_link_and_a_dead_gateway(folder):
    authority(folder)
    root, _ = served(folder)
    shutil.copy(package(folder, "1.1.0", 9 << 20), root)
    cloud, link = cloud_of(folder)
    with standing(server := nginx(folder, root), cloud):
        source = {"name": "site", "url": f"http://127.0.0.1:{server.port}/site-1.1.0.tar.gz", "when": "on_notice"}
        config = configure(folder, source, cloud=link, package_watch={"window_s": 1})
        part = folder / "state/incoming/site.part"
        daemon = Daemon(folder, config)
        try:
            wait_until("the cloud sees it", lambda: cloud.ask("online gw gw1")["online"], 30)
            assert publish(cloud, {}, 7)["code"] == 200
            wait_until("it grows", lambda: part.exists() and part.stat().st_size > 1 << 20, 20)
            # Killed in the middle of the transfer, with the link down from now on.
            daemon.process.kill()
            daemon.process.wait()
            cloud.order("down")
            half = part.stat().st_size
            daemon = Daemon(folder, config)
            wait_until("it goes on by itself", lambda: daemon.generation() == 2, 60)
            assert half > 1 << 20 and '" 206 ' in (folder / "access.log").read_text(), "it was not resumed"
            waiting = folder / "state/notices/waiting"
            wait_until("the result waits on disk", lambda: '"kept"' in waiting.read_text(), 20)
            daemon.process.kill()
            daemon.process.wait()
            cloud.order("up")
            daemon = Daemon(folder, config)
            wait_until("the cloud is told", lambda: "kept" in states_of(cloud, 7), 60)
            states = states_of(cloud, 7)
            for state in ("begun", "verified", "checked", "switched", "kept"):
                assert state in states, states
            wait_until("nothing waits", lambda: waiting.read_text().strip() == "[]", 20)
        finally:
            daemon.kill()
