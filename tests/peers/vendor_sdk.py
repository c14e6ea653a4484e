"""The vendor's own Python SDK against the stand-in cloud: proves that the stand-in speaks the vendor's dialect.

    pip install enos-mqtt-sdk-python==0.1.1 'paho-mqtt<2'
    python vendor_sdk.py HOST PORT static|wrong-secret|activate|channel [--monitor USER:PASSWORD]
    python vendor_sdk.py HOST PORT tls --ca FILE --certificate FILE --key FILE [--ciphers RSA|ECC] [--refused]
    python vendor_sdk.py HOST PORT device

Devices and secrets are those of testcases/sdk-vectors. Prints one OK line a claim; exits non-zero when one fails. The known
bugs of the SDK are claimed by the names they have in testcases/sdk-vectors/README.md.
"""

import argparse
import json
import sys
import threading
import time

import paho.mqtt.client as paho
from enos.core.internal.Ciphers import Ciphers
from enos.core.internal.Profile import Profile
from enos.core.login.DynamicActivationLogin import DynamicActivationLogin
from enos.core.login.MessageIntegrationLogin import MessageIntegrationLogin
from enos.core.MqttClient import MqttClient
from enos.core.util.SignUtil import SignUtil
from enos.message.upstream.integration.IntMeaturepointPostRequest import IntMeaturepointPostRequest
from enos.message.upstream.status.SubDeviceLoginBatchRequest import SubDeviceLoginBatchRequest
from enos.message.upstream.status.SubDeviceLoginRequest import SubDeviceLoginRequest
from enos.message.upstream.status.SubDeviceLogoutRequest import SubDeviceLogoutRequest
from enos.message.upstream.tsl.AttributeQueryRequest import AttributeQueryRequest
from enos.message.upstream.tsl.MeasurepointPostBatchRequest import MeasurepointPostBatchRequest
from enos.message.upstream.tsl.MeasurepointPostRequest import MeasurepointPostRequest
import sdk_commands
import sdk_requests
from sdk_requests import GATEWAY, PRODUCT_SECRETS, SUB1, SUB2

WAIT_S = 10


class Failed(Exception):
    pass


def claim(text, holds, detail=""):
    if not holds:
        raise Failed(f"{text}: {detail}")
    print(f"OK {text}", flush=True)


def wait_until(condition, seconds=WAIT_S):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Callback:
    """connect-blocks: connect() without a callback may block its full time though connected."""

    def on_connect(self, *_):
        pass

    def on_disconnect(self, *_):
        pass

    def on_connect_failed(self, *_):
        pass


def start(client):
    client.get_profile().set_auto_reconnect(False)
    client.get_profile().set_operation_timeout(WAIT_S)
    client.connect(Callback())
    return client


def connected(client):
    return wait_until(client.is_connected)


def publish(client, request, code=200):
    response = client.publish(request)
    name = type(request).__name__
    if response is None or int(response.get_code()) != code:
        got = "no reply" if response is None else f"{response.get_code()} {response.get_message()}"
        raise Failed(f"{name}: {got}, expected {code}")
    return response


def as_in_the_vectors(client, name):
    request = sdk_requests.build(name)
    response = client.publish(request)
    # The SDK fills the keys of the gateway in when it publishes, so it is compared afterwards.
    different = sdk_requests.difference(name, request)
    claim(f"{name}: equals the vector", not different, different)
    taken = response is not None and ("payload_hex" in sdk_requests.ROWS[name] or int(response.get_code()) == 200)
    claim(f"{name}: is taken", taken, response and response.get_message())
    return request, response


def a_wrong_secret_is_refused(host, port):
    """With the SDK's own fields, but one CONNECT only."""
    profile = MqttClient(f"tcp://{host}:{port}", GATEWAY[0], GATEWAY[1], "not-the-secret").get_profile()
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


def bugs_without_a_cloud(url):
    profile = MqttClient(url, *GATEWAY).get_profile()
    timestamp = profile.get_client_id().split("timestamp=")[1].rstrip("|")
    claim("connect-timestamp-is-float-text", "." in timestamp, timestamp)
    secure = MqttClient(url.replace("tcp://", "ssl://"), *GATEWAY).get_profile()
    claim("ssl-scheme-is-not-tls", secure.get_ssl_secured() is False)
    try:
        SignUtil.sign("secret", {"clientId": "c"}, "sha256")
        claim("only-hmac-names", False)
    except Exception as refused:
        claim("only-hmac-names", "sign method" in str(refused), refused)


