"""Every request the vendor's SDK can build, made from the vectors of testcases/sdk-vectors and held against them."""

import json
import pathlib
import time
from unittest import mock

from enos.core.constant.DeviceCredential import DeviceCredential
from enos.core.util.StringI18n import StringI18n
from enos.message.upstream.integration.IntAttributePostRequest import IntAttributePostRequest
from enos.message.upstream.integration.IntEventPostRequest import IntEventPostRequest
from enos.message.upstream.integration.IntMeaturepointPostRequest import IntMeaturepointPostRequest
from enos.message.upstream.integration.IntModelUpRawRequest import IntModelUpRawRequest
from enos.message.upstream.ota.OtaGetVersionRequest import OtaGetVersionRequest
from enos.message.upstream.ota.OtaProgressReportRequest import OtaProgressReportRequest
from enos.message.upstream.ota.OtaVersionReportRequest import OtaVersionReportRequest
from enos.message.upstream.register.DeviceRegisterRequest import DeviceRegisterRequest
from enos.message.upstream.resume.MeasurepointResumeBatchRequest import MeasurepointResumeBatchRequest
from enos.message.upstream.resume.MeasurepointResumeRequest import MeasurepointResumeRequest
from enos.message.upstream.status.SubDeviceLoginBatchRequest import SubDeviceLoginBatchRequest
from enos.message.upstream.status.SubDeviceLoginRequest import SubDeviceLoginRequest
from enos.message.upstream.status.SubDeviceLogoutRequest import SubDeviceLogoutRequest
from enos.message.upstream.tag.TagDeleteRequest import TagDeleteRequest
from enos.message.upstream.tag.TagQueryRequest import TagQueryRequest
from enos.message.upstream.tag.TagUpdateRequest import TagUpdateRequest
from enos.message.upstream.topo.SubDeviceInfo import SubDeviceInfo
from enos.message.upstream.topo.TopoAddRequest import TopoAddRequest
from enos.message.upstream.topo.TopoDeleteRequest import TopoDeleteRequest
from enos.message.upstream.topo.TopoGetRequest import TopoGetRequest
from enos.message.upstream.tsl.AttributeDeleteRequest import AttributeDeleteRequest
from enos.message.upstream.tsl.AttributeQueryRequest import AttributeQueryRequest
from enos.message.upstream.tsl.AttributeUpdateRequest import AttributeUpdateRequest
from enos.message.upstream.tsl.EventPostRequest import EventPostRequest
from enos.message.upstream.tsl.MeasurepointPostBatchRequest import MeasurepointPostBatchRequest
from enos.message.upstream.tsl.MeasurepointPostRequest import MeasurepointPostRequest
from enos.message.upstream.tsl.ModelUpRawRequest import ModelUpRawRequest
from enos.message.upstream.tsl.TslTemplateGetRequest import TslTemplateGetRequest

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "testcases/sdk-vectors"
ROWS = {row["name"]: row for row in json.loads((VECTORS / "requests.json").read_text())["requests"]}
FROZEN_S = 1700000000.123
GATEWAY = ("gwPK01", "gwDK01", "gwDS01SecretXYZ")
SECRETS = {"subDK01": "subDS01SecretXYZ", "subDK02": "subDS02SecretXYZ"}
SUB1 = ("subPK01", "subDK01", SECRETS["subDK01"])
SUB2 = ("subPK02", "subDK02", SECRETS["subDK02"])
PRODUCT_SECRETS = {"gwPK01": "gwPS01SecretXYZ", "subPK01": "subPS01SecretXYZ"}

# In an order in which a cloud takes them: topology before login, login before data, logout before the topology goes.
OWN = [
    "topo add", "topo get", "sub-device login (static)", "sub-device login (dynamic, product secret)",
    "sub-device login batch (explicit ms timestamp)", "sub-device login batch (default timestamp)",
    "measurepoint post, own device", "measurepoint post on behalf of sub-device",
    "measurepoint post batch (flags True/True)", "measurepoint post batch (flags unset)", "measurepoint resume",
    "measurepoint resume sub-device", "measurepoint resume with quality", "measurepoint resume batch", "event post",
    "attribute update", "attribute query one", "attribute query all", "attribute delete", "tsl template get",
    "model up raw", "tag update", "tag query one", "tag query all", "tag delete", "sub-device logout", "device register",
    "ota inform (report version)", "ota getversion", "ota progress 35", "ota progress failure download", "topo delete",
]
INTEGRATION = ["integration measurepoint", "integration event", "integration attribute", "integration model up raw"]
assert sorted(OWN + INTEGRATION) == sorted(ROWS), "every row of requests.json is asked for once"


