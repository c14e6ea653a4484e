"""The vendor's own Python SDK against the stand-in cloud: proves that the stand-in speaks the vendor's dialect.

    pip install enos-mqtt-sdk-python==0.1.1 'paho-mqtt<2'
    testbed cloud --port P --gateway PK/DK/SECRET --sub-device PK/DK/SECRET --sub-device … --monitor USER:PASSWORD
    python vendor_sdk.py HOST PORT PK/DK/SECRET --sub-device PK/DK/SECRET --sub-device … --monitor USER:PASSWORD

Prints one OK line a claim; exits non-zero when one fails. The sub-devices' points must take any number.
"""

import argparse
import json
import sys
import threading
import time

import paho.mqtt.client as paho
from enos.core.MqttClient import MqttClient
from enos.message.downstream.tsl.MeasurepointSetCommand import MeasurepointSetCommand
from enos.message.downstream.tsl.MeasurepointSetReply import MeasurepointSetReply
from enos.message.upstream.resume.MeasurepointResumeBatchRequest import MeasurepointResumeBatchRequest
from enos.message.upstream.resume.MeasurepointResumeRequest import MeasurepointResumeRequest
from enos.message.upstream.status.SubDeviceLoginBatchRequest import SubDeviceLoginBatchRequest
from enos.message.upstream.status.SubDeviceLoginRequest import SubDeviceLoginRequest
from enos.message.upstream.status.SubDeviceLogoutRequest import SubDeviceLogoutRequest
from enos.message.upstream.tag.TagQueryRequest import TagQueryRequest
from enos.message.upstream.tag.TagUpdateRequest import TagUpdateRequest
from enos.message.upstream.topo.SubDeviceInfo import SubDeviceInfo
from enos.message.upstream.topo.TopoAddRequest import TopoAddRequest
from enos.message.upstream.topo.TopoGetRequest import TopoGetRequest
from enos.message.upstream.tsl.AttributeQueryRequest import AttributeQueryRequest
from enos.message.upstream.tsl.AttributeUpdateRequest import AttributeUpdateRequest
from enos.message.upstream.tsl.MeasurepointPostBatchRequest import MeasurepointPostBatchRequest
from enos.message.upstream.tsl.MeasurepointPostRequest import MeasurepointPostRequest

WAIT_S = 10
NOW_MS = int(time.time() * 1000)


class Failed(Exception):
    pass


def claim(text, holds, detail=""):
    if not holds:
        raise Failed(f"{text}: {detail}")
    print(f"OK {text}", flush=True)


def wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Callback:
    """connect() without a callback may block its full time though connected."""

    def on_connect(self, *_):
        pass

    def on_disconnect(self, *_):
        pass

    def on_connect_failed(self, *_):
        pass


def connect(url, triple):
    client = MqttClient(url, *triple)
    client.get_profile().set_auto_reconnect(False)
    client.get_profile().set_operation_timeout(WAIT_S)
    client.connect(Callback())
    return client


def a_wrong_secret_is_refused(host, port, triple):
    """With the SDK's own fields, but one CONNECT only: the SDK itself would try again every second for ever."""
    profile = MqttClient(f"tcp://{host}:{port}", triple[0], triple[1], "not-the-secret").get_profile()
    client = paho.Client(client_id=profile.get_client_id())
    client.username_pw_set(profile.get_mqtt_username(), profile.get_mqtt_password())
    codes = []
    client.on_connect = lambda _client, _data, _flags, code: codes.append(code)
    client.connect(host, port)
    deadline = time.monotonic() + WAIT_S
    while not codes and time.monotonic() < deadline:
        client.loop(timeout=0.2)
    client.disconnect()
    claim("CONNECT with a wrong secret is answered 4", codes == [4], codes)


def publish(client, request, code=200):
    response = client.publish(request)
    name = type(request).__name__
    if response is None or int(response.get_code()) != code:
        got = "no reply" if response is None else f"{response.get_code()} {response.get_message()}"
        raise Failed(f"{name}: {got}, expected {code}")
    return response


def login_batch(triples):
    builder = SubDeviceLoginBatchRequest.builder()
    for triple in triples:
        builder.add_sub_device_info(*triple)
    builder.set_timestamp(NOW_MS)
    return builder.build()


def sub_devices_log_in(client, subs):
    missing = ("no-such-product", "no-such-device", "x")
    for sub in subs:
        publish(client, TopoAddRequest.builder().add_sub_device(SubDeviceInfo(*sub)).build())
    children = publish(client, TopoGetRequest.builder().build()).get_data()
    claim("topology add and get", {sub[1] for sub in subs} <= {child["deviceKey"] for child in children}, children)

    response = publish(client, login_batch([*subs, missing]), code=705)
    data = response.get_data()
    claim(
        "batch login with a part failing",
        len(data["loginedSubDevices"]) == len(subs) and data["failedSubDevices"][0]["deviceKey"] == missing[1],
        data,
    )
    claim("the failed sub-device is named", "no-such-product&no-such-device" in response.get_message())
    logout = SubDeviceLogoutRequest.builder().set_sub_product_key(subs[0][0]).set_sub_device_key(subs[0][1])
    publish(client, logout.build())
    wrong = SubDeviceLoginRequest.builder().set_sub_device_info(subs[0][0], subs[0][1], "not-the-secret").build()
    publish(client, wrong, code=742)
    publish(client, SubDeviceLoginRequest.builder().set_sub_device_info(*subs[0]).build())
    claim("logout, login with a wrong secret (742), login", True)


