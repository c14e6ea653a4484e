"""Every command, pushed by an operator, and what the vendor's SDK answers: the pairs of testcases/sdk-vectors and their
complement, so that each command is seen with a handler and without."""

import json
import queue

import paho.mqtt.client as paho
from enos.message.downstream.device.SubDeviceDeleteCommand import SubDeviceDeleteCommand
from enos.message.downstream.device.SubDeviceDeleteReply import SubDeviceDeleteReply
from enos.message.downstream.device.SubDeviceDisableCommand import SubDeviceDisableCommand
from enos.message.downstream.device.SubDeviceDisableReply import SubDeviceDisableReply
from enos.message.downstream.device.SubDeviceEnableCommand import SubDeviceEnableCommand
from enos.message.downstream.device.SubDeviceEnableReply import SubDeviceEnableReply
from enos.message.downstream.ota.OtaUpgradeCommand import OtaUpgradeCommand
from enos.message.downstream.ota.OtaUpgradeReply import OtaUpgradeReply
from enos.message.downstream.tsl.MeasurepointGetCommand import MeasurepointGetCommand
from enos.message.downstream.tsl.MeasurepointGetReply import MeasurepointGetReply
from enos.message.downstream.tsl.MeasurepointSetCommand import MeasurepointSetCommand
from enos.message.downstream.tsl.MeasurepointSetReply import MeasurepointSetReply
from enos.message.downstream.tsl.ModelDownRawCommand import ModelDownRawCommand
from enos.message.downstream.tsl.ModelDownRawReply import ModelDownRawReply
from enos.message.downstream.tsl.ServiceInvocationCommand import ServiceInvocationCommand
from enos.message.downstream.tsl.ServiceInvocationReply import ServiceInvocationReply
from sdk_requests import VECTORS

PAIRS = json.loads((VECTORS / "commands.json").read_text())["commands"]
# The one that only a client in secure mode 3 has a handler for: its own.
ACTIVATION = next(pair for pair in PAIRS if "activate" in pair["command"]["topic"])
WAIT_S = 10


class Operator:
    """A monitor of the stand-in: it pushes a command and hears the answer."""

    def __init__(self, host, port, user, password):
        self.answers = queue.Queue()
        ready = queue.Queue()
        self.client = paho.Client(client_id="operator")
        self.client.username_pw_set(user, password)
        self.client.on_message = lambda _client, _data, message: self.answers.put((message.topic, message.payload))
        self.client.on_connect = lambda *_: self.client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: ready.put(True)
        self.client.connect(host, port)
        self.client.loop_start()
        ready.get(timeout=WAIT_S)

    def ask(self, topic, payload, reply_topic):
        self.client.publish(topic, payload, 1)
        return self.heard(reply_topic)

    def heard(self, reply_topic):
        while True:
            got, answer = self.answers.get(timeout=WAIT_S)
            if got == reply_topic:
                return answer

    def nothing_more(self, seconds=0.3):
        """Second answers would be here by then."""
        late = []
        try:
            while True:
                late.append(self.answers.get(timeout=seconds))
        except queue.Empty:
            return [topic for topic, _ in late if topic.endswith("_reply")]

    def close(self):
        self.client.loop_stop()
        self.client.disconnect()


def payload_of(side):
    return bytes.fromhex(side["payload_hex"]) if "payload_hex" in side else json.dumps(side["payload"])


def same(side, answer):
    return answer == payload_of(side) if "payload_hex" in side else json.loads(answer) == side["payload"]


def set_points(_message, _path):
    return MeasurepointSetReply().builder().set_code(200).set_message("ok").build()


def get_points(_message, _path):
    return MeasurepointGetReply.builder().set_code(200).add_measureponit("p1", 2).build()


def service(message, path):
    if path[2] == "boom":
        raise ValueError("handler blew up")
    inputs = message.get_params()
    return ServiceInvocationReply.builder().set_code(200).add_output_data("result", inputs["left"] * inputs["right"]).build()


def raw(_message, _path):
    reply = ModelDownRawReply()
    reply.set_payload(bytes.fromhex("0200"))
    reply.set_code(200)
    return reply


def noted(reply):
    return lambda _message, _path: reply.builder().set_code(200).build()


# The handlers with which the pairs were made; the others were asked without.
HANDLERS = [(MeasurepointSetCommand, set_points), (ServiceInvocationCommand, service), (ModelDownRawCommand, raw),
            (SubDeviceDisableCommand, noted(SubDeviceDisableReply))]
MORE_HANDLERS = [(MeasurepointGetCommand, get_points), (SubDeviceEnableCommand, noted(SubDeviceEnableReply)),
                 (SubDeviceDeleteCommand, noted(SubDeviceDeleteReply)), (OtaUpgradeCommand, noted(OtaUpgradeReply))]
# What the last of them answer when they have one.
ANSWERED = {
    "measurepoint/get": {"code": 200, "data": {"p1": 2}, "message": ""},
    "combine/enable": {"code": 200, "data": "", "message": ""},
    "combine/delete": {"code": 200, "data": "", "message": ""},
    "ota/device/upgrade": {"code": 200, "data": "", "message": ""},
}


def pairs_are_answered(claim, client, operator):
    for command, handler in HANDLERS:
        client.register_arrived_message_handler(command.get_class(), handler)
    for pair in (pair for pair in PAIRS if pair is not ACTIVATION):
        # Without a subscription for it: the SDK never subscribes to command topics.
        answer = operator.ask(pair["command"]["topic"], payload_of(pair["command"]), pair["reply"]["topic"])
        claim(f"command {pair['command']['topic']} is answered as in the vectors", same(pair["reply"], answer), answer)


def complements_are_answered(claim, client, operator):
    """Those that had no handler get one."""
    for command, handler in MORE_HANDLERS:
        client.register_arrived_message_handler(command.get_class(), handler)
    for part, expected in ANSWERED.items():
        pair = next(pair for pair in PAIRS if part in pair["command"]["topic"])
        asked = dict(pair["command"]["payload"], id=f"2{pair['command']['payload']['id']}")
        answer = json.loads(operator.ask(pair["command"]["topic"], json.dumps(asked), pair["reply"]["topic"]))
        claim(f"{part} with a handler", answer == dict(expected, id=asked["id"]), answer)


def without_any_handler(claim, operator):
    """Those that had a handler, of a client that has none."""
    for part in ("measurepoint/set", "service/multiply", "combine/disable", "activate/info"):
        pair = next(pair for pair in PAIRS if part in pair["command"]["topic"])
        asked = dict(pair["command"]["payload"], id=f"3{pair['command']['payload']['id']}")
        answer = json.loads(operator.ask(pair["command"]["topic"], json.dumps(asked), pair["reply"]["topic"]))
        claim(f"{part} without a handler: reply-code-is-text", answer["code"] == "1101", answer)
