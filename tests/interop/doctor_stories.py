"""The doctor before real servers: a wrong secret at the stand-in cloud, a wrong password at mosquitto, and a gateway that keeps its session."""
import json
import subprocess

from site_files import GATEWAY, TESTBED, Gateway, Peer, free_port, running, wait_until, write_site
from stand_in import StandIn


def looked(folder, *only) -> dict:
    """All findings by probe: `level what`."""
    words = [GATEWAY, "doctor", "--json", "--config", folder / "edge.yaml"]
    for probe in only:
        words += ["--only", probe]
    said = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True, timeout=30)
    assert said.returncode in (0, 1), said
    report = json.loads(said.stdout)
    found = {"gateway": report["gateway"]}
    for finding in report["findings"]:
        found.setdefault(finding["probe"], []).append(f"{finding['level']} {finding['where']} {finding['what']}")
    return found


def site(folder, meter: int, more: str):
    write_site(
        folder,
        f"name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {meter}\n  scan_period_ms: 100\n",
        "name,number,value type,point type,coefficient,base value,alias\nreads,0,ushort,ai,1,0,\n",
        [("counter", 1)], [("reads", "int")], [("reads", "ai.0")], more,
    )
    (folder / "edge.yaml").chmod(0o600)


def the_doctor_tells_a_wrong_secret_from_a_right_one_and_disturbs_no_session(folder):
    cloud = StandIn(
        "--tls-port", 0, "--ca-file", folder / "ca.pem", "--gateway", "gwPK01/edge/right-secret",
        "--sub-device", "pk/counter/s-counter", "--no-connect-limit",
    )
    port = free_port()
    with running(cloud, Peer(TESTBED, "meter", "--port", port)):
        def told(secret: str):
            site(folder, port, f"cloud:\n  url: ssl://127.0.0.1:{cloud.tls_port}\n  product_key: gwPK01\n  device_key: edge\n"
                 f"  device_secret: {secret}\n  ca_file: {folder}/ca.pem\n")
        told("wrong-secret")
        found = looked(folder, "network", "login")
        assert found["gateway"] == "stopped", found
        assert found["network"][0].startswith("ok") and "proved who it is" in found["network"][0], found
        assert found["login"][0].startswith("fault") and "refused the login" in found["login"][0], found
        told("right-secret")
        found = looked(folder, "login")
        assert found["login"][0].startswith("ok") and "is taken" in found["login"][0], found
        gateway = Gateway(folder)
        with running(gateway):
            wait_until("online", lambda: (gateway.ask("status").get("cloud") or {}).get("state") == "online", 60)
            wait_until("values arrive", lambda: gateway.counter("acknowledged") > 10)
            connects = gateway.counter("cloud_connects")
            for _ in range(3):
                found = looked(folder)
                assert found["gateway"] == "running" and "says the running gateway" in found["login"][0], found
            status = gateway.ask("status")
            assert status["counters"]["cloud_connects"] == connects and status["cloud"]["state"] == "online", status["cloud"]
            assert found["devices"] == ["ok  1 of 1 answer"], found
            assert found["delivery"][0].startswith("ok") and "last acknowledged" in found["delivery"][0], found


def the_doctor_tells_a_wrong_password_at_mosquitto(folder):
    port = free_port()
    subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "passwords", "plant", "right"], check=True)
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\npassword_file {folder}/passwords\nallow_anonymous false\nuser root\n")
    broker = Peer("mosquitto", "-c", folder / "mosquitto.conf", ready=None)
    with running(broker):
        def told(password: str):
            site(folder, free_port(), f"destinations:\n  - name: plant\n    url: tcp://127.0.0.1:{port}\n    user: plant\n    password: {password}\n    topic: t\n")
        told("wrong")
        wait_until("a refusal", lambda: "refused the login" in looked(folder, "login")["login"][0])
        assert looked(folder, "login")["login"][0].startswith("fault")
        told("right")
        found = looked(folder, "login")["login"][0]
        assert found.startswith("ok"), found


STORIES = [
    the_doctor_tells_a_wrong_secret_from_a_right_one_and_disturbs_no_session,
    the_doctor_tells_a_wrong_password_at_mosquitto,
]
