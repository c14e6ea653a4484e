"""A broker of the amqtt project with knobs for what brokers do on bad days.

    amqtt_broker.py PORT FOLDER      prints READY

FOLDER/knobs.json is read at every use:
    late            seconds before each PUBACK
    close           true: close right after CONNACK
    refuse          true: answer every SUBSCRIBE of the gateway with 0x80
    forget          true: no session outlives its connection
FOLDER/ledger.jsonl gets a line for every message, written when its PUBACK is sent: {"client","topic","payload"}.
FOLDER/connects.jsonl gets a line for every CONNACK: {"client","clean","present"}.
"""
import asyncio
import json
import logging
import pathlib
import sys
from dataclasses import dataclass

import amqtt.broker
from amqtt.contexts import Action
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.plugins.base import BaseTopicPlugin

LISTENER = "listener"


def folder() -> pathlib.Path:
    return pathlib.Path(sys.argv[2])


def knob(name: str):
    try:
        return json.loads((folder() / "knobs.json").read_text()).get(name)
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def note(name: str, line: dict):
    with open(folder() / name, "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


class Refusing(BaseTopicPlugin):
    """Grants all but, when told so, the gateway's subscriptions."""

    @dataclass
    class Config:
        pass

    async def topic_filtering(self, *, session=None, topic=None, action=None):
        return not (action == Action.SUBSCRIBE and session.client_id != LISTENER and knob("refuse"))


class Odd(BrokerProtocolHandler):
    """The project's own handler, late and noting down what it acknowledges."""

    async def handle_publish(self, publish_packet):
        if self.session.client_id != LISTENER:
            packet_id = publish_packet.variable_header.packet_id
            held = self.__dict__.setdefault("held", {})
            held[packet_id] = (publish_packet.variable_header.topic_name, bytes(publish_packet.payload.data))
        await super().handle_publish(publish_packet)

    async def _send_packet(self, packet):
        mine = self.session is not None and self.session.client_id != LISTENER
        if mine and isinstance(packet, PubackPacket):
            late = knob("late")
            if late:
                await asyncio.sleep(late)
            topic, payload = self.__dict__.get("held", {}).pop(packet.variable_header.packet_id, (None, b""))
            if self.writer and topic is not None:
                note("ledger.jsonl", {"client": self.session.client_id, "topic": topic, "payload": payload.decode()})
        await super()._send_packet(packet)

    async def mqtt_connack_authorize(self, authorize: bool):
        await super().mqtt_connack_authorize(authorize)
        if self.session.client_id == LISTENER:
            return
        present = bool(self.session.parent)
        note("connects.jsonl", {"client": self.session.client_id, "clean": self.session.clean_session, "present": present})
        if knob("close"):
            await self.writer.close()


class Forgetful(amqtt.broker.Broker):
    async def _initialize_client_session(self, reader, writer, remote_address, remote_port):
        if knob("forget"):
            for client_id in [name for name in self._sessions if name != LISTENER]:
                await self._delete_session(client_id)
        return await super()._initialize_client_session(reader, writer, remote_address, remote_port)


async def main():
    amqtt.broker.BrokerProtocolHandler = Odd
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
        "plugins": {
            "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
            f"{pathlib.Path(__file__).stem}.Refusing": {},
        },
    }
    broker = Forgetful(config)
    await broker.start()
    print("READY", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    asyncio.run(main())
