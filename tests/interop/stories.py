"""The stories. Each fails with a reason; the last line counts them.

    stories.py [NAME…]
"""
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import cloud_stories
import command_stories
import identity_stories
from broker import Cable, Listener, Mosquitto
from site_files import GATEWAY, ROOT, Gateway, Peer, free_port, plain_broker, running, wait_until, write_site

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"

EVERY_TYPE = """测点名,点号,值类型,点类型,系数,基值,别名,area,byte_order,bit,length
short,0,short,ai,1,0,,holding,,,
ushort,0,ushort,pi,1,0,,holding,,,
bit2,0,bool,di,1,0,,holding,,2,
int,10,int,ai,1,0,,holding,ABCD,,
uint,12,uint,ai,1,0,,holding,CDAB,,
float,14,float,ai,1,0,,holding,,,
swapped,16,float,ai,1,0,,holding,CDAB,,
badc,18,float,ai,1,0,,holding,BADC,,
dcba,20,float,ai,1,0,,holding,DCBA,,
double,30,double,ai,1,0,,holding,ABCDEFGH,,
doubleswap,34,double,ai,1,0,,holding,GHEFCDAB,,
long,40,long,ai,1,0,,holding,,,
text,50,string,ai,1,0,,holding,,,12
coil,3,bool,di,1,0,,coil,,,
input,105,ushort,ai,0.1,-1000,,input,,,
"""

# Measurement point, data type, mapping, what the cloud must get.
EXPECTED = [
    ("short", "int", "ai.0", -3),
    ("ushort", "int", "pi.0", 65533),
    ("int", "int", "ai.10", -123456789),
    ("uint", "double", "ai.12", 4000000000),
    ("float", "float", "ai.14", 12.5),
    ("swapped", "float", "ai.16", -0.1),
    ("badc", "float", "ai.18", 1e10),
    ("dcba", "float", "ai.20", 3.25),
    ("double", "double", "ai.30", 1234.5678),
    ("doubleswap", "double", "ai.34", -9.75),
    ("long", "double", "ai.40", -5000000000),
    ("text", "string", "ai.50", "Größe°C"),
    ("coil", "bool", "di.3", 1),
    ("input", "double", "ai.105", 0.5),
    ("sum", "double", "sum(ai.14,ai.20)", 15.75),
    ("ratio", "double", "ratio(ai.14,ai.20)", 12.5 / 3.25),
]


def modbus_connection(port: int, period: int = 200) -> str:
    return (
        f"name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {port}\n"
        f"  scan_period_ms: {period}\n  timeout_ms: 500\n"
    )


def pymodbus_values_of_every_type_arrive_at_a_mosquitto_subscriber(folder, *framing, protocol="modbus-tcp"):
    port = free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port, *framing), Mosquitto(folder)
    write_site(
        folder,
        modbus_connection(port).replace("modbus-tcp", protocol),
        EVERY_TYPE,
        [("meter", 1)],
        [(point, data_type) for point, data_type, _, _ in EXPECTED],
        [(point, source) for point, _, source, _ in EXPECTED],
        plain_broker(broker.port),
    )
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        for point, _, _, value in EXPECTED:
            got = wait_until(f"{point} arrives; {gateway.tail()}", lambda: listener.last("meter", point) is not None)
            got = listener.last("meter", point)
            same = got == value or (isinstance(value, float) and abs(got - value) <= 1e-9 * abs(value))
            assert same, f"{point}: got {got!r}, wanted {value!r}"
        answered = {v["point"]: v for v in gateway.ask("read", "meter")}
        assert answered["float"]["value"] == 12.5, answered["float"]
        gateway.stop()


def pymodbus_values_arrive_in_rtu_frames_over_tcp(folder):
    pymodbus_values_of_every_type_arrive_at_a_mosquitto_subscriber(folder, "rtu", protocol="modbus-rtu-over-tcp")