def params(name):
    return ROWS[name]["payload"]["params"]


def keys_of(name):
    """Product and device key of the topic, when it is not the gateway's own."""
    _, _, product, device, *_ = ROWS[name]["topic"].split("/")
    return (product, device) if product != GATEWAY[0] else None


def addressed(builder, name):
    keys = keys_of(name)
    return builder.set_product_key(keys[0]).set_device_key(keys[1]) if keys else builder


def post(name):
    asked = params(name)
    builder = addressed(MeasurepointPostRequest.builder(), name).set_timestamp(asked["time"])
    for point, value in asked["measurepoints"].items():
        builder.add_measurepoint(point, value)
    return builder.build()


def resume(name):
    asked = params(name)
    builder = addressed(MeasurepointResumeRequest.builder(), name)
    builder.set_timestamp(asked["time"])
    for point, value in asked["measurepoints"].items():
        if "quality" in name and isinstance(value, dict):
            builder.add_measure_point_with_quality(point, value["value"], value["quality"])
        else:
            builder.add_measure_point(point, value)
    return builder.build()


def item(kind, entry):
    builder = kind.builder().set_product_key(entry["productKey"]).set_device_key(entry["deviceKey"])
    add = builder.add_measurepoint if kind is MeasurepointPostRequest else builder.add_measure_point
    for point, value in entry["measurepoints"].items():
        add(point, value)
    builder.set_timestamp(entry["time"])
    return builder.build()


def batch(name):
    kind, single = (
        (MeasurepointResumeBatchRequest, MeasurepointResumeRequest)
        if "resume" in name
        else (MeasurepointPostBatchRequest, MeasurepointPostRequest)
    )
    builder = kind.builder().add_requests([item(single, entry) for entry in params(name)])
    whole = ROWS[name]["payload"]
    if whole["allowOfflineSubDevice"] != "":
        builder.set_allow_offline_sub_device(whole["allowOfflineSubDevice"])
    if whole["skipInvalidMeasurepoints"] != "":
        builder.set_skip_invalid_measurepoints(whole["skipInvalidMeasurepoints"])
    return builder.build()


def event(name):
    builder = addressed(EventPostRequest.builder(), name).set_event_identifier("highTemp")
    for output, value in params(name)["events"].items():
        builder.add_value(output, value)
    return builder.set_timestamp(params(name)["time"]).build()


def login(name):
    secret = (PRODUCT_SECRETS["subPK01"], None) if "dynamic" in name else (None, SUB1[2])
    credential = DeviceCredential(SUB1[0], secret[0], SUB1[1], secret[1])
    return SubDeviceLoginRequest.builder().set_sub_device_credential(credential).build()


def login_batch(name):
    builder = SubDeviceLoginBatchRequest.builder()
    for entry in params(name)["subDevices"]:
        builder.add_sub_device_info(entry["productKey"], entry["deviceKey"], SECRETS[entry["deviceKey"]])
    if "explicit" in name:
        builder.set_timestamp(int(FROZEN_S * 1000))
    return builder.build()


def register(name):
    builder = DeviceRegisterRequest.builder()
    for entry in params(name):
        words = StringI18n(entry["deviceName"]["defaultValue"])
        for locale, text in entry["deviceName"]["i18nValue"].items():
            words.set_localized_value(locale, text)
        builder.add_register_information(
            entry["productKey"], entry["deviceKey"], words, entry["deviceDesc"], entry["timezone"],
            entry.get("deviceAttributes"),
        )
    return builder.build()