def bugs_in_messages(requests):
    told = {name: request.get_method() for name, (request, _) in requests.items()}
    claim("event-method", told["event post"] == "thing.event.%s.posthighTemp", told["event post"])
    ota = [told["ota inform (report version)"], told["ota getversion"], told["ota progress 35"]]
    claim("ota-methods", ota == ["ota.inform", "Ota.device.getversion", "ota.progress"], ota)
    sent = {name: json.loads(request.encode()) for name, (request, _) in requests.items() if "raw" not in name}
    flags = sent["measurepoint post batch (flags unset)"]
    claim("unset-flags-are-empty-text", flags["allowOfflineSubDevice"] == flags["skipInvalidMeasurepoints"] == "")
    claim("clean-session-is-text-False", sent["sub-device login (static)"]["params"]["cleanSession"] == "False")
    seconds = sent["sub-device login batch (default timestamp)"]["params"]["timestamp"]
    claim("batch-login-timestamp-in-seconds", float(seconds) < 1e10, seconds)
    answer = requests["ota getversion"][1]
    try:
        answer.get_firmware_info()
        claim("getversion-answer-raises", False)
    except Exception:
        claim("getversion-answer-raises", answer.get_data()[0]["version"] == "2.0", answer.get_data())


def a_refused_subscribe_goes_unnoticed(url):
    """Publishing for a sub-device before its login: 0x80 is taken for success, so no reply is ever heard."""
    client = start(MqttClient(url, *GATEWAY))
    connected(client)
    client.get_profile().set_operation_timeout(1)
    ask = lambda: client.publish(AttributeQueryRequest.builder().set_product_key(SUB2[0]).set_device_key(SUB2[1]).build())
    heard = 0
    for login in (False, True):
        if login:
            client.publish(SubDeviceLoginRequest.builder().set_sub_device_info(*SUB2).build())
        try:
            heard += ask() is not None
        except Exception:
            pass
    client.close()
    claim("refused-subscribe-goes-unnoticed", heard == 0)


def logins_fail_in_parts(client):
    missing = ("no-such-product", "no-such-device", "x")
    builder = SubDeviceLoginBatchRequest.builder()
    builder.set_timestamp(int(time.time() * 1000))
    for triple in (SUB1, SUB2, missing):
        builder.add_sub_device_info(*triple)
    response = client.publish(builder.build())
    data = response.get_data()
    good, bad = data["loginedSubDevices"], data["failedSubDevices"]
    claim("batch login with a part failing", len(good) == 2 and bad[0]["deviceKey"] == missing[1], data)
    claim("the failed sub-device is named", "no-such-product&no-such-device" in response.get_message())
    publish(client, SubDeviceLoginRequest.builder().set_sub_device_info(SUB1[0], SUB1[1], "wrong").build(), code=742)
    foreign = MeasurepointPostRequest.builder().set_product_key("no").set_device_key("such").add_measurepoint("p", 1)
    publish(client, MeasurepointPostBatchRequest.builder().add_request(foreign.build()).build(), code=1212)
    claim("a wrong secret is 742, a foreign sub-device 1212", True)


def static(host, port, monitor):
    url = f"tcp://{host}:{port}"
    a_wrong_secret_is_refused(host, port)
    bugs_without_a_cloud(url)
    client = start(MqttClient(url, *GATEWAY))
    claim("CONNECT with the device secret", connected(client))
    requests, last = {}, ("sub-device logout", "topo delete")
    for name in (name for name in sdk_requests.OWN if name not in last):
        requests[name] = as_in_the_vectors(client, name)
    claim("topology", len(requests["topo get"][1].get_data()) == 2, requests["topo get"][1].get_data())
    secret = requests["sub-device login (dynamic, product secret)"][1].get_data()
    claim("a dynamic login brings the sub-device's secret", secret["deviceSecret"] == SUB1[2], secret)
    maps = sorted(requests["tsl template get"][1].get_data())
    claim("four maps", maps == ["tslAttributeMap", "tslEventMap", "tslMeasurepointMap", "tslServiceMap"], maps)
    bugs_in_messages(requests)
    logins_fail_in_parts(client)
    operator = sdk_commands.Operator(host, port, *monitor)
    sdk_commands.pairs_are_answered(claim, client, operator)
    sdk_commands.complements_are_answered(claim, client, operator)
    claim("no command is answered twice", not operator.nothing_more())
    for sub in (SUB1, SUB2):
        logout = SubDeviceLogoutRequest.builder().set_sub_product_key(sub[0]).set_sub_device_key(sub[1])
        if sub == SUB1:
            as_in_the_vectors(client, "sub-device logout")
        else:
            publish(client, logout.build())
    client.close()
    a_refused_subscribe_goes_unnoticed(url)
    again = start(MqttClient(url, *GATEWAY))
    connected(again)
    publish(again, SubDeviceLoginRequest.builder().set_sub_device_info(*SUB1).build())
    sdk_commands.without_any_handler(claim, operator)
    logout = SubDeviceLogoutRequest.builder().set_sub_product_key(SUB1[0]).set_sub_device_key(SUB1[1])
    publish(again, logout.build())
    as_in_the_vectors(again, "topo delete")
    operator.close()
    again.close()