SERIAL = """name,number,value type,point type,coefficient,base value,alias,area
requests,0,ushort,pi,1,0,,input
first,0,ushort,ai,1,0,,holding
middle,100,ushort,ai,1,0,,holding
far,199,ushort,ai,1,0,,holding
illegal,203,ushort,ai,1,0,,holding
coil,3,bool,di,1,0,,coil
"""


def libmodbus_rtu_over_a_serial_line_never_gives_a_late_answer_to_another_question(folder):
    device, gateway_end = folder / "device", folder / "gateway"
    compiled = folder / "libmodbus_rtu"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=True)
    source = PEERS / "libmodbus_rtu.c"
    subprocess.run(["cc", "-Wall", "-Wextra", "-o", compiled, source, *flags.stdout.split()], check=True)
    ends = [f"pty,raw,echo=0,link={end}" for end in (device, gateway_end)]
    cable = Peer("socat", *ends, ready=None)
    wait_until("the serial line is there", lambda: device.exists() and gateway_end.exists())
    peer, broker = Peer(compiled, device), Mosquitto(folder)
    write_site(
        folder,
        f"name: line\nprotocol: modbus-rtu\nprotocol.sys:\n  serial_port: {gateway_end}\n  baud_rate: 115200\n"
        "  parity: even\n  scan_period_ms: 50\n  timeout_ms: 150\n",
        SERIAL,
        # No absent unit beside it: libmodbus takes the next request for that unit's answer and is silent itself.
        [("meter", 7)],
        [(p, "int") for p in ("requests", "first", "middle", "far", "illegal")] + [("coil", "bool")],
        [("requests", "pi.0"), ("coil", "di.3")]
        + [(p, f"ai.{n}") for p, n in (("first", 0), ("middle", 100), ("far", 199), ("illegal", 203))],
        plain_broker(broker.port),
    )
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(cable, peer, broker, gateway):
        def timeouts():
            devices = gateway.ask("status").get("south", {}).get("connections", [{}])[0].get("devices", [])
            return sum(device["timeouts"] for device in devices if device["name"] == "meter")

        wait_until("some answers were late", lambda: timeouts() >= 4, 60)
        for point, value in (("first", 1000), ("middle", 1100), ("far", 1199), ("coil", 1)):
            got = {v for _, v in listener.values[("meter", point)]}
            assert got == {value}, f"{point}: {got}, wanted {value} only"
        counts = [value for _, value in listener.values[("meter", "requests")]]
        assert counts == sorted(counts), "an older answer came after a newer one"
        assert listener.last("meter", "illegal") is None
        print(f"    {len(counts)} scans, {timeouts()} time-outs")
        # The adapter is pulled out and put back.
        cable.kill()
        wait_until("the loss shows", lambda: gateway.ask("status")["south"]["connections"][0]["last_error"])
        count = len(counts)
        cable = Peer("socat", *ends, ready=None)
        wait_until("the serial line is back", lambda: device.exists() and gateway_end.exists())
        with running(cable, Peer(compiled, device)):
            wait_until("data flows again", lambda: len(listener.values[("meter", "requests")]) > count + 5, 60)
            gateway.stop()


COUNTER = """name,number,value type,point type,coefficient,base value,alias
reads,0,ushort,ai,1,0,
below,10,ushort,ai,1,0,
hole,25,ushort,ai,1,0,
above,35,ushort,ai,1,0,
"""


def counter_site(folder, port, broker_port, period=50, extra=""):
    write_site(
        folder,
        modbus_connection(port, period) + "  max_gap: 40\n",
        COUNTER,
        [("counter", 2)],
        [(p, "int") for p in ("reads", "below", "hole", "above")],
        [("reads", "ai.0"), ("below", "ai.10"), ("hole", "ai.25"), ("above", "ai.35")],
        plain_broker(broker_port) + extra,
    )


