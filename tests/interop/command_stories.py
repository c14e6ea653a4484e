"""Stories of commands: a cloud and a plain broker set points of devices that others made."""
import json
import struct
import sys
import time

import paho.mqtt.client as mqtt
from broker import Mosquitto
from pymodbus.client import ModbusTcpClient
from site_files import ROOT, Gateway, Peer, free_port, plain_broker, running, wait_until, write_site
from stand_in import StandIn

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"
SET, GET = "thing/service/measurepoint/set", "thing/service/measurepoint/get"

# Name, data type, mapping, control, table rows: every width and word order that can be written.
POINTS = [
    ("short", "int", "ai.0", "ao.0", "0,short,{k},1,0,holding,,"),
    ("int", "int", "ai.10", "ao.10", "10,int,{k},1,0,holding,ABCD,"),
    ("uint", "double", "ai.12", "ao.12", "12,uint,{k},1,0,holding,CDAB,"),
    ("float", "float", "ai.14", "ao.14", "14,float,{k},1,0,holding,,"),
    ("swapped", "float", "ai.16", "ao.16", "16,float,{k},1,0,holding,CDAB,"),
    ("badc", "float", "ai.18", "ao.18", "18,float,{k},1,0,holding,BADC,"),
    ("dcba", "float", "ai.20", "ao.20", "20,float,{k},1,0,holding,DCBA,"),
    ("double", "double", "ai.30", "ao.30", "30,double,{k},1,0,holding,,"),
    ("doubleswap", "double", "ai.34", "ao.34", "34,double,{k},1,0,holding,GHEFCDAB,"),
    ("scaled", "double", "ai.40", "ao.40", "40,short,{k},0.1,-50,holding,,"),
    ("bit", "bool", "di.41", "do.41", "41,bool,{k},1,0,holding,,5"),
    ("coil", "bool", "di.3", "do.3", "3,bool,{k},1,0,coil,,"),
]
TABLE = "name,number,value type,point type,coefficient,base value,area,byte_order,bit\n" + "".join(
    f"{name} {word},{row.format(k=kind.split('.')[0])}\n"
    for name, _, source, control, row in POINTS for word, kind in (("in", source), ("out", control))
)


def modbus_site(folder, port, cloud, raw=False, unit=1):
    write_site(
        folder,
        f"name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {port}\n  scan_period_ms: 200\n"
        f"  timeout_ms: 500\n  address_base: 0\n  raw: {str(raw).lower()}\n",
        TABLE,
        [("meter", unit)],
        [(name, data_type) for name, data_type, *_ in POINTS],
        [(name, source, control) for name, _, source, control, _ in POINTS],
        cloud,
    )


def registers(port, address, count):
    """What the server itself shows, to a client that is not ours."""
    client = ModbusTcpClient("127.0.0.1", port=port)
    assert client.connect()
    try:
        return client.read_holding_registers(address, count=count, device_id=1).registers
    finally:
        client.close()


def coil(port, address):
    client = ModbusTcpClient("127.0.0.1", port=port)
    assert client.connect()
    try:
        return client.read_coils(address, count=1, device_id=1).bits[0]
    finally:
        client.close()


def packed(fmt, value, order):
    raw = struct.pack(">" + fmt, value)
    mixed = bytes(raw["ABCDEFGH".index(letter)] for letter in order)
    return [int.from_bytes(mixed[i : i + 2], "big") for i in range(0, len(mixed), 2)]


