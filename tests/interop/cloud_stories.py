"""Stories of the stand-in cloud: the vendor's SDK in every login mode, and the gateway beside it."""
import contextlib
import json
import subprocess
import sys

from site_files import ROOT, Gateway, Peer, free_port, running, wait_until, write_site
from stand_in import Authority, StandIn

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"

VECTOR_GATEWAY = "gwPK01/gwDK01/gwDS01SecretXYZ"
VECTOR_SUBS = ["subPK01/subDK01/subDS01SecretXYZ", "subPK02/subDK02/subDS02SecretXYZ"]
VECTOR_PRODUCTS = ["gwPK01/gwPS01SecretXYZ", "subPK01/subPS01SecretXYZ"]
OPERATOR = ("--monitor", "m:m")


def sdk_cloud(*flags) -> StandIn:
    """The stand-in as the vectors of the SDK want it: sub-devices known and in no topology yet."""
    devices = [*VECTOR_SUBS, "gwPK01/fresh/freshSecret", "gwPK01/dk1/s1", "gwPK01/dk2/s2"]
    return StandIn(
        "--gateway", VECTOR_GATEWAY, "--gateway", "gwPK01/second/secondSecret", *OPERATOR, "--no-connect-limit",
        *(word for device in devices for word in ("--device", device)),
        *(word for product in VECTOR_PRODUCTS for word in ("--product", product)), *flags,
    )


def sdk(port: int, mode: str, *flags) -> list:
    """What the SDK claims, in a process of its own."""
    words = [PYTHON, PEERS / "vendor_sdk.py", "127.0.0.1", port, mode, *flags]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
    said = [line[3:] for line in done.stdout.splitlines() if line.startswith("OK ")]
    assert done.returncode == 0 and said, done.stdout[-2000:] + done.stderr[-2000:]
    return said


def the_vendor_s_sdk_speaks_with_the_stand_in_cloud(folder):
    firmware = '{"version":"2.0","signMethod":"md5","sign":"00","fileUrl":"http://127.0.0.1/x","fileSize":1}'
    cloud = sdk_cloud()
    with running(cloud):
        cloud.order(f"offer gwPK01 gwDK01 {firmware}")
        said = sdk(cloud.port, "static", *OPERATOR)
        commands = cloud.ask("commands")
        assert commands["answers"] == commands["sent"] == commands["issued"] == 17, commands
        for fault in ("outstanding", "missing_answers", "duplicate_answers", "late_answers", "unasked_answers"):
            assert commands[fault] == 0, f"{fault}: {commands}"
        assert commands["text_codes"] == 9, f"reply-code-is-text: {commands}"
        stats = cloud.ask("stats")
        assert stats["misspelt_methods"] == 5, f"event-method and ota-methods: {stats}"
        refused = stats["connects_refused"]
        sdk(cloud.port, "wrong-secret")
        again = cloud.ask("stats")["connects_refused"] - refused
        assert again >= 2, f"wrong-secret-is-retried-for-ever: {again} refused"
        print(f"    {len(said)} claims, {commands['answers']} commands answered once, {again} wrong secrets in 3.5 s")


def the_vendor_s_sdk_is_activated_and_comes_back_with_its_own_secret(folder):
    cloud = sdk_cloud()
    with running(cloud):
        for copies, delay in ((1, 0), (2, 300)):
            cloud.order(f"knob activation_copies {copies}")
            cloud.order(f"knob activation_delay_ms {delay}")
            sdk(cloud.port, "activate", *OPERATOR)
        assert cloud.ask("online gwPK01 fresh")["activated"], "the reply to the secret did not come"
        commands = cloud.ask("commands")
        assert commands["answers"] == commands["sent"] == 3, commands
        assert cloud.ask("stats")["activations"] == 2


def the_vendor_s_sdk_opens_an_integration_channel(folder):
    cloud = sdk_cloud()
    with running(cloud):
        sdk(cloud.port, "channel")
        stats = cloud.ask("stats")
        assert stats["values"] == 2, f"the values of the refused message were taken: {stats}"
        assert [event["device_key"] for event in cloud.ask("events")] == ["dk1"]