def topology(name):
    if name == "topo get":
        return TopoGetRequest.builder().build()
    if name == "topo delete":
        builder = TopoDeleteRequest.builder()
        for entry in params(name):
            builder.delete_sub_device(entry["productKey"], entry["deviceKey"])
        return builder.build()
    devices = [SubDeviceInfo(e["productKey"], e["deviceKey"], SECRETS[e["deviceKey"]]) for e in params(name)]
    return TopoAddRequest.builder().add_sub_devices(devices).build()


def attributes(name):
    asked = params(name)["attributes"]
    if "update" in name:
        return addressed(AttributeUpdateRequest.builder(), name).add_attributes(asked).build()
    if "delete" in name:
        builder = addressed(AttributeDeleteRequest.builder(), name)
        for key in asked:
            builder.delete_attribute(key)
        return builder.build()
    builder = addressed(AttributeQueryRequest.builder(), name)
    for key in asked:
        builder.add_attribute(key)
    return (builder if asked else builder.query_all()).build()


def tags(name):
    asked = params(name)
    if "update" in name:
        builder = addressed(TagUpdateRequest.builder(), name)
        for tag in asked:
            builder.add_tag(tag["tagKey"], tag["tagValue"])
        return builder.build()
    if "delete" in name:
        return addressed(TagDeleteRequest.builder(), name).delete_tag_keys(asked["tags"]).build()
    builder = addressed(TagQueryRequest.builder(), name)
    return (builder.add_keys(asked["tags"]) if asked["tags"] else builder.query_all()).build()


def ota(name):
    asked = params(name)
    if "inform" in name:
        return OtaVersionReportRequest.builder().set_version(asked["version"]).build()
    if "getversion" in name:
        return OtaGetVersionRequest.builder().build()
    return OtaProgressReportRequest.builder().set_step(asked["step"]).set_desc(asked["desc"]).build()


def raw(kind, name):
    return kind.builder().set_payload(bytes.fromhex(ROWS[name]["payload_hex"])).build()


def integration(name):
    asked = ROWS[name].get("payload", {}).get("params")
    if name == "integration measurepoint":
        builder = IntMeaturepointPostRequest.builder()
        for entry in asked:
            builder.add_meaturepoint(entry["deviceKey"], entry["time"], entry["measurepoints"])
        return builder.build()
    if name == "integration event":
        builder = IntEventPostRequest.builder()
        for entry in asked:
            for event_id, outputs in entry["events"].items():
                builder.add_event(entry["deviceKey"], entry["time"], event_id, outputs)
        return builder.build()
    if name == "integration attribute":
        return IntAttributePostRequest.builder().add_attribute("dk1", "rated", 6).build()
    return raw(IntModelUpRawRequest, name)


def build(name):
    """The request of a row, built while the clock stands where it stood for the vectors."""
    kinds = [
        ("measurepoint post batch", batch), ("measurepoint resume batch", batch), ("measurepoint post", post),
        ("measurepoint resume", resume), ("event", event), ("attribute", attributes), ("tag", tags),
        ("tsl", lambda name: addressed(TslTemplateGetRequest.builder(), name).build()),
        ("model up raw", lambda name: raw(ModelUpRawRequest, name)), ("topo", topology),
        ("sub-device login batch", login_batch), ("sub-device login", login),
        ("sub-device logout", lambda _: SubDeviceLogoutRequest.builder()
            .set_sub_product_key(SUB1[0]).set_sub_device_key(SUB1[1]).build()),
        ("device register", register), ("ota", ota), ("integration", integration),
    ]
    make = next(make for start, make in kinds if name.startswith(start))
    with mock.patch.object(time, "time", lambda: FROZEN_S):
        return make(name)


def difference(name, request):
    """What is not as in the vectors; the id is of the connection and does not count."""
    row = ROWS[name]
    if request.get_message_topic() != row["topic"] or request.get_qos() != row["qos"]:
        return f"{request.get_message_topic()} QoS {request.get_qos()}, expected {row['topic']} QoS {row['qos']}"
    if "payload_hex" in row:
        return None if bytes(request.encode()) == bytes.fromhex(row["payload_hex"]) else request.encode()
    ours, theirs = json.loads(request.encode()), dict(row["payload"])
    for message in (ours, theirs):
        message.pop("id", None)
    return None if ours == theirs else f"{ours}\nexpected {theirs}"
