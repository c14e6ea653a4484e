"""Stories of brokers beside EnOS, or instead of it, and of logic assets by REST."""
import gzip
import json
import random
import subprocess
import sys
import time
import urllib.parse

from broker import Cable, Listener, Mosquitto
from counters import COUNTER, counter_site, missing, modbus_connection
from site_files import ROOT, TESTBED, Gateway, Peer, free_port, plain_broker, running, wait_until, write_site
from stand_in import StandIn

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"


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


def kept(gateway, name) -> dict:
    """What the outbox reckons for a destination, exactly."""
    return next((d["readings"] for d in gateway.ask("status")["outbox"]["destinations"] if d["name"] == name), {})


def balanced(gateway) -> dict:
    """The sum that holds at any moment, for each destination; returns them by name."""
    tallies = {d["name"]: d["readings"] for d in gateway.ask("status")["outbox"]["destinations"]}
    for name, tally in tallies.items():
        gone = sum(tally[key] for key in ("acknowledged", "set_aside", "dropped", "waiting"))
        assert tally["waiting_at_open"] + tally["produced"] == gone, f"{name}: {tally}"
    return tallies


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
    nobody = free_port()
    subscribe = "\n      - { filter: in/+/+, device: \"{1}\", point: \"{2}\" }"

    def site(meter, cable):
        entry = destination("second", f"tcp://127.0.0.1:{cable}", reply_timeout_ms=1000, clean_session=clean, subscribe=subscribe)
        counter_site(folder, meter, nobody, extra=f"destinations:\n{entry}")

    connects = bad_days(folder, "second", site)
    assert {line["clean"] for line in connects} == {clean == "true"}, connects
    if clean == "false":
        assert {line["present"] for line in connects} == {True, False}, "both kept and forgotten sessions were met"


def amqtt_on_its_bad_days_loses_nothing_with_clean_sessions_either(folder):
    amqtt_on_its_bad_days_loses_nothing_of_a_gateway_without_enos(folder, clean="true")


def amqtt_on_its_bad_days_loses_nothing_of_the_link_in_puback_mode(folder):
    bad_days(folder, "enos", lambda meter, cable: counter_site(folder, meter, cable, extra="  reply_timeout_ms: 1000\n"))


def bad_days(folder, name, site) -> list:
    """All of amqtt's moods for one destination of a new site; returns the connections it had."""
    port = free_port()
    peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Amqtt(folder)
    cable = Cable(broker.port)
    site(port, cable.port)
    gateway = Gateway(folder)

    def more(what, seconds=60.0, count=40):
        before = len(set(broker.counts()))
        wait_until(f"{what}; {gateway.tail()}", lambda: len(set(broker.counts())) > before + count, seconds)

    with running(peer, gateway, broker):
        more("data flows")
        broker.turn(late=0.4)
        more("late answers are waited for")
        broker.turn(late=2.5)
        more("answers later than the patience are found in time", 120)
        broker.turn(close=True)
        connects = len(broker.lines("connects.jsonl"))
        cable.cut()
        cable.mend()
        wait_until("it closes after CONNACK", lambda: len(broker.lines("connects.jsonl")) > connects + 2, 60)
        broker.turn(refuse=True)
        more("data flows without the subscription", 90)
        for round_ in range(3):
            broker.turn(forget=round_ == 1)
            cable.cut()
            time.sleep(0.7)
            cable.mend()
            more("data flows on the next connection", 90)
        broker.kill()
        time.sleep(1)
        broker = Amqtt(folder, broker.port)
        with running(broker):
            more("data flows after the broker's restart", 90)
            # Live readings go first, so what waits may lie before what arrived: only nothing is nothing lost.
            peer.kill()
            wait_until("nothing waits", lambda: kept(gateway, name)["waiting"] == 0, 120)
            balanced(gateway)
            if name != "enos":
                assert gateway.told("not acknowledged") >= 1, "the patience was never over"
                assert gateway.told("refused a subscription") >= 1
            connects = broker.lines("connects.jsonl")
            gateway.stop()
    counts = broker.counts()
    print(f"    {len(connects)} connections, {len(counts)} values, {len(counts) - len(set(counts))} duplicates")
    assert not broker.gap(), f"lost: {broker.gap()[:10]}"
    return connects


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


#: Half of the notes published, each of 1 KB that does not compress well: more than a quota of 1 MiB.
NOTES = 1200


class Notes(Listener):
    """Also keeps what came of the point `note`, short: the number each begins with."""

    def note_numbers(self) -> set:
        return {int(value[:6]) for _, value in self.values[("counter", "note")]}