def wrong_secret(host, port, _monitor):
    """The story counts the refusals: it goes on every second for as long as this process lives."""
    client = MqttClient(f"tcp://{host}:{port}", GATEWAY[0], GATEWAY[1], "not-the-secret")
    client.connect(Callback())
    time.sleep(3.5)
    claim("wrong-secret-is-retried-for-ever: still trying", not client.is_connected())


def activate(host, port, monitor):
    url = f"tcp://{host}:{port}"
    product = GATEWAY[0]
    client = MqttClient(profile=Profile.create_instance(DynamicActivationLogin(url, product, PRODUCT_SECRETS[product], "fresh")))
    operator = sdk_commands.Operator(host, port, *monitor)
    secrets = []
    client.on_device_dynamic_active = secrets.append
    start(client)
    claim("CONNECT with the product secret", connected(client))
    claim("the device secret is brought", wait_until(lambda: secrets), secrets)
    reply = json.loads(operator.heard(f"/ext/session/{product}/fresh/thing/activate/info_reply"))
    expected = dict(sdk_commands.ACTIVATION["reply"]["payload"], id=reply["id"])
    claim("its reply is that of the vectors", reply == expected, reply)
    wait_until(lambda: len(secrets) > 1, 0.5)
    client.close()
    operator.close()
    claim("it is the one the cloud knows", set(secrets) == {"freshSecret"}, secrets)
    again = start(MqttClient(url, product, "fresh", secrets[0]))
    claim("CONNECT with the secret that was brought", connected(again))
    publish(again, MeasurepointPostRequest.builder().add_measurepoint("p", 1).build())
    claim("and data is taken", True)
    again.close()


def channel(host, port, _monitor):
    product = GATEWAY[0]
    login = MessageIntegrationLogin(f"tcp://{host}:{port}", product, PRODUCT_SECRETS[product])
    client = start(MqttClient(profile=Profile.create_instance(login)))
    claim("CONNECT of the integration channel", connected(client))
    for name in sdk_requests.INTEGRATION:
        request, response = as_in_the_vectors(client, name)
        if name == "integration attribute":
            claim("integration-attributes-are-lost", json.loads(request.encode())["params"] == [])
        if "raw" in name:
            claim("raw bytes come back", bytes(response.get_payload()) == bytes.fromhex("010203"), response.get_payload())
    builder = IntMeaturepointPostRequest.builder()
    for device in ("dk1", "nobody"):
        builder.add_meaturepoint(device, 1700000009000, {"temp": 9.0})
    publish(client, builder.build(), code=1257)
    claim("an unknown device fails the whole message with 1257", True)
    client.close()


def tls(args):
    client = MqttClient(f"ssl://{args.host}:{args.port}", *GATEWAY)
    ciphers = getattr(Ciphers, args.ciphers) if args.ciphers else None
    client.get_profile().set_ssl_context(args.ca, args.certificate, args.key, None, ciphers)
    start(client)
    if args.refused:
        claim("the connection is refused", not wait_until(client.is_connected, 2))
        return
    claim(f"TLS with a certificate of our own ({args.ciphers or 'any cipher'})", connected(client))
    publish(client, MeasurepointPostRequest.builder().add_measurepoint("p", 1).build())
    claim("data is taken over TLS", True)
    client.close()


def device(host, port):
    """Another device on the same cloud: it posts until it is told to stop, and answers commands."""
    client = start(MqttClient(f"tcp://{host}:{port}", GATEWAY[0], "second", "secondSecret"))
    claim("the second device is connected", connected(client))
    client.register_arrived_message_handler(*handler())
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    count = 0
    while not stop.wait(0.1):
        count += 1
        publish(client, MeasurepointPostRequest.builder().add_measurepoint("count", count).build())
    claim(f"{count} posts of the second device were taken", count > 5)
    client.close()


def handler():
    command, answer = sdk_commands.HANDLERS[0]
    return command.get_class(), answer


def main():
    modes = {"static": static, "wrong-secret": wrong_secret, "activate": activate, "channel": channel}
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("mode", choices=[*modes, "tls", "device"])
    parser.add_argument("--monitor", type=lambda text: text.split(":", 1))
    for name in ("--ca", "--certificate", "--key", "--ciphers"):
        parser.add_argument(name)
    parser.add_argument("--refused", action="store_true")
    args = parser.parse_args()
    try:
        if args.mode == "tls":
            tls(args)
        elif args.mode == "device":
            device(args.host, args.port)
        else:
            modes[args.mode](args.host, args.port, args.monitor)
    except Failed as failed:
        print(f"FAILED {failed}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
