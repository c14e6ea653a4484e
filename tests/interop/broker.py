"""mosquitto, somebody who listens to it, and a cable between it and the gateway that can be cut."""
import collections
import json
import pathlib
import socket
import subprocess
import threading
import uuid

import paho.mqtt.client as mqtt
from site_files import free_port, wait_until


class Mosquitto:
    """A real mosquitto without persistence: it forgets everything when killed."""

    def __init__(self, folder: pathlib.Path):
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
        )
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until("mosquitto listens", self.listening)

    def listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


class Listener:
    """Everything the broker hands out, taken apart into (device, point) -> [(time, value)]."""

    def __init__(self, port: int):
        self.values = collections.defaultdict(list)
        self.messages = 0
        self.marks = set()
        self.client = mqtt.Client(client_id="listener", clean_session=True)
        self.client.on_message = self.on_message
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(10), "the listener could not subscribe"

    def on_message(self, _client, _data, message):
        if message.topic.startswith("mark/"):
            self.marks.add(message.topic)
        if not message.topic.endswith("/batch"):
            return
        self.messages += 1
        for item in json.loads(message.payload)["params"]:
            for point, value in item["measurepoints"].items():
                self.values[(item["deviceKey"], point)].append((item["time"], value))

    def catch_up(self):
        """Returns when everything the broker had taken before is here. It hands a listener its messages in the order it
        took them, so a message of the listener's own that comes back came after all of them."""
        mark = f"mark/{uuid.uuid4().hex}"
        self.client.publish(mark, qos=1)
        wait_until("the broker hands out what it has", lambda: mark in self.marks)

    def readings(self) -> int:
        """Different ones, however often each came."""
        return sum(len(set(values)) for values in self.values.values())

    def last(self, device: str, point: str):
        seen = self.values.get((device, point))
        return seen[-1][1] if seen else None

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()


class Cable:
    """A TCP relay to `port`. `cut` resets every connection and refuses new ones until `mend`."""

    def __init__(self, port: int):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.whole = True
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            inner, _ = self.listener.accept()
            if not self.whole:
                inner.close()
                continue
            try:
                outer = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                inner.close()
                continue
            self.open += [inner, outer]
            for a, b in ((inner, outer), (outer, inner)):
                threading.Thread(target=self.relay, args=(a, b), daemon=True).start()

    @staticmethod
    def relay(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for end in (a, b):
            end.close()

    def cut(self):
        self.whole = False
        for end in self.open:
            try:
                # Linger 0: reset, not a polite close.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()

    def mend(self):
        self.whole = True