def missing(listener) -> list:
    """Counts that never arrived between the first and the last: a value read and lost."""
    seen = {value for _, value in listener.values[("counter", "reads")]}
    return sorted(set(range(min(seen), max(seen) + 1)) - seen) if seen else ["nothing arrived"]


def a_pymodbus_hole_is_bad_alone_and_its_neighbours_stay_good(folder):
    port = free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder)
    counter_site(folder, port, broker.port)
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        wait_until("the neighbours arrive", lambda: listener.last("counter", "above") == 35)
        assert listener.last("counter", "below") == 10
        assert listener.last("counter", "hole") is None, "an illegal address yields no value"
        hole = [v for v in gateway.ask("monitor", "--once", "counter") if v["point"] == "hole"][0]
        assert "illegal data address" in hole["quality"].lower(), hole
        gateway.stop()


def nothing_is_lost_when_the_cable_to_mosquitto_is_cut_and_the_broker_killed(folder):
    port = free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder)
    cable = Cable(broker.port)
    counter_site(folder, port, cable.port)
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        wait_until("data flows", lambda: len(listener.values[("counter", "reads")]) > 20)
        for round_ in range(6):
            cable.cut()
            if round_ % 2:
                # The broker forgets everything; the gateway meets it again only when somebody listens.
                broker.kill()
                listener.subscribed.clear()
                broker.start()
                assert listener.subscribed.wait(15), "the listener did not come back"
            time.sleep(1.2)
            before = len(listener.values[("counter", "reads")])
            cable.mend()
            wait_until("data flows again", lambda: len(listener.values[("counter", "reads")]) > before + 30, 40)
        wait_until("the outbox drains", lambda: gateway.counter("outbox_readings") <= 60, 30)
        gateway.stop()
        time.sleep(0.5)
    counts = [value for _, value in listener.values[("counter", "reads")]]
    print(f"    {len(counts)} values, {len(counts) - len(set(counts))} duplicates")
    assert not missing(listener), f"lost: {missing(listener)[:10]}"


def it_starts_polls_and_buffers_with_the_broker_down(folder):
    port, broker_port = free_port(), free_port()
    peer = Peer(PYTHON, PEERS / "pymodbus_server.py", port)
    counter_site(folder, port, broker_port)
    gateway = Gateway(folder)
    with running(peer, gateway):
        wait_until("readings wait on disk", lambda: gateway.counter("outbox_stored") > 50)
        gateway.kill()  # kill -9: what was on disk is still there
        broker = Mosquitto(folder)
        with running(broker):
            cable = Cable(broker.port)
            listener = Listener(broker.port)
            edge = (folder / "edge.yaml").read_text().replace(f":{broker_port}", f":{cable.port}")
            (folder / "edge.yaml").write_text(edge)
            gateway = Gateway(folder)
            with running(gateway):
                wait_until("the backlog arrives", lambda: listener.values[("counter", "reads")])
                wait_until("from the first value on", lambda: min(v for _, v in listener.values[("counter", "reads")]) <= 2)
                gateway.stop()


