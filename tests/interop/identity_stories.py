"""Stories of the gateway's identity: activation, the whole life of a certificate, kills in the middle, planted secrets."""
import contextlib
import json
import pathlib
import random
import shutil
import time

from site_files import TESTBED, Gateway, Peer, free_port, running, wait_until, write_site
from stand_in import StandIn

ACCOUNT = "life-access:life-rest-secret"
POINTS = "name,number,value type,point type,coefficient,base value,alias\nreads,0,ushort,ai,1,0,\n"


def identity_site(folder, cloud, keys: str, certificate: str | None = ""):
    """A gateway gwPK01/edge with one sub-device, secure mode 3 or 2, mutual TLS; `certificate` None: it keeps none."""
    meter = free_port()
    rest = (
        f"rest:\n  url: {cloud.rest}\n  access_key: life-access\n  secret_key: life-rest-secret\n  org_id: o1\n"
        f"  timeout_ms: 2000\n  connect_timeout_ms: 1000\ncertificate:\n  ca_file: {folder}/device-ca.pem\n{certificate}"
    )
    write_site(
        folder,
        f"name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {meter}\n  scan_period_ms: 100\n",
        POINTS, [("counter", 1)], [("reads", "int")], [("reads", "ai.0")],
        f"cloud:\n  url: ssl://127.0.0.1:{cloud.tls_port}\n  product_key: gwPK01\n  device_key: edge\n"
        f"  ca_file: {folder}/cloud-ca.pem\n{keys}{'' if certificate is None else rest}",
    )
    (folder / "edge.yaml").chmod(0o600)
    return Peer(TESTBED, "meter", "--port", meter)


def identity_cloud(folder, life: int, *flags) -> StandIn:
    return StandIn(
        "--tls-port", 0, "--ca-file", folder / "cloud-ca.pem", "--rest-port", 0, "--rest-life", life,
        "--rest-ca-file", folder / "device-ca.pem", "--rest-account", ACCOUNT,
        "--gateway", "gwPK01/edge/edgeDeviceSecret", "--sub-device", "pk/counter/s-counter",
        "--product", "gwPK01/edgeProductSecret", "--require-certificate", "gwPK01", "--no-connect-limit", *flags,
    )


ACTIVATED = "  product_secret: edgeProductSecret\n"


def roles(gateway) -> dict:
    """The pairs of `enos-edge certificate --json` by their role."""
    return {slot["role"]: slot for slot in gateway.ask("certificate").get("slots", [])}


def serial_in_use(gateway):
    return roles(gateway).get("current", {}).get("cloud_serial")


def values(cloud) -> int:
    return cloud.ask("stats")["values"]


def flows(cloud, gateway, seconds=30):
    before = values(cloud)
    wait_until(f"data flows; {gateway.tail()}", lambda: values(cloud) > before + 5, seconds)