def a_cloud_sets_and_gets_every_type_of_a_pymodbus_server(folder):
    port = free_port()
    cloud = StandIn("--gateway", "gw/gw1/s", "--sub-device", "pk/meter/s-meter", "--accept-all", "--no-connect-limit")
    link = f"cloud:\n  url: tcp://127.0.0.1:{cloud.port}\n  product_key: gw\n  device_key: gw1\n  device_secret: s\n"
    modbus_site(folder, port, link, raw=True)
    peer, gateway = Peer(PYTHON, PEERS / "pymodbus_server.py", port, "writable"), Gateway(folder)
    with running(cloud, peer, gateway):
        wait_until(f"data flows; {gateway.tail()}", lambda: cloud.ask("stats")["values"] > 20, 40)

        def command(topic, params):
            cloud.order(f"command pk meter {topic} {json.dumps(params)}")
            return cloud.said(40)["answer"]

        for point, value, address, wanted in (
            ("short", -32768, 0, [0x8000]), ("int", -123, 10, packed("i", -123, "ABCD")),
            ("uint", 4294967295, 12, packed("I", 4294967295, "CDAB")), ("float", 0.1, 14, packed("f", 0.1, "ABCD")),
            ("swapped", -7.25e-12, 16, packed("f", -7.25e-12, "CDAB")), ("badc", 3.4e38, 18, packed("f", 3.4e38, "BADC")),
            ("dcba", 1.5, 20, packed("f", 1.5, "DCBA")), ("double", 0.1, 30, packed("d", 0.1, "ABCDEFGH")),
            ("doubleswap", -1e300, 34, packed("d", -1e300, "GHEFCDAB")), ("scaled", 12.3, 40, [173]),
            ("bit", True, 41, [32]), ("bit", 0, 41, [0]),
        ):
            answer = command(SET, {point: value})
            assert answer["code"] == 200, f"{point} {value}: {answer}"
            assert registers(port, address, len(wanted)) == wanted, f"{point}: {registers(port, address, len(wanted))}"
            got = command(GET, [point])
            near = got["code"] == 200 and abs(float(got["data"][point]) - float(value)) <= 1e-6 * abs(float(value))
            assert near, f"{point} {value}: {got}"
        assert command(SET, {"coil": False})["code"] == 200 and not coil(port, 3)
        before = registers(port, 0, 42)
        for params, code in (
            ({"short": 32768}, 2005), ({"short": 1.5}, 2005), ({"short": "1"}, 2005), ({"uint": -1}, 2005),
            ({"uint": 4294967296}, 2005), ({"float": 1e39}, 2005), ({"int": 2**63}, 2005), ({"int": [1]}, 2005),
            ({"int": {"a": 1}}, 2005), ({"int": None}, 2005), ({"scaled": 1e9}, 2005), ({"bit": 2}, 2005), ({}, 2000),
            ({"größe": 1}, 2003), ([], 2000), ({"short": 1, "int": "x"}, 2005),
        ):
            answer = command(SET, params)
            assert answer["code"] == code and answer["message"], f"{params}: {answer}"
        assert registers(port, 0, 42) == before, "what was refused had an effect"
        for sent, wanted in (
            ("0300280001", "030200ad"), ("0600000007", "0600000007"), ("03ffff0001", "8302"), ("0800001234", None), ("55", None)
        ):
            cloud.order(f"raw pk meter {sent}")
            answer = cloud.said(40)["answer"]
            hexed = answer if isinstance(answer, str) else json.dumps(answer)
            print(f"    raw {sent}: {hexed}")
            if wanted:
                assert wanted in hexed, f"raw {sent}: {answer}"
        assert registers(port, 0, 1) == [7]
        print("    ", command("thing/service/nonsense", {}), gateway.command("audit", "--verify").stdout.strip())
        assert gateway.command("audit", "--verify").returncode == 0
        gateway.stop()


class Caller:
    """Publishes commands on the real topics and hears the answers."""

    def __init__(self, port):
        self.answers = []
        self.client = mqtt.Client(client_id="caller", clean_session=True)
        self.client.on_message = lambda _c, _d, m: self.answers.append((m.topic, m.payload))
        self.client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self.ready = False
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe([("/sys/+/+/thing/service/#", 1), ("/sys/+/+/thing/model/#", 1), ("/sys/+/+/rrpc/#", 1)])
        wait_until("the caller listens", lambda: self.ready)

    def send(self, below, payload, device="meter", qos=1, retain=False, product="pk"):
        text = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
        self.client.publish(f"/sys/{product}/{device}/{below}", text, qos=qos, retain=retain).wait_for_publish(10)

    def told(self, topic_end):
        return [json.loads(payload) for topic, payload in list(self.answers) if topic.endswith(topic_end)]

    def ask(self, below, payload, seconds=15, **how):
        """The answer to this one message."""
        end = below + "_reply" if not below.startswith("rrpc") else below.replace("request", "response")
        before = len(self.told(end))
        self.send(below, payload, **how)
        wait_until(f"an answer to {str(payload)[:120]}", lambda: len(self.told(end)) > before, seconds)
        return self.told(end)[before]