def a_dead_broker_with_a_filter_and_a_quota_loses_only_its_own_and_a_kill_costs_nobody_else(folder):
    """Quota, filter, feeding and several destinations at once, with kill -9 in the middle."""
    port, nobody = free_port(), free_port()
    other = folder / "other"
    other.mkdir()
    peer = Peer(PYTHON, PEERS / "pymodbus_server.py", port)
    enos, second = Mosquitto(folder), Mosquitto(other)
    subscribe = "\n      - { filter: in/+/+, device: \"{1}\", point: \"{2}\" }"
    several = destination("healthy", f"tcp://127.0.0.1:{second.port}", subscribe=subscribe)
    several += destination("dead", f"tcp://127.0.0.1:{nobody}", quota_mb=1, filter="{ points: note }")
    write_site(
        folder, modbus_connection(port, 50) + "  max_gap: 40\n", COUNTER, [("counter", 2)],
        [("reads", "int"), ("below", "int"), ("note", "string")], [("reads", "ai.0"), ("below", "ai.10")],
        plain_broker(enos.port) + f"destinations:\n{several}",
    )
    listeners = [Notes(enos.port), Notes(second.port)]
    gateway = Gateway(folder)

    def publish(numbers):
        for number in numbers:
            noise = "".join(random.choices("0123456789abcdefghijklmnopqrstuv", k=1000))
            sent = listeners[1].client.publish("in/counter/note", f"{number:06}{noise}", qos=1)
        sent.wait_for_publish(30)

    def arrived(numbers):
        return all(listener.note_numbers() >= set(numbers) for listener in listeners)

    with running(peer, enos, second, gateway):
        wait_until("data flows", lambda: all(one.values[("counter", "reads")] for one in listeners))
        wait_until("the subscription stands", lambda: shown(gateway, "healthy").get("messages_acknowledged"))
        publish(range(NOTES))
        wait_until("all notes arrive at both", lambda: arrived(range(NOTES)), 40)
        before = balanced(gateway)["dead"]
        assert before["produced"] == NOTES, f"the filter: {before}"
        time.sleep(1.5)  # the durability bound
        dead = kept(gateway, "dead")
        gateway.kill()
        gateway = Gateway(folder)
        with running(gateway):
            wait_until("it is back", lambda: shown(gateway, "healthy").get("messages_acknowledged"), 40)
            # What was dropped and stored before the kill stays so: nothing came back, nothing vanished.
            assert kept(gateway, "dead")["waiting_at_open"] == dead["waiting"], (kept(gateway, "dead"), dead)
            publish(range(NOTES, 2 * NOTES))
            wait_until("all notes arrive at both", lambda: arrived(range(2 * NOTES)), 40)
            peer.kill()
            wait_until("nothing waits for the living", lambda: all(kept(gateway, n)["waiting"] == 0 for n in ("enos", "healthy")), 30)
            wait_until("the quota holds", lambda: kept(gateway, "dead")["dropped"] > 0, 10)
            tallies, status = balanced(gateway), gateway.ask("status")
            for name in ("enos", "healthy"):
                assert (tallies[name]["dropped"], tallies[name]["set_aside"]) == (0, 0), tallies
            dead = tallies["dead"]
            assert dead["dropped"] > 0 and dead["waiting"] > 20, f"the quota was never full, or kept nothing: {dead}"
            assert {gap["destination"] for gap in status["outbox"]["gaps"]} == {"dead"}, status["outbox"]["gaps"]
            on_disk = status["outbox"]["bytes_on_disk"]
            assert on_disk < 4 << 20, f"{on_disk} bytes for a quota of 1 MiB"
            gateway.stop()
    for listener in listeners:
        lost = missing(listener)
        # Read and not yet on disk or acknowledged at the kill: one run, no longer than the bound.
        assert len(lost) <= 25 and (not lost or lost[-1] - lost[0] == len(lost) - 1), f"lost: {lost}"
    print(f"    {2 * NOTES} notes at both, dead: {dead['waiting']} wait, {dead['dropped']} dropped, {on_disk >> 10} KiB on disk; "
          f"counts lost in the kill's last moment: {[len(missing(one)) for one in listeners]}")


