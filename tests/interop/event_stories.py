"""Stories of event triggers: readings of a pymodbus server, events at the stand-in cloud."""
import sys
import time

from counters import modbus_connection
from site_files import ROOT, Gateway, Peer, free_port, running, wait_until, write_site
from stand_in import StandIn

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"

TABLE = """name,number,value type,point type,coefficient,base value,alias
reads,0,ushort,ai,1,0,
below,10,ushort,ai,1,0,
"""

TRIGGERS = """triggers:
  - { id: many, model: M, measurepoint: reads, conditions: [ { operator: ">", attribute: limit } ], content: counted }
  - { id: odd, model: M, measurepoint: low_bit, conditions: [ { operator: "==", value: 1 } ], severity: info }
  - { id: held, model: M, measurepoint: reads, conditions: [ { operator: ">", value: 0 } ], delay_s: 3 }
  - { id: off, model: M, measurepoint: reads, conditions: [ { operator: ">", value: 0 } ], enabled: false, content: held }
"""


def posted(cloud, event: str) -> list:
    """Events of the counter as the cloud has taken them, oldest first. Whoever only listens would miss those that come before
    it is connected again itself."""
    return [one for one in cloud.ask("events") if (one["device_key"], one["event"]) == ("counter", event)]


def events_of_a_sub_device_reach_the_cloud_also_those_of_an_outage(folder):
    port = free_port()
    cloud = StandIn(
        "--gateway", "gw/gw1/secret", "--sub-device", "pk/counter/s-counter", "--no-connect-limit"
    )
    cloud_section = (
        f"cloud:\n  url: tcp://127.0.0.1:{cloud.port}\n  product_key: gw\n  device_key: gw1\n  device_secret: secret\n"
    )
    write_site(
        folder,
        modbus_connection(port, 500),
        TABLE,
        [("counter", 2)],
        [("reads", "int"), ("below", "int"), ("low_bit", "int")],
        [("reads", "ai.0"), ("below", "ai.10"), ("low_bit", "bit_n(ai.0,0)")],
        cloud_section,
    )
    package = folder / "site"
    with open(package / "models/m.yaml", "a") as model:
        model.write(
            "    attributes: [ { id: limit, data_type: int } ]\n"
            "    events:\n      - { id: counted, output: [ value, state ] }\n      - { id: odd, output: [ { id: value } ] }\n"
            "      - { id: held }\n"
        )
    assets = (package / "assets.yaml").read_text()
    (package / "assets.yaml").write_text(assets.replace('address: "2"', 'address: "2", attributes: { limit: 12 }'))
    (package / "triggers.yaml").write_text(TRIGGERS)
    gateway = Gateway(folder)
    with running(cloud, gateway, Peer(PYTHON, PEERS / "pymodbus_server.py", port)):
        odd = wait_until(f"odd counts are told; {gateway.tail()}", lambda: len(posted(cloud, "odd")) >= 2 and posted(cloud, "odd"))
        assert all(one["outputs"] == {"value": 1} for one in odd), odd
        # What happens while the cloud is away is told when it is back, with the time when it happened.
        cloud.order("down")
        went = time.time()
        wait_until("it happens", lambda: gateway.told("rule=many"), 30)
        time.sleep(2)
        assert not posted(cloud, "counted"), "the cloud is away"
        came = time.time()
        cloud.order("up")
        counted = wait_until("it is told", lambda: posted(cloud, "counted"), 40)
        assert counted[0]["outputs"]["state"] == "raised" and counted[0]["outputs"]["value"] > 12, counted
        assert went - 1 <= counted[0]["time"] / 1000 <= came, (went, counted, came)
        held = posted(cloud, "held")
        assert len(held) == 1 and held[0]["outputs"]["rule"] == "held", held
        status = gateway.ask("status")
        going_on = {one["rule"] for one in status["events"]["newest"]}
        assert {"many", "held"} <= going_on and "off" not in going_on, status["events"]
        gateway.stop()


STORIES = [events_of_a_sub_device_reach_the_cloud_also_those_of_an_outage]