def post_of(sub, value, time_ms):
    builder = MeasurepointPostRequest.builder().set_product_key(sub[0]).set_device_key(sub[1])
    return builder.add_measurepoint("reads", value).set_timestamp(time_ms).build()


def resume_of(sub, value, time_ms):
    builder = MeasurepointResumeRequest.builder().set_product_key(sub[0]).set_device_key(sub[1])
    return builder.add_measure_point("reads", value).set_timestamp(time_ms).build()


def measurepoints_arrive(client, subs):
    own = MeasurepointPostRequest.builder().add_measurepoint("uptime", 1).set_timestamp(NOW_MS).build()
    publish(client, own)
    publish(client, post_of(subs[0], 1, NOW_MS))
    claim("measurepoint/post for the gateway and a sub-device", True)
    batch = MeasurepointPostBatchRequest.builder().set_requests([post_of(sub, 2, NOW_MS + 1000) for sub in subs])
    publish(client, batch.build())
    claim("measurepoint/post/batch with the SDK's unset flags", True)
    late = MeasurepointResumeBatchRequest.builder()
    late.add_requests([resume_of(sub, 3, NOW_MS + 2000) for sub in subs])
    publish(client, late.set_allow_offline_sub_device(True).set_skip_invalid_measurepoints(True).build())
    publish(client, resume_of(subs[0], 4, NOW_MS + 3000))
    claim("measurepoint/resume and resume/batch", True)
    foreign = MeasurepointPostBatchRequest.builder().set_requests([post_of(("no", "such", ""), 1, NOW_MS)])
    publish(client, foreign.build(), code=1212)
    claim("a foreign sub-device is answered 1212", True)


def properties_are_kept(client):
    publish(client, AttributeUpdateRequest.builder().add_attribute("rated", 6).build())
    got = publish(client, AttributeQueryRequest.builder().add_attribute("rated").build()).get_data()
    claim("attribute update and query", got == {"rated": 6}, got)
    publish(client, TagUpdateRequest.builder().add_tag("site", "north").build())
    got = publish(client, TagQueryRequest.builder().query_all().build()).get_data()
    claim("tag update and query", got == {"site": "north"}, got)


def a_command_reaches_a_handler(client, host, port, sub, monitor):
    """The SDK never subscribes to command topics; the cloud must push all the same."""
    asked, answered = [], []

    def handler(message, path):
        asked.append((path[0], path[1], message.get_params()))
        return MeasurepointSetReply().builder().set_code(200).set_message("done").build()

    client.register_arrived_message_handler(MeasurepointSetCommand.get_class(), handler)
    topic = f"/sys/{sub[0]}/{sub[1]}/thing/service/measurepoint/set"
    cloud = paho.Client(client_id="operator")
    cloud.username_pw_set(*monitor)
    cloud.on_message = lambda _client, _data, message: answered.append(json.loads(message.payload))
    subscribed = threading.Event()
    cloud.on_subscribe = lambda *_: subscribed.set()
    cloud.on_connect = lambda *_: cloud.subscribe(f"{topic}_reply", 1)
    cloud.connect(host, port)
    cloud.loop_start()
    claim("operator is connected", subscribed.wait(WAIT_S))
    command = {"id": "901", "version": "1.0", "method": "thing.service.measurepoint.set", "params": {"reads": 30.5}}
    cloud.publish(topic, json.dumps(command), 1)
    arrived = wait_until(lambda: answered)
    cloud.loop_stop()
    cloud.disconnect()
    claim("a command is pushed without a subscription", asked == [(sub[0], sub[1], {"reads": 30.5})], asked)
    claim("its reply comes back with its id", arrived and answered[0]["id"] == "901", answered)


def main():
    triple = lambda text: tuple(text.split("/", 2))
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("gateway", type=triple)
    parser.add_argument("--sub-device", type=triple, action="append", required=True)
    parser.add_argument("--monitor", type=lambda text: text.split(":", 1))
    args = parser.parse_args()
    url = f"tcp://{args.host}:{args.port}"
    try:
        a_wrong_secret_is_refused(args.host, args.port, args.gateway)
        client = connect(url, args.gateway)
        claim("CONNECT with the device secret", wait_until(client.is_connected))
        sub_devices_log_in(client, args.sub_device)
        measurepoints_arrive(client, args.sub_device)
        properties_are_kept(client)
        if args.monitor:
            a_command_reaches_a_handler(client, args.host, args.port, args.sub_device[0], args.monitor)
        client.close()
    except Failed as failed:
        print(f"FAILED {failed}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