def logic_and_device_assets_behind_one_connection_survive_a_rest_outage(folder):
    port = free_port()
    cloud = StandIn(
        "--gateway", "gwPK01/edge/edgeSecret", "--device", "pk/counter/s-counter", "--no-connect-limit", "--rest-port", 0
    )
    meter = Peer(TESTBED, "meter", "--port", port, "--units", 3, "--pattern", "reads")
    write_site(
        folder, modbus_connection(port, 100), COUNTER.splitlines()[0] + "\nreads,1000,ushort,ai,1,0,\n", [("counter", 2)],
        [("reads", "int")], [("reads", "ai.1000")],
        f"cloud:\n  product_key: gwPK01\n  device_key: edge\n  url: tcp://127.0.0.1:{cloud.port}\n  device_secret: edgeSecret\n"
        f"rest:\n  url: {cloud.rest}\n  access_key: testbed-access-key\n  secret_key: testbed-secret-key\n  org_id: o1\n"
        "  timeout_ms: 2000\nintegration:\n  late_after_s: 3\n",
    )
    with open(folder / "site/assets.yaml", "a") as assets:
        assets.write('  - { name: 服务器, kind: logic, asset_id: AbC123, template: t, connection: line, address: "3" }\n')
    cloud.ask("rest counts AbC123 reads 65536")
    gateway = Gateway(folder)

    def rest():
        return cloud.ask("rest stats")

    with running(cloud, meter, gateway):
        wait_until(f"both flow; {gateway.tail()}", lambda: rest()["values"] > 20 and cloud.ask("stats")["values"] > 20, 40)
        for mood, state in (
            ("status 503", "slowed"), ("withhold true", "waiting"), ("down true", "waiting"),
            ("unauthorised true", "not_authorised"), ("code 24001 orgId is not known", "refused"),
        ):
            cloud.order(f"rest {mood}")
            wait_until(f"{mood} shows; {gateway.tail()}", lambda: gateway.ask("status")["integration"]["state"] == state, 40)
            waiting = kept(gateway, "integration")["waiting"]
            wait_until("it waits", lambda: kept(gateway, "integration")["waiting"] > waiting + 20, 30)
            assert kept(gateway, "enos")["waiting"] < 60, f"{mood}: the other door is delayed: {kept(gateway, 'enos')}"
            page = gateway.command("status").stdout
            assert "rest " in page and "readings wait" in page and cloud.rest in page, page
            cloud.order("rest well")
            wait_until(f"{mood} is over; {gateway.tail()}", lambda: kept(gateway, "integration")["waiting"] < 30, 90)
        meter.kill()
        wait_until("nothing waits", lambda: all(tally["waiting"] == 0 for tally in balanced(gateway).values()), 30)
        tallies, stats, report = balanced(gateway), rest(), cloud.ask("rest report")
        assert stats["wrong"] == [], stats
        assert report["lost"] == 0 and report["repeated"] == 0, report
        assert report["delivered"] == tallies["integration"]["produced"], (report, tallies)
        by_mqtt = cloud.ask("report")
        assert by_mqtt["delivered"] == tallies["enos"]["produced"], (by_mqtt, cloud.ask("stats"), tallies)
        assert sum(tally["dropped"] + tally["set_aside"] for tally in tallies.values()) == 0, tallies
        print(f"    by REST {report['delivered']} once, {report['duplicated']} twice, {stats['late_values']} as late data, 0 lost; "
              f"by MQTT {tallies['enos']['produced']}, 0 lost")
        gateway.stop()


HOSTILE = ['"a"/b+#', "中文 名", "$SYS/%2F", "back\\slash {value}", "'];--é😀"]
TEXT = 'a"b\\c\n\t\u0001{time}中文😀 \u2028 %s /+#'
FORMS = {
    "json": {"topic": "f/json/{device}", "payload": "json"},
    "lines": {"topic": "f/lines", "payload": "json-device", "join": "lines", "compress": "gzip"},
    "template": {
        "topic": "f/template/{device}/{point}", "join": "array",
        "payload": """'{"d":"{device}","p":"{point}","v":{value},"w":"{value_text}","t":{time},"i":"{time_iso}","x":{}}'""",
    },
    "value": {"topic": "f/value/{device}/{point}", "payload": "value"},
    "all": {"topic": "f/all", "payload": "enos"},
}


def parts(form, topic, payload) -> list:
    """(device, point, value) of a message."""
    names = [urllib.parse.unquote(level) for level in topic.split("/")[2:]]
    if form == "value":
        return [(*names, payload.decode() if names[1] == "note" else json.loads(payload))]
    if form == "json":
        items = json.loads(payload)
        assert {item["device"] for item in items} == set(names), topic
        return [(item["device"], item["point"], item["value"]) for item in items]
    if form == "lines":
        items = [json.loads(line) for line in gzip.decompress(payload).decode().split("\n")]
        return [(item["device"], point, value) for item in items for point, value in item["values"].items()]
    if form == "all":
        items = json.loads(payload)["params"]
        return [(HOSTILE[int(i["deviceKey"][1:])], point, value) for i in items for point, value in i["measurepoints"].items()]
    items = json.loads(payload)
    for item in items:
        assert [item["d"], item["p"]] == names and item["x"] == {}, (topic, item)
        assert item["w"] == (item["v"] if isinstance(item["v"], str) else json.dumps(item["v"])), item
    return [(item["d"], item["p"], item["v"]) for item in items]