def trouble_is_told_once_and_in_words(folder):
    port, nobody = free_port(), free_port()
    peer = Peer(PYTHON, PEERS / "pymodbus_server.py", port)
    counter_site(folder, port, nobody)
    lines = folder / "site/connections"
    (lines / "dead.yaml").write_text(modbus_connection(free_port()).replace("name: line", "name: dead"))
    with open(folder / "site/assets.yaml", "a") as assets:
        assets.write(
            "  - { name: dead, product_key: pk, device_key: dead, device_secret: sealed-words, template: t, "
            'connection: dead, address: "1" }\n'
        )
    gateway = Gateway(folder)
    with running(peer, gateway):
        wait_until("data flows", lambda: gateway.counter("samples_good") > 20)
        gateway.process.send_signal(signal.SIGHUP)
        time.sleep(4)
        assert gateway.told("no connection to the cloud") == 1, "a dead broker floods the log"
        assert gateway.told("can not connect") == 1, "a dead device floods the log"
        page = gateway.command("status").stdout
        for words in (f"not connected to tcp://127.0.0.1:{nobody}", "Connection refused"):
            assert words in page, f"{words!r} is not in\n{page}"
        for words, status, said in (
            (["read", "dead"], 1, "not connected"),
            (["read", "countr"], 2, "did you mean counter"),
            (["read", "counter", "belw"], 2, "did you mean below"),
            (["read", "counter", "below"], 0, ""),
        ):
            done = gateway.command(*words)
            assert done.returncode == status and said in done.stderr, f"{words}: {done}"
        for words in ("status", "status --json", "read counter", "monitor --once"):
            # Nobody reads the answer: no panic.
            shell = f'"{GATEWAY}" {words} --config "{folder}/edge.yaml" | true; exit ${{PIPESTATUS[0]}}'
            done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=20)
            assert done.returncode == 0 and not done.stderr, f"{words}: {done}"
        assert gateway.told("SIGHUP") == 1 and gateway.process.poll() is None, "SIGHUP must not stop a gateway"
        assert gateway.told("sealed-words") == 0, "a secret is in the log"
        gateway.stop()
    done = gateway.command("status")
    assert done.returncode == 2 and "no gateway answers" in done.stderr, done


MACHINE = """name,number,value type,point type,coefficient,base value,alias
double,ns=2;s=Machine.Var000,double,ai,2,1,
int,ns=2;s=Machine.Var001,int,ai,1,0,
bool,ns=2;s=Machine.Var002,bool,di,1,0,
text,ns=2;s=Machine.Var003,string,ai,1,0,
absent,ns=2;s=Machine.Absent,double,ai,1,0,
"""
MACHINE_POINTS = [("double", "ai", "Var000"), ("int", "ai", "Var001"), ("bool", "di", "Var002"), ("text", "ai", "Var003"), ("absent", "ai", "Absent")]


def opcua_values_arrive(folder, security, user=()):
    port = free_port()
    # The same key after a restart: another one would rightly be refused.
    server = [PYTHON, PEERS / "asyncua_server.py", port, security, *user, "--pki", folder / "peer-pki"]
    (folder / "peer-pki").mkdir()
    peer, broker = Peer(*server), Mosquitto(folder)
    secure = "  security_policy: Basic256Sha256\n  security_mode: SignAndEncrypt\n  trust: first-use\n"
    named = f"  user: {user[0]}\n  password: {user[1]}\n" if user else ""
    write_site(
        folder,
        f"name: line\nprotocol: opcua\nprotocol.sys:\n  endpoint: opc.tcp://127.0.0.1:{port}/peer\n"
        f"  publishing_interval_ms: 100\n{secure if security != 'none' else ''}{named}",
        MACHINE,
        [("machine", "1")],
        [(name, {"int": "int", "bool": "bool", "text": "string"}.get(name, "double")) for name, _, _ in MACHINE_POINTS],
        [(name, f"{kind}.ns=2;s=Machine.{node}") for name, kind, node in MACHINE_POINTS],
        plain_broker(broker.port),
    )
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        for point in ("double", "int", "bool", "text"):
            wait_until(f"{point} arrives; {gateway.tail()}", lambda: listener.last("machine", point) is not None, 30)
        wait_until("values change", lambda: len({v for _, v in listener.values[("machine", "int")]}) >= 5)
        for _, value in listener.values[("machine", "int")]:
            assert 1_000_000 <= value < 2_000_000, f"int: {value}"
        for _, value in listener.values[("machine", "double")]:
            # a(x+b) with a = 2 and b = 1 over whole ticks: even, and never 0.
            assert value % 2 == 0 and 2 <= value <= 2_000_002, f"double: {value}"
        assert all(v.startswith("Var003:") for _, v in listener.values[("machine", "text")])
        assert listener.last("machine", "absent") is None, "an unknown node yields no value"
        peer.kill()
        wait_until("the loss is told", lambda: gateway.told("the connection broke"))
        count = len(listener.values[("machine", "int")])
        with running(Peer(*server)):
            wait_until("data flows after a server restart", lambda: len(listener.values[("machine", "int")]) > count + 5, 30)
            gateway.stop()