def the_vendor_s_sdk_shows_an_rsa_and_an_ecc_certificate(folder):
    trusted, foreign = Authority(folder, "trusted"), Authority(folder, "foreign")
    ca = folder / "cloud-ca.pem"
    cloud = sdk_cloud(
        "--tls-port", 0, "--ca-file", ca, "--client-ca", trusted.file, "--require-certificate", "gwPK01"
    )
    with running(cloud):
        files = lambda certificate, key: ("--ca", ca, "--certificate", certificate, "--key", key)
        for kind in ("RSA", "ECC"):
            certificate, key, serial = trusted.client(kind)
            sdk(cloud.tls_port, "tls", *files(certificate, key), "--ciphers", kind)
            cloud.order(f"knob revoke_certificate {serial}")
            sdk(cloud.tls_port, "tls", *files(certificate, key), "--refused")
        sdk(cloud.tls_port, "tls", *files(*foreign.client("ECC")[:2]), "--refused")
        before = cloud.ask("stats")
        assert before["connects"] == 2, before
        refused = subprocess.run(
            [PYTHON, PEERS / "vendor_sdk.py", "127.0.0.1", str(cloud.port), "channel"], capture_output=True, timeout=60
        )
        assert refused.returncode == 0, "a channel needs no certificate"


COUNTER = "name,number,value type,point type,coefficient,base value,alias\nreads,0,ushort,ai,1,0,\nbelow,10,ushort,ai,1,0,\n"
LEDGER_FAULTS = ("outstanding", "missing_answers", "duplicate_answers", "late_answers", "unasked_answers")


def edge_site(folder, meter: int, keys: str):
    """A gateway gwPK01/edge with one counting sub-device that the cloud knows, in no topology yet."""
    write_site(
        folder,
        f"name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {meter}\n  scan_period_ms: 50\n",
        COUNTER,
        [("counter", 2)],
        [("reads", "int"), ("below", "int")],
        [("reads", "ai.0"), ("below", "ai.10")],
        f"cloud:\n  product_key: gwPK01\n  device_key: edge\n{keys}",
    )