def a_certificate_lives_its_whole_life(folder):
    cloud = identity_cloud(folder, 40)
    meter = identity_site(folder, cloud, ACTIVATED)
    gateway = Gateway(folder)
    with running(cloud, meter, gateway):
        # Applied for, activated, shown.
        flows(cloud, gateway, 40)
        wait_until(f"promoted; {gateway.tail()}", lambda: "current" in roles(gateway))
        assert cloud.ask("online gwPK01 edge")["certificate"] is not None, "no certificate was shown"
        assert gateway.ask("identity", "show")["device_secret"] == "activated", gateway.ask("identity", "show")
        page = gateway.command("status").stdout
        assert "\ncert " in page and "\nidentity " in page, page
        first = serial_in_use(gateway)
        # Renewed by itself, and promoted; the one before stays.
        wait_until(f"renewed; {gateway.tail()}", lambda: serial_in_use(gateway) not in (None, first), 60)
        assert roles(gateway)["before"]["cloud_serial"] is not None, gateway.ask("certificate")
        asked = cloud.ask("rest asked")
        assert sum("action=apply" in line for line in asked) == 1, asked
        # By hand; the connect budget lets it wait as a candidate.
        second = serial_in_use(gateway)
        done = gateway.command("certificate", "renew")
        assert done.returncode == 0 and "issued: serial" in done.stdout, done
        newest = roles(gateway)["candidate"]
        assert newest["cloud_serial"] not in (first, second), gateway.ask("certificate")
        # The interface is away until all have ended; asking by hand says so.
        for fault, words in (("down true", "can not be reached"), ("status 500", "http status 500"), ("unauthorised true", "not authorised")):
            cloud.order(f"rest {fault}")
            done = gateway.command("certificate", "renew")
            assert done.returncode == 1 and words in done.stderr, done
            cloud.order(f"rest {fault.split()[0]} {'off' if '500' in fault else 'false'}")
        cloud.order("rest wrong other_authority")
        done = gateway.command("certificate", "renew")
        assert done.returncode == 1 and "does not lead to the authority" in done.stderr, done
        cloud.order("rest down true")
        wait_until("the end", lambda: time.time() > newest["not_after"] / 1000 + 1, 60)
        wait_until(f"told; {gateway.tail()}", lambda: gateway.told("certificate has expired"), 30)
        page = gateway.command("status").stdout
        assert "expired" in page and "last error" in page, page
        assert values(cloud) > 0 and cloud.ask("online gwPK01 edge")["online"], "a link that stands is not cut by the end"
        cloud.order("rest wrong off")
        cloud.order("rest down false")
        wait_until(f"applied anew; {gateway.tail()}", lambda: serial_in_use(gateway) not in (None, second), 150)
        flows(cloud, gateway, 40)
        asked = cloud.ask("rest asked")
        assert sum("action=apply" in line for line in asked) >= 2, asked
        gateway.stop()
    print(f"    {len(asked)} requests, {gateway.told('is in use from now on')} promotions")


def forget_connects(folder):
    """This cloud counts no connects, and a story of thirty kills has no two minutes for each."""
    for note in (folder / "state/identity").glob("connects-*.json"):
        note.unlink()


def killed_at_any_moment_of_activation_it_has_a_working_identity(folder, kills=15):
    cloud = identity_cloud(folder, 3600)
    meter = identity_site(folder, cloud, ACTIVATED)
    kept = {True: 0, False: 0}
    with running(cloud, meter):
        for n in range(kills):
            shutil.rmtree(folder / "state", ignore_errors=True)
            gateway = Gateway(folder)
            with running(gateway):
                time.sleep(random.uniform(0.05, 1.6))
            kept[any((folder / "state/identity").glob("device-*.json"))] += 1
            forget_connects(folder)
            for left in (folder / "state/identity").glob("certificate-pace-*.json"):
                left.unlink()  # Killed while it asked, it would wait a minute.
            for pair in (folder / "state/identity").glob("certificate-[0-9]-*.json"):
                if not json.loads(pair.read_text())["chain"]:
                    pair.unlink()
            gateway = Gateway(folder)
            with running(gateway):
                flows(cloud, gateway, 20)
                shown = gateway.ask("identity", "show")
                assert (shown["device_secret"], shown["secure_mode"]) == ("activated", 2), shown
                gateway.stop()
    print(f"    {kills} kills, {kept[True]} with the secret on disk")


def killed_at_any_moment_of_renewals_it_never_is_without_a_certificate(folder, kills=15):
    cloud = identity_cloud(folder, 20)
    meter = identity_site(folder, cloud, "  device_secret: edgeDeviceSecret\n")
    gateway = Gateway(folder)
    with running(cloud, meter, gateway):
        flows(cloud, gateway)
        wait_until("promoted", lambda: "current" in roles(gateway))
        for n in range(kills):
            time.sleep(random.uniform(0.2, 6))
            gateway.kill()
            forget_connects(folder)
            gateway.log.close()
            gateway = Gateway(folder)
            shown = wait_until("it runs", lambda: gateway.ask("certificate").get("slots"))
            assert any(slot["role"] in ("current", "before") for slot in shown), shown
        with running(gateway):
            ends = roles(gateway)["current"]["not_after"]
            fresh = lambda: roles(gateway)["current"]["not_after"] > max(ends, time.time() * 1000)
            wait_until(f"it goes on; {gateway.tail()}", fresh, 200)
            flows(cloud, gateway, 30)
            gateway.stop()
        issued = len(cloud.ask("rest certificates"))
    print(f"    {kills} kills, {issued} certificates")