def asyncua_values_arrive_without_security(folder):
    opcua_values_arrive(folder, "none")


def asyncua_values_arrive_signed_and_encrypted_with_a_user(folder):
    opcua_values_arrive(folder, "basic256sha256", ("operator", "let-me-in"))


def destination(name, url, **keys) -> str:
    """An entry of `destinations:` whose messages a Listener can read."""
    lines = {"topic": "plant/{site}/batch", "payload": "enos", "client_id": f"gateway-{name}", **keys}
    return f"  - name: {name}\n    url: {url}\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())


def shown(gateway, name) -> dict:
    """What status says of a destination, with its line of the outbox."""
    status = gateway.ask("status")
    one = [d for d in status.get("destinations", []) if d["name"] == name]
    kept = [d for d in status.get("outbox", {}).get("destinations", []) if d["name"] == name]
    return {**one[0], **kept[0]["readings"]} if one and kept else {}


def make_certificates(folder):
    """An authority, a server and a client, by openssl."""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-out", f"{name}.pem", "-extfile", "names")  # extensions make it version 3, as rustls wants
        (folder / f"{name}.key").chmod(0o600)


def mosquitto_with_mutual_tls_gets_everything_while_enos_is_dead(folder):
    port, nobody = free_port(), free_port()
    make_certificates(folder)
    peer, broker, tls = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder), free_port()
    broker.kill()
    with open(broker.config, "a") as config:
        # Started by root it would become a user who can not read the keys; for anybody else the line means nothing.
        config.write(
            f"user root\nlistener {tls} 127.0.0.1\nrequire_certificate true\nuse_identity_as_username true\n"
            f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
        )
    broker.start()
    cable = Cable(tls)
    files = {"ca_file": "ca.pem", "client_cert_file": "client.pem", "client_key_file": "client.key"}
    several = destination("scada", f"ssl://127.0.0.1:{cable.port}", **files)
    several += destination("stranger", f"ssl://127.0.0.1:{tls}", ca_file="ca.pem")
    counter_site(folder, port, nobody, extra=f"destinations:\n{several}")
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        wait_until("data flows", lambda: len(listener.values[("counter", "reads")]) > 20)
        for _ in range(3):
            cable.cut()
            time.sleep(0.7)
            before = len(listener.values[("counter", "reads")])
            cable.mend()
            wait_until("data flows again", lambda: len(listener.values[("counter", "reads")]) > before + 30, 40)
        assert shown(gateway, "scada")["waiting"] < 200, shown(gateway, "scada")
        stranger = shown(gateway, "stranger")
        assert stranger["acknowledged"] == 0 and stranger["waiting"] > 100, "without a certificate nothing passes"
        assert stranger["last_error"], stranger
        assert gateway.ask("status")["cloud"]["state"] != "online"
        gateway.stop()
        time.sleep(0.5)
    assert not missing(listener), f"lost: {missing(listener)[:10]}"


