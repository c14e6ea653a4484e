"""Stories of packages that change while devices that others made go on."""
import sys
import time

from broker import Listener, Mosquitto
from counters import modbus_connection
from site_files import ROOT, Gateway, Peer, free_port, plain_broker, running, wait_until

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"
SWAPS = 40

COUNTER = "name,number,value type,point type,coefficient,base value,alias\nreads,0,ushort,ai,1,0,\n"
TICKS = "name,number,value type,point type,coefficient,base value,alias\nticks,ns=2;s=Machine.Var001,int,ai,1,0,\n"


def clients(port: int) -> set:
    """Local ports of those who are connected to a server of this machine."""
    established, found = "01", set()
    for line in open("/proc/net/tcp"):
        fields = line.split()
        if len(fields) > 3 and fields[3] == established and fields[2].endswith(f":{port:04X}"):
            found.add(fields[1])
    return found


def write_package(folder, swap: int, modbus: int, opcua: int):
    """Each numbers the devices anew; the line in front of the others comes, changes and goes."""
    package = folder / f"site-{swap}"
    files = {
        "package.yaml": f"format: 1\nname: swaps\nversion: 1.0.{swap}\n",
        "connections/meter.yaml": modbus_connection(modbus, 50),
        "connections/machine.yaml": f"name: machine\nprotocol: opcua\nprotocol.sys:\n  endpoint: opc.tcp://127.0.0.1:{opcua}/peer\n"
        "  sampling_interval_ms: 50\n  publishing_interval_ms: 100\n  queue_size: 20\n",
        "models/m.yaml": "models:\n" + "".join(
            f"  - id: {point}\n    measurepoints: [ {{ id: {point}, data_type: int }} ]\n" for point in ("reads", "ticks")
        ),
    }
    for name, table, source in (("reads", COUNTER, "ai.0"), ("ticks", TICKS, "ai.ns=2;s=Machine.Var001")):
        files[f"templates/{name}/template.yaml"] = f"model: {name}\n"
        files[f"templates/{name}/point.csv"] = table
        files[f"templates/{name}/mapping.csv"] = f'point,pdesp,mapping,mdesp\n{name},,"{source}",\n'
    device = "  - {{ name: {0}, product_key: pk-{1}, device_key: {0}, device_secret: s, template: {1}, connection: {2}, address: \"{3}\" }}\n"
    assets = "devices:\n"
    if swap % 3:
        files["connections/spare.yaml"] = modbus_connection(modbus, 100 + swap % 3).replace("name: line", "name: spare")
        assets += device.format("spare", "reads", "spare", 1)
    assets += device.format("counter", "reads", "line", 2) + device.format("machine", "ticks", "machine", 1)
    files["assets.yaml"] = assets
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def packages_change_beside_pymodbus_and_asyncua_which_notice_nothing(folder):
    modbus, opcua = free_port(), free_port()
    peers = [Peer(PYTHON, PEERS / "pymodbus_server.py", modbus), Peer(PYTHON, PEERS / "asyncua_server.py", opcua, "none")]
    broker = Mosquitto(folder)
    first = write_package(folder, 0, modbus, opcua)
    (folder / "edge.yaml").write_text(f"state_dir: {folder}/state\npackage: {first}\n{plain_broker(broker.port)}")
    listener = Listener(broker.port)
    gateway = Gateway(folder)
    with running(*peers, broker, gateway):
        for point in (("counter", "reads"), ("machine", "ticks")):
            wait_until(f"{point} flows; {gateway.tail()}", lambda: len(listener.values[point]) > 10)
        before = clients(modbus), clients(opcua)
        assert [len(some) for some in before] == [1, 1], before
        took = []
        for swap in range(1, SWAPS + 1):
            answer = gateway.ask("package", "install", write_package(folder, swap, modbus, opcua))
            assert answer["applied"]["kept"] == 2 and not answer["applied"]["cut_off"], answer
            took.append(answer["switched_ms"])
            assert before[0] <= clients(modbus) and before[1] == clients(opcua), "a device that did not change was connected to anew"
            time.sleep(0.1)
        lines = {line["name"]: line for line in gateway.ask("status")["south"]["connections"]}
        assert [lines[name]["sessions"] for name in ("line", "machine")] == [1, 1], lines
        time.sleep(0.5)
        gateway.stop()
    counts = [value for _, value in listener.values[("counter", "reads")]]
    assert counts == list(range(counts[0], counts[0] + len(counts))), f"not each count once and in order: {counts}"
    ticks = [value for _, value in listener.values[("machine", "ticks")]]
    steps = [after - earlier for earlier, after in zip(ticks, ticks[1:])]
    # The server itself leaves out a tick when it is late.
    assert min(steps) >= 1 and max(steps) <= 10, f"ticks twice or missing: {ticks}"
    took.sort()
    print(f"    {SWAPS} swaps, {len(counts)} counts and {len(ticks)} ticks, each once; switched in {took[SWAPS // 2]:.1f} ms (p50)")


STORIES = [packages_change_beside_pymodbus_and_asyncua_which_notice_nothing]