PLANTED = {
    "product secret": "edgeProductSecret", "device secret": "edgeDeviceSecret", "rest secret": "life-rest-secret",
    "sub-device secret": "s-counter", "broker password": "planted-broker-password",
}


def planted_secrets_are_found_nowhere(folder):
    cloud = identity_cloud(folder, 30)
    meter = identity_site(folder, cloud, ACTIVATED)
    with open(folder / "edge.yaml", "a") as more:
        more.write(
            f"destinations:\n  - name: scada\n    url: tcp://127.0.0.1:{free_port()}\n    user: u\n"
            "    password: planted-broker-password\n    topic: out/{device}\nlog:\n  level: trace\n"
        )
    gateway = Gateway(folder)
    with running(cloud, meter, gateway):
        flows(cloud, gateway, 40)
        first = serial_in_use(gateway)
        wait_until("renewed", lambda: serial_in_use(gateway) not in (None, first), 60)
        gateway.command("write", "counter", "reads", "5")
        keys = [json.loads(f.read_text())["key"] for f in (folder / "state/identity").glob("certificate-[0-9]-*.json")]
        assert len(keys) >= 2
        planted = dict(PLANTED)
        for number, key in enumerate(keys):
            planted.update({f"line {n} of key {number}": line for n, line in enumerate(key.splitlines()) if len(line) > 30 and "---" not in line})
        proc = pathlib.Path("/proc") / str(gateway.process.pid)
        places = {
            "cmdline": (proc / "cmdline").read_text(), "limits": (proc / "limits").read_text(),
            **{
                " ".join(words): (done := gateway.command(*words)).stdout + done.stderr
                for words in (
                    ("status",), ("status", "--json"), ("certificate",), ("certificate", "--json"), ("identity", "show"),
                    ("identity", "show", "--json"), ("audit", "--json"), ("monitor", "--once"), ("cloud", "devices"),
                    ("cloud", "topology"), ("certificate", "renew"),
                )
            },
        }
        with contextlib.suppress(PermissionError):  # Not dumpable: its environment is closed to its own user.
            places["environ"] = (proc / "environ").read_text()
        core = next(line for line in places["limits"].splitlines() if "core file" in line).split()
        assert core[4:6] == ["0", "0"], core
        gateway.stop()
        places["log"] = (folder / "gateway.log").read_text()
        # A configuration that is wrong where its secrets stand.
        text = (folder / "edge.yaml").read_text()
        for old, new in (
            ("product_secret: edgeProductSecret", "product_secret: [edgeProductSecret]"),
            ("secret_key: life-rest-secret", "secret_key: { life-rest-secret: 1 }"),
            ("password: planted-broker-password", "pasword: planted-broker-password"),
            ("product_secret: edgeProductSecret", "product_secret: edgeProductSecret\n  device_secret_file: edgeDeviceSecret/x"),
        ):
            assert old in text
            (folder / "edge.yaml").write_text(text.replace(old, new))
            done = gateway.command("run")
            assert done.returncode == 2, (new, done)
            places[f"fault of {new}"] = done.stdout + done.stderr.replace("edgeDeviceSecret/x", "")
        for state_file in (folder / "state").rglob("*"):
            if state_file.is_file() and state_file.parent.name not in ("identity", "device-secrets"):
                places[f"file {state_file.name}"] = state_file.read_bytes().decode("latin-1")
        for place, said in places.items():
            for what, secret in planted.items():
                assert secret not in said, f"the {what} is in {place}: …{said[max(0, said.index(secret) - 200):][:300]}…"
        for secret_file in (folder / "state/identity").iterdir():
            assert secret_file.stat().st_mode & 0o77 == 0, secret_file
    print(f"    {len(planted)} secrets sought in {len(places)} places, a log of {len(places['log'])} bytes at trace")


STORIES = [
    a_certificate_lives_its_whole_life,
    killed_at_any_moment_of_activation_it_has_a_working_identity,
    killed_at_any_moment_of_renewals_it_never_is_without_a_certificate,
    planted_secrets_are_found_nowhere,
]
