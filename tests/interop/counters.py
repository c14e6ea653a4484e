"""A site whose register counts how often it was read: a missing count is a lost reading."""
from site_files import plain_broker, write_site


def modbus_connection(port: int, period: int = 200) -> str:
    return (
        f"name: line\nprotocol: modbus-tcp\nprotocol.sys:\n  host: 127.0.0.1\n  port: {port}\n"
        f"  scan_period_ms: {period}\n  timeout_ms: 500\n"
    )


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