@contextlib.contextmanager
def gateway_beside_the_sdk(folder, keys, *flags):
    """The gateway and the SDK on one cloud. Every command is answered once, whatever the story does."""
    meter = free_port()
    cloud = sdk_cloud("--gateway", "gwPK01/edge/edgeSecret", "--device", "pk/counter/s-counter", *flags)
    edge_site(folder, meter, keys(cloud))
    peer, gateway = Peer(PYTHON, PEERS / "pymodbus_server.py", meter), Gateway(folder)
    second = subprocess.Popen(
        [PYTHON, PEERS / "vendor_sdk.py", "127.0.0.1", str(cloud.port), "device"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    with running(cloud, peer, gateway):
        try:
            taken = lambda: cloud.ask("stats")["values"] > 200 and cloud.ask("online pk counter")["online"]
            wait_until(f"data flows; {gateway.tail()}", taken, 40)
            yield cloud, gateway
            said, _ = second.communicate(timeout=20)
            assert second.returncode == 0, f"the SDK beside it: {said}"
            gateway.stop()
            report = cloud.ask("commands")
            for fault in LEDGER_FAULTS:
                assert report[fault] == 0, f"{fault}: {report}; {cloud.ask('records')}"
            stats = cloud.ask("stats")
            assert stats["misspelt_methods"] == 0, f"a method of the gateway is misspelt: {stats}"
        finally:
            second.kill()


def the_gateway_and_the_vendor_s_sdk_share_a_cloud(folder):
    keys = lambda cloud: f"  url: tcp://127.0.0.1:{cloud.port}\n  device_secret: edgeSecret\n"
    waiting = ("--command", 'pk counter thing/service/measurepoint/get ["below"]')
    with gateway_beside_the_sdk(folder, keys, *waiting) as (cloud, _):
        first = wait_until("the command that waited is answered", lambda: cloud.ask("records")[0]["answer"])
        assert first["code"] in (200, 2008), f"answered, or refused while nothing was read yet: {first}"
        cloud.order('command gwPK01 second thing/service/measurepoint/set {"x": 1}')
        assert cloud.said()["answer"]["code"] == 200, "the SDK was not reached"
        for topic, params, code in (
            ("thing/service/measurepoint/set", {"below": 5}, 2004), ("thing/service/measurepoint/set", {"no": 5}, 2003),
            ("thing/service/measurepoint/get", ["below"], 200), ("thing/service/nonsense", {}, 2001),
        ):
            cloud.order(f"command pk counter {topic} {json.dumps(params)}")
            answer = cloud.said(40)["answer"]
            assert answer["code"] == code and (code != 200 or answer["data"] == {"below": 10}), f"{topic} {params}: {answer}"
        for form in ("array", "object"):
            cloud.order(f"tell pk counter disable {form}")
            wait_until("the notice is answered", lambda: cloud.ask("commands")["outstanding"] == 0)
            assert not cloud.ask("online pk counter")["online"]
            cloud.order(f"tell pk counter enable {form}")
            wait_until("the sub-device is back", lambda: cloud.ask("online pk counter")["online"], 30)
        before = cloud.ask("stats")["values"]
        wait_until("data flows again", lambda: cloud.ask("stats")["values"] > before + 50)


def the_gateway_packs_its_payloads_beside_the_vendor_s_sdk(folder):
    keys = lambda cloud: f"  url: tcp://127.0.0.1:{cloud.port}\n  device_secret: edgeSecret\n  compress: gzip\n"
    with gateway_beside_the_sdk(folder, keys) as (cloud, _):
        cloud.order('command pk counter thing/service/measurepoint/get ["below"]')
        assert cloud.said(40)["answer"]["data"] == {"below": 10}


def the_gateway_is_activated_beside_the_vendor_s_sdk(folder):
    keys = lambda cloud: f"  url: tcp://127.0.0.1:{cloud.port}\n  product_secret: gwPS01SecretXYZ\n"
    with gateway_beside_the_sdk(folder, keys) as (cloud, gateway):
        assert cloud.ask("online gwPK01 edge")["activated"]
        # From here on only its own secret opens the door.
        cloud.order("knob activation_once true")
        connects = cloud.ask("stats")["connects"]
        gateway.kill()
        again = Gateway(folder)
        with running(again):
            wait_until("it is back with its own secret", lambda: cloud.ask("online gwPK01 edge")["online"], 40)
            assert cloud.ask("stats")["connects"] > connects and cloud.ask("stats")["activations"] == 1
            again.kill()
        gateway.process = Gateway(folder).process


def the_gateway_shows_its_certificate_beside_the_vendor_s_sdk(folder):
    for kind in ("RSA", "ECC"):
        below = folder / kind
        below.mkdir()
        authority, ca = Authority(below, "clients"), below / "cloud-ca.pem"
        certificate, key, serial = authority.client(kind)
        key.chmod(0o600)
        keys = lambda cloud: (
            f"  url: ssl://127.0.0.1:{cloud.tls_port}\n  device_secret: edgeSecret\n  ca_file: {ca}\n"
            f"  client_cert_file: {certificate}\n  client_key_file: {key}\n"
        )
        flags = ("--tls-port", 0, "--ca-file", ca, "--client-ca", authority.file)
        with gateway_beside_the_sdk(below, keys, *flags) as (cloud, _):
            assert cloud.ask("online gwPK01 edge")["certificate"] == serial


STORIES = [
    the_vendor_s_sdk_speaks_with_the_stand_in_cloud,
    the_vendor_s_sdk_is_activated_and_comes_back_with_its_own_secret,
    the_vendor_s_sdk_opens_an_integration_channel,
    the_vendor_s_sdk_shows_an_rsa_and_an_ecc_certificate,
    the_gateway_and_the_vendor_s_sdk_share_a_cloud,
    the_gateway_packs_its_payloads_beside_the_vendor_s_sdk,
    the_gateway_is_activated_beside_the_vendor_s_sdk,
    the_gateway_shows_its_certificate_beside_the_vendor_s_sdk,
]