def nothing_published_to_mosquitto_goes_unanswered(folder):
    port, broker = free_port(), Mosquitto(folder)
    peer = Peer(PYTHON, PEERS / "pymodbus_server.py", port, "writable")
    caller = Caller(broker.port)
    # Kept by the broker from before the gateway came: of unknown age.
    caller.send(SET, {"id": "kept", "params": {"short": 99}}, retain=True)
    modbus_site(folder, port, plain_broker(broker.port))
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        end = SET + "_reply"
        kept = wait_until(f"the retained one is answered; {gateway.tail()}", lambda: caller.told(end))[0]
        assert (kept["id"], kept["code"]) == ("kept", 2007), kept
        caller.send(SET, b"", retain=True)
        time.sleep(0.3)
        caller.answers.clear()
        wait_until("the meter answers", lambda: gateway.ask("read", "meter"))
        first = registers(port, 0, 1)
        deep = '{"id":"d","params":{"short":' + "[" * 100_000 + "]" * 100_000 + "}}"
        for payload, id_, code in (
            ("", "0", 2000), ("{", "0", 2000), ("[]", "0", 2000), ("null", "0", 2000), (b"\xff\xfe", "0", 2000), (deep, "d", 2000),
            ('{"id":"n","params":{"short":NaN}}', "n", 2000), ('{"id":"e","params":{"short":1e400}}', "e", 2000),
            ('{"id":"b","params":{"int":123456789012345678901234567890}}', "b", 2005),
            ({"id": "s", "params": {"short": "5"}}, "s", 2005), ({"id": "p", "params": 5}, "p", 2000),
            ({"id": "m", "method": "thing.service.measurepoint.get", "params": {"short": 5}}, "m", 2000),
            ({"id": "x" * 10_000, "params": {"short": 5}}, "x" * 10_000, 2000), ({"id": [], "params": {"short": 5}}, "0", 2000),
            ({"id": "ünï\u0000", "params": {"größe\u0000": 5}}, "ünï\u0000", 2003),
            ({"id": "t", "ttl": "soon", "params": {"short": 5}}, "t", 2000), ({"id": "z", "ttl": 0, "params": {"short": 5}}, "z", 2007),
            ({"id": "1M", "params": {"short": 5, "pad": "x" * 1_000_000}}, "1M", None),
            ({"id": "old", "issuedAt": 1, "params": {"short": 5}}, "old", 2007),
        ):
            answer = caller.ask(SET, payload)
            ok = answer["id"] == id_ and (answer["code"] == code or code is None and answer["code"] != 200) and answer["message"]
            assert ok, f"{str(payload)[:100]}: {str(answer)[:300]}"
        for below, code in (("thing/service/measurepoint", 2001), ("thing/service/ä", 2001)):
            answer = caller.ask(below, {"id": below, "params": {}})
            assert answer["code"] == code, f"{below}: {answer}"
        gateway_itself = caller.ask(SET, {"id": "gw", "params": {"short": 5}}, device="gw1", product="gw")
        assert gateway_itself["code"] == 2001, gateway_itself
        assert caller.ask("rrpc/request/1", {"id": "r", "method": "thing.service.measurepoint.get", "params": ["short"]})["code"] == 200
        assert caller.ask("rrpc/request/2", b"\0\1")["code"] == 2000
        assert registers(port, 0, 1) == first, "something that was refused had an effect"
        # Ids as they come: a number, a float, none; the same one for another device or method is another command.
        for id_ in (7, 7.5, "7e0"):
            answer = caller.ask(SET, {"id": id_, "params": {"short": 7}})
            assert (answer["id"], answer["code"]) == (id_, 200), answer
        assert caller.ask(SET, {"params": {"short": 8}})["code"] == 200
        assert caller.ask(GET, {"id": 7, "params": ["short"]})["data"] == {"short": 8}, "the id of a set does not stand for a get"
        again = caller.ask(SET, {"id": 7, "params": {"short": 7}})
        assert again["code"] == 200 and registers(port, 0, 1) == [8], "a repetition had an effect"
        # More at once than are let in: each is answered, and what was answered as done was done.
        before = len(caller.told(end))
        for n in range(1000):
            caller.client.publish(f"/sys/pk/meter/{SET}", json.dumps({"id": f"k{n}", "params": {"int": n}}), qos=n % 2)
        wait_until("all 1000 are answered", lambda: len(caller.told(end)) >= before + 1000, 60)
        codes = {}
        for answer in caller.told(end)[before:]:
            codes[answer["code"]] = codes.get(answer["code"], 0) + 1
        print(f"    1000 at once: {codes}")
        assert set(codes) <= {200, 2012} and codes[200] >= 16 and sum(codes.values()) == 1000, codes
        peer.kill()
        gone = lambda: caller.ask(SET, {"params": {"short": 9}})["code"] in (2008,)
        wait_until("the device is told to be offline", gone, 40)
        verified = gateway.command("audit", "--verify")
        assert verified.returncode == 0, verified.stdout
        print("    " + verified.stdout.strip())
        gateway.stop()


