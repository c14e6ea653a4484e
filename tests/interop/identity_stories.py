"""Stories of the gateway's identity: activation, the whole life of a certificate, kills in the middle, planted secrets."""
import contextlib
import json
import random
import time

from site_files import TESTBED, Gateway, Peer, free_port, running, wait_until, write_site
from stand_in import Authority, StandIn

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
        # By hand.
        second = serial_in_use(gateway)
        done = gateway.command("certificate", "renew")
        assert done.returncode == 0, done
        wait_until(f"renewed by hand; {gateway.tail()}", lambda: serial_in_use(gateway) != second, 30)
        # The interface is away until the certificate ends; asking by hand says so.
        cloud.order("rest down true")
        done = gateway.command("certificate", "renew")
        assert done.returncode == 1 and "renew a certificate" in done.stderr, done
        ends = roles(gateway)["current"]["not_after"] / 1000
        wait_until("the end", lambda: time.time() > ends + 1, 60)
        cloud.order("drop")
        wait_until(f"told; {gateway.tail()}", lambda: gateway.told("certificate has expired"), 30)
        page = gateway.command("status").stdout
        assert "expired" in page, page
        cloud.order("rest down false")
        last = serial_in_use(gateway)
        wait_until(f"applied anew; {gateway.tail()}", lambda: serial_in_use(gateway) not in (None, last), 90)
        flows(cloud, gateway, 40)
        asked = cloud.ask("rest asked")
        assert sum("action=apply" in line for line in asked) >= 2, asked
        gateway.stop()
    print(f"    {len(asked)} requests, {gateway.told('is in use from now on')} promotions")