def enos_gets_everything_while_a_destination_is_dead(folder):
    port, nobody = free_port(), free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder)
    counter_site(folder, port, broker.port, extra=f"destinations:\n{destination('dead', f'tcp://127.0.0.1:{nobody}')}")
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        wait_until("data flows", lambda: len(listener.values[("counter", "reads")]) > 100)
        assert shown(gateway, "dead")["waiting"] > 100
        # The dead one comes to life elsewhere and gets all of it, from the first value on.
        gateway.stop()
        time.sleep(0.5)
        assert not missing(listener), f"lost: {missing(listener)[:10]}"
        other = folder / "other"
        other.mkdir()
        late = Mosquitto(other)
        late_listener = Listener(late.port)
        edge = (folder / "edge.yaml").read_text().replace(f":{nobody}", f":{late.port}")
        (folder / "edge.yaml").write_text(edge)
        again = Gateway(folder)
        with running(late, again):
            first = min(v for _, v in listener.values[("counter", "reads")])
            wait_until("the backlog arrives", lambda: late_listener.values[("counter", "reads")])
            wait_until("nothing waits", lambda: shown(again, "dead")["waiting"] < 50, 30)
            again.stop()
            time.sleep(0.5)
            assert not missing(late_listener), f"lost: {missing(late_listener)[:10]}"
            assert min(v for _, v in late_listener.values[("counter", "reads")]) <= first


class Amqtt(Peer):
    """The second broker, with its knobs and its ledger."""

    def __init__(self, folder, port=None):
        self.folder, self.port = folder, port or free_port()
        super().__init__(PYTHON, PEERS / "amqtt_broker.py", self.port, folder)

    def turn(self, **knobs):
        (self.folder / "knobs.json").write_text(json.dumps(knobs))

    def lines(self, name) -> list:
        file = self.folder / name
        # The last line may be under way.
        return [json.loads(line) for line in file.read_text().splitlines(True) if line.endswith("\n")] if file.exists() else []

    def counts(self) -> list:
        """All counts the broker has acknowledged, in the order it did."""
        messages = (json.loads(line["payload"]) for line in self.lines("ledger.jsonl"))
        items = (item for message in messages for item in message["params"])
        return [item["measurepoints"]["reads"] for item in items if "reads" in item["measurepoints"]]

    def gap(self) -> list:
        seen = set(self.counts())
        return sorted(set(range(min(seen), max(seen) + 1)) - seen) if seen else ["nothing arrived"]


def amqtt_on_its_bad_days_loses_nothing_of_a_gateway_without_enos(folder, clean="false"):
    port, nobody = free_port(), free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Amqtt(folder)
    cable = Cable(broker.port)
    subscribe = "\n      - { filter: in/+/+, device: \"{1}\", point: \"{2}\" }"
    entry = destination("second", f"tcp://127.0.0.1:{cable.port}", reply_timeout_ms=1000, clean_session=clean, subscribe=subscribe)
    counter_site(folder, port, nobody, extra=f"destinations:\n{entry}")
    gateway = Gateway(folder)

    def more(what, seconds=40.0, count=40):
        before = len(set(broker.counts()))
        wait_until(what, lambda: len(set(broker.counts())) > before + count, seconds)

    with running(peer, gateway, broker):
        more("data flows")
        broker.turn(late=0.4)
        more("late answers are waited for")
        broker.turn(late=2.5)
        more("answers later than the patience are found in time", 90)
        assert gateway.told("not acknowledged") >= 1, "the patience was never over"
        broker.turn(close=True)
        connects = len(broker.lines("connects.jsonl"))
        cable.cut()
        cable.mend()
        wait_until("it closes after CONNACK", lambda: len(broker.lines("connects.jsonl")) > connects + 2, 30)
        broker.turn(refuse=True)
        more("data flows without the subscription")
        assert gateway.told("refused a subscription") >= 1
        for round_ in range(3):
            broker.turn(forget=round_ == 1)
            cable.cut()
            time.sleep(0.7)
            cable.mend()
            more("data flows on the next connection")
        broker.kill()
        time.sleep(1)
        broker = Amqtt(folder, broker.port)
        with running(broker):
            more("data flows after the broker's restart")
            wait_until("nothing waits", lambda: shown(gateway, "second")["waiting"] < 60, 30)
            connects = broker.lines("connects.jsonl")
            gateway.stop()
    assert {line["clean"] for line in connects} == {clean == "true"}, connects
    if clean == "false":
        assert {line["present"] for line in connects} == {True, False}, "both kept and forgotten sessions were met"
    counts = broker.counts()
    print(f"    {len(connects)} connections, {len(counts)} values, {len(counts) - len(set(counts))} duplicates")
    assert not broker.gap(), f"lost: {broker.gap()[:10]}"


