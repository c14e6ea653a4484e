"""The stories. Each fails with a reason; the last line counts them.

    stories.py [NAME…]
"""
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from broker import Cable, Listener, Mosquitto
from site_files import ROOT, TESTBED, Gateway, Peer, free_port, plain_broker, wait_until, write_site

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


@contextlib.contextmanager
def running(*things):
    """Whatever happens, every process ends."""
    try:
        yield things
    finally:
        for thing in things:
            if getattr(thing, "process", None) and thing.process.poll() is None:
                thing.kill()


def pymodbus_values_of_every_type_arrive_at_a_mosquitto_subscriber(folder):
    port = free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder)
    write_site(
        folder,
        modbus_connection(port),
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
        count = len(listener.values[("machine", "int")])
        with running(Peer(*server)):
            wait_until("data flows after a server restart", lambda: len(listener.values[("machine", "int")]) > count + 5, 30)
            gateway.stop()


def asyncua_values_arrive_without_security(folder):
    opcua_values_arrive(folder, "none")


def asyncua_values_arrive_signed_and_encrypted_with_a_user(folder):
    opcua_values_arrive(folder, "basic256sha256", ("operator", "let-me-in"))


def the_vendor_s_sdk_speaks_with_the_stand_in_cloud(folder):
    gateway, subs, monitor = "gwPK01/gwDK01/gwDS01SecretXYZ", ["subPK01/subDK01/s1", "subPK01/subDK02/s2"], "m:m"
    port = free_port()
    several = [word for sub in subs for word in ("--sub-device", sub)]
    cloud = Peer(
        TESTBED, "cloud", "--port", port, "--gateway", gateway, *several, "--monitor", monitor, "--accept-all", "--no-connect-limit"
    )
    with running(cloud):
        sdk = subprocess.run(
            [PYTHON, PEERS / "vendor_sdk.py", "127.0.0.1", str(port), gateway, *several, "--monitor", monitor],
            capture_output=True, text=True, timeout=120,
        )
        said = [line for line in sdk.stdout.splitlines() if line.startswith("OK")]
        print(f"    {len(said)} claims")
        assert sdk.returncode == 0 and said, sdk.stdout[-2000:] + sdk.stderr[-2000:]


STORIES = [
    the_vendor_s_sdk_speaks_with_the_stand_in_cloud,
    pymodbus_values_of_every_type_arrive_at_a_mosquitto_subscriber,
    a_pymodbus_hole_is_bad_alone_and_its_neighbours_stay_good,
    nothing_is_lost_when_the_cable_to_mosquitto_is_cut_and_the_broker_killed,
    it_starts_polls_and_buffers_with_the_broker_down,
    asyncua_values_arrive_without_security,
    asyncua_values_arrive_signed_and_encrypted_with_a_user,
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
