"""The stories. Each fails with a reason; the last line counts them.

    stories.py [NAME…]
"""
import contextlib
import signal
import subprocess
import sys
import time

import cloud_stories
import command_stories
import destination_stories
import doctor_stories
import door_stories
import event_stories
import full_disk_stories
import identity_stories
import package_stories
import pool
from broker import Cable, Listener, Mosquitto
from counters import counter_site, missing, modbus_connection
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
        # libmodbus takes what follows a request to an absent unit for that unit's answer and is silent itself: one
        # silence more for the unit that is there, and two in a row make a device silent.
        [("meter", 7), ("absent", 9)],
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

        scans = lambda: len(listener.values[("meter", "requests")])
        wait_until("some answers were late and others came", lambda: timeouts() >= 4 and scans() >= 10, 60)
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
            # The link is down, so nothing more is acknowledged. What was, the broker has; without it here first, a kill would
            # lose it, and that would be the broker's loss (a broker that persists writes it down now and then only).
            wait_until("the loss of the link shows", lambda: gateway.counter("cloud_connected") == 0)
            listener.catch_up()
            taken, here = gateway.counter("acknowledged"), listener.readings()
            assert taken <= here, f"{taken} readings count as acknowledged, and the broker handed out {here}"
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
        # Live readings go before the backlog: a hole that is still to be filled is no loss, one that stays is.
        print(f"    {len(missing(listener))} counts are still to come")
        with contextlib.suppress(AssertionError):
            wait_until("every count arrives", lambda: not missing(listener), 40)
        gateway.stop()
        listener.catch_up()
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


#: The long ones first, so that none is left over at the end.
STORIES = [
    *identity_stories.STORIES,
    *destination_stories.STORIES,
    *cloud_stories.STORIES,
    *command_stories.STORIES,
    *package_stories.STORIES,
    *doctor_stories.STORIES,
    *door_stories.STORIES,
    *event_stories.STORIES,
    *full_disk_stories.STORIES,
    pymodbus_values_of_every_type_arrive_at_a_mosquitto_subscriber,
    pymodbus_values_arrive_in_rtu_frames_over_tcp,
    libmodbus_rtu_over_a_serial_line_never_gives_a_late_answer_to_another_question,
    a_pymodbus_hole_is_bad_alone_and_its_neighbours_stay_good,
    nothing_is_lost_when_the_cable_to_mosquitto_is_cut_and_the_broker_killed,
    it_starts_polls_and_buffers_with_the_broker_down,
    trouble_is_told_once_and_in_words,
    asyncua_values_arrive_without_security,
    asyncua_values_arrive_signed_and_encrypted_with_a_user,
]


if __name__ == "__main__":
    sys.exit(pool.main(__file__, "interop", STORIES))
