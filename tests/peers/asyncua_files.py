"""An OPC UA server of the asyncua project with an object of FileType, as a device that takes firmware.

    asyncua_files.py PORT FOLDER [--version 1.0.0] [--most BYTES] [--swallow N] [--refuse N STATUS] [--locked N]

In namespace urn:enos-edge:files (index 2): Press.Firmware, Press.Version (String), Press.Ticks (counts), and Press.Start: a
1 starts the file that was closed last, which shows the version after `VERSION ` in it and is written to FOLDER/started.
--most: MaxByteStringLength of the file. --swallow: the N-th Write is confirmed and not kept; --refuse: it is refused with
this status. --locked: the first N calls of Open are refused with BadInvalidState.
"""
import argparse
import asyncio
import pathlib
import re

from asyncua import Server, ua

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--version", default="1.0.0")
parser.add_argument("--most", type=int, default=0)
parser.add_argument("--swallow", type=int, default=0)
parser.add_argument("--refuse", nargs=2, default=(0, ""))
parser.add_argument("--locked", type=int, default=0)
own = parser.parse_args()

content = b""
opened: dict[int, list] = {}
counts = {"opens": 0, "writes": 0}


def status(name):
    return ua.StatusCode(getattr(ua.StatusCodes, name))


async def open_file(parent, mode):
    global content
    counts["opens"] += 1
    if counts["opens"] <= own.locked:
        return status("BadInvalidState")
    if mode.VariantType != ua.VariantType.Byte or mode.Value not in (1, 6):
        return status("BadInvalidArgument")
    if mode.Value & 4:
        content = b""
    handle = counts["opens"] + 1000
    opened[handle] = [mode.Value, 0]
    return [ua.Variant(handle, ua.VariantType.UInt32)]


async def write(parent, handle, data):
    global content
    counts["writes"] += 1
    new = own.folder / "counts.new"
    new.write_text(str(counts["writes"]))
    new.rename(own.folder / "counts")
    if handle.Value not in opened or not opened[handle.Value][0] & 2:
        return status("BadInvalidArgument")
    if own.most and len(data.Value) > own.most:
        return status("BadEncodingLimitsExceeded")
    if counts["writes"] == int(own.refuse[0]):
        return status(own.refuse[1])
    if counts["writes"] != own.swallow:
        content += data.Value
    return []


async def read(parent, handle, length):
    if handle.Value not in opened or not opened[handle.Value][0] & 1:
        return status("BadInvalidArgument")
    at = opened[handle.Value][1]
    opened[handle.Value][1] += length.Value
    return [ua.Variant(content[at : at + length.Value], ua.VariantType.ByteString)]


async def close(parent, handle):
    return [] if opened.pop(handle.Value, None) else status("BadInvalidArgument")


async def main():
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{own.port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:enos-edge:files")
    objects = server.nodes.objects
    name = lambda word: (ua.NodeId(f"Press.{word}", index), ua.QualifiedName(word, index))
    file = await objects.add_object(*name("Firmware"), objecttype=ua.NodeId(ua.ObjectIds.FileType))
    for word, method in (("Open", open_file), ("Write", write), ("Read", read), ("Close", close)):
        server.link_method(await file.get_child(f"0:{word}"), method)
    if own.most:
        await (await file.get_child("0:MaxByteStringLength")).write_value(ua.Variant(own.most, ua.VariantType.UInt32))
    shown = await objects.add_variable(*name("Version"), own.version)
    start = await objects.add_variable(*name("Start"), ua.Variant(0, ua.VariantType.Int32))
    ticks = await objects.add_variable(*name("Ticks"), ua.Variant(0, ua.VariantType.Int32))
    await start.set_writable()
    async with server:
        print("READY", flush=True)
        for tick in range(1 << 30):
            await ticks.write_value(ua.Variant(tick, ua.VariantType.Int32))
            if await start.read_value() == 1 and not opened:
                await start.write_value(ua.Variant(0, ua.VariantType.Int32))
                (own.folder / "started").write_bytes(content)
                found = re.search(rb"VERSION (\d+\.\d+\.\d+)", content)
                if found:
                    await shown.write_value(found.group(1).decode())
            await asyncio.sleep(0.05)


asyncio.run(main())