def every_payload_form_says_the_same_of_hostile_names_and_texts(folder):
    """A broker with users; five destinations on it, told apart by their topics."""
    port, nobody = free_port(), free_port()
    meter = Peer(TESTBED, "meter", "--port", port, "--units", 8, "--pattern", "reads")
    broker = Mosquitto(folder)
    broker.kill()
    subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "users", "gw", "päss word"], check=True, capture_output=True)
    with open(broker.config, "a") as config:
        config.write(f"user root\npassword_file {folder}/users\n")
    broker.start()
    subscribe = "\n      - { filter: in/+, device: \"{1}\", point: note, value: /v }"
    access = {"user": "gw", "password": "päss word"}
    several = "".join(
        destination(name, f"tcp://127.0.0.1:{broker.port}", **{**keys, **access, **({"subscribe": subscribe} if name == "json" else {})})
        for name, keys in FORMS.items()
    )
    several += destination("intruder", f"tcp://127.0.0.1:{broker.port}", user="gw", password="wrong")
    write_site(
        folder, modbus_connection(port, 100), COUNTER.splitlines()[0] + "\nreads,1000,ushort,ai,1,0,\n", [],
        [("reads", "int"), ("note", "string")], [("reads", "ai.1000")], plain_broker(nobody) + f"destinations:\n{several}",
    )
    with open(folder / "site/assets.yaml", "a") as assets:
        for at, name in enumerate(HOSTILE):
            keys = f"product_key: pk, device_key: d{at}, device_secret: s"
            assets.write(f'  - {{ name: {json.dumps(name, ensure_ascii=False)}, {keys}, template: t, connection: line, address: "{at + 1}" }}\n')
    seen, wrong = {form: set() for form in FORMS}, []

    def take(_client, _data, message):
        if message.topic.startswith("f/"):
            form = message.topic.split("/")[1]
            try:
                seen[form] |= set(parts(form, message.topic, message.payload))
            except Exception as error:  # it would be lost in the client's thread
                wrong.append(f"{message.topic}: {error!r}")

    listener = Listener(broker.port)
    listener.client.on_message = take
    gateway = Gateway(folder)
    with running(meter, broker, gateway):
        try:
            wait_until(f"data flows; {gateway.tail()}", lambda: wrong or all(len(of) > 60 for of in seen.values()))
        except AssertionError:
            print({k: len(v) for k, v in seen.items()}, wrong, gateway.ask("status")["destinations"])
            raise
        assert not wrong, wrong[:5]
        # `+` stands for one level; a name with slashes can not be received so.
        for name in (name for name in HOSTILE if not set(name) & set("/+#")):
            listener.client.publish(f"in/{name}", json.dumps({"v": TEXT}), qos=1).wait_for_publish(5)
        fed = {(name, "note", TEXT) for name in HOSTILE if not set(name) & set("/+#")}
        wait_until("the texts were read", lambda: shown(gateway, "json")["received"]["messages"] == len(fed))
        wait_until(f"the texts arrive everywhere; {shown(gateway, 'json')}", lambda: wrong or all(fed <= of for of in seen.values()))
        meter.kill()
        wait_until("nothing waits", lambda: all(kept(gateway, name)["waiting"] == 0 for name in FORMS))
        tallies = balanced(gateway)
        time.sleep(0.5)
        assert not wrong, wrong[:5]
        for name, of in seen.items():
            assert of == seen["json"], f"{name}: {list(of ^ seen['json'])[:5]}"
            assert len(of) == tallies[name]["produced"] == tallies[name]["acknowledged"], (name, len(of), tallies[name])
        assert tallies["intruder"]["acknowledged"] == 0 and shown(gateway, "intruder")["last_error"], "a wrong password passed"
        assert gateway.told("päss") == 0
        print(f"    {len(seen['json'])} readings of {len(HOSTILE)} devices, the same in {len(FORMS)} forms")
        gateway.stop()


STORIES = [
    mosquitto_with_mutual_tls_gets_everything_while_enos_is_dead,
    enos_gets_everything_while_a_destination_is_dead,
    amqtt_on_its_bad_days_loses_nothing_of_a_gateway_without_enos,
    amqtt_on_its_bad_days_loses_nothing_with_clean_sessions_either,
    amqtt_on_its_bad_days_loses_nothing_of_the_link_in_puback_mode,
    values_of_a_broker_feed_points_and_reach_the_cloud,
    a_dead_broker_with_a_filter_and_a_quota_loses_only_its_own_and_a_kill_costs_nobody_else,
    every_payload_form_says_the_same_of_hostile_names_and_texts,
    logic_and_device_assets_behind_one_connection_survive_a_rest_outage,
]