def amqtt_on_its_bad_days_loses_nothing_with_clean_sessions_either(folder):
    amqtt_on_its_bad_days_loses_nothing_of_a_gateway_without_enos(folder, clean="true")


def values_of_a_broker_feed_points_and_reach_the_cloud(folder):
    port = free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder)
    subscribe = (
        "\n      - { filter: plain/+/hole, device: \"{1}\", point: hole }"
        "\n      - { filter: in/#, device: counter, point: \"{1}\", value: /v, time: /t }"
    )
    entry = destination("scada", f"tcp://127.0.0.1:{broker.port}", topic="out/batch2", subscribe=subscribe)
    counter_site(folder, port, broker.port, extra=f"destinations:\n{entry}")
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        wait_until("data flows", lambda: len(listener.values[("counter", "reads")]) > 5)
        wait_until("the destination is up", lambda: shown(gateway, "scada").get("messages_acknowledged"))
        for topic, payload in (
            ("plain/counter/hole", "4711"),
            ("in/hole", json.dumps({"v": 4712, "t": 1_700_000_000_123})),
            ("in/hole", json.dumps({"v": "many", "t": 1_700_000_000_124})),
            ("in/nothing", json.dumps({"v": 1, "t": 1_700_000_000_125})),
            ("in/hole", "no json"),
        ):
            listener.client.publish(topic, payload, qos=1).wait_for_publish(5)
        got = wait_until("both arrive at the cloud", lambda: len(listener.values[("counter", "hole")]) >= 2 and listener.values[("counter", "hole")])
        assert {value for _, value in got} == {4711, 4712} and 1_700_000_000_123 in {time_ for time_, _ in got}, got
        received = wait_until("all are counted", lambda: (r := shown(gateway, "scada")["received"])["messages"] >= 5 and r)
        assert (received["readings"], received["refused"]) == (2, 3), received
        gateway.stop()


STORIES = [
    *cloud_stories.STORIES,
    *command_stories.STORIES,
    *identity_stories.STORIES,
    pymodbus_values_of_every_type_arrive_at_a_mosquitto_subscriber,
    pymodbus_values_arrive_in_rtu_frames_over_tcp,
    libmodbus_rtu_over_a_serial_line_never_gives_a_late_answer_to_another_question,
    a_pymodbus_hole_is_bad_alone_and_its_neighbours_stay_good,
    nothing_is_lost_when_the_cable_to_mosquitto_is_cut_and_the_broker_killed,
    it_starts_polls_and_buffers_with_the_broker_down,
    trouble_is_told_once_and_in_words,
    asyncua_values_arrive_without_security,
    asyncua_values_arrive_signed_and_encrypted_with_a_user,
    mosquitto_with_mutual_tls_gets_everything_while_enos_is_dead,
    enos_gets_everything_while_a_destination_is_dead,
    amqtt_on_its_bad_days_loses_nothing_of_a_gateway_without_enos,
    amqtt_on_its_bad_days_loses_nothing_with_clean_sessions_either,
    values_of_a_broker_feed_points_and_reach_the_cloud,
]


def main() -> int:
    chosen = [story for story in STORIES if not sys.argv[1:] or any(word in story.__name__ for word in sys.argv[1:])]
    failed = 0
    for story in chosen:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="enos-interop-"))
        begun = time.monotonic()
        try:
            story(folder)
            print(f"ok      {story.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            log = folder / "gateway.log"
            if log.exists():
                print("\n".join(log.read_text().splitlines()[-40:]))
            print(f"FAILED  {story.__name__}; its files: {folder}", flush=True)
    print(f"interop: {len(chosen) - failed} passed, {failed} failed", flush=True)
    return 1 if failed or not chosen else 0


sys.exit(main())