def asyncua_takes_writes_of_every_type(folder):
    port, broker = free_port(), Mosquitto(folder)
    peer = Peer(PYTHON, PEERS / "asyncua_server.py", port, "none")
    kinds = [("double", "double", "double", "ao"), ("int", "int", "int", "ao"), ("bool", "bool", "bool", "do"), ("text", "string", "string", "ao")]
    node = lambda n: f"ns=2;s=Machine.Set{n}"
    table = "name,number,value type,point type,coefficient,base value,alias\n"
    for n, (name, kind, _, out) in enumerate(kinds):
        table += f"{name} in,{node(n)},{kind},{'di' if out == 'do' else 'ai'},1,0,\n{name} out,{node(n)},{kind},{out},1,0,\n"
    table += "locked out,ns=2;s=Machine.Var000,double,ao,1,0,\nabsent out,ns=2;s=Nobody,double,ao,1,0,\n"
    write_site(
        folder,
        f"name: line\nprotocol: opcua\nprotocol.sys:\n  endpoint: opc.tcp://127.0.0.1:{port}/peer\n  publishing_interval_ms: 100\n",
        table,
        [("machine", "1")],
        [(name, data_type) for name, _, data_type, _ in kinds] + [("locked", "double"), ("absent", "double")],
        [(name, f"{'di' if out == 'do' else 'ai'}.{node(n)}", f"{out}.{node(n)}") for n, (name, _, _, out) in enumerate(kinds)]
        + [("locked", "", "ao.ns=2;s=Machine.Var000"), ("absent", "", "ao.ns=2;s=Nobody")],
        plain_broker(broker.port),
    )
    caller = Caller(broker.port)
    gateway = Gateway(folder)
    with running(peer, broker, gateway):
        wait_until("the gateway listens", lambda: gateway.counter("cloud_connected") == 1)
        ready = lambda: caller.ask(GET, {"params": ["double"]}, device="machine")["code"] == 200
        wait_until(f"the server is read; {gateway.tail()}", ready, 40)
        for params in (
            {"double": 0.1}, {"double": -1e300}, {"double": 5}, {"int": -2147483648}, {"int": 2147483647}, {"bool": True},
            {"bool": 0}, {"text": "Größe °C ✓"}, {"text": ""}, {"text": "x" * 1000}, {"double": 1, "int": 2, "bool": True, "text": "all"},
        ):
            answer = caller.ask(SET, {"params": params}, device="machine")
            assert answer["code"] == 200, f"{params}: {answer}"
            got = caller.ask(GET, {"params": list(params)}, device="machine")
            assert {k: float(v) if k != "text" else v for k, v in got["data"].items()} == {
                k: float(v) if k != "text" else v for k, v in params.items()
            }, f"{str(params)[:80]}: {got}"
        for params, code in (
            ({"int": 2147483648}, 2005), ({"text": 5}, 2005), ({"text": "x" * 100_000}, 2005), ({"locked": 1.0}, 2009), ({"absent": 1.0}, 2009)
        ):
            answer = caller.ask(SET, {"params": params}, device="machine")
            assert answer["code"] == code, f"{str(params)[:80]}: {answer}"
        gateway.stop()


STORIES = [
    a_cloud_sets_and_gets_every_type_of_a_pymodbus_server,
    nothing_published_to_mosquitto_goes_unanswered,
    asyncua_takes_writes_of_every_type,
]
