"""A Modbus TCP server of the pymodbus project, filled with values whose meaning the interop test knows.

    pymodbus_server.py PORT [rtu] [writable]     prints READY; with rtu: RTU frames over TCP

With writable, unit 1 has registers 0-59 and coils that start at 0. Else unit 1 holds one value of every type in several orders. In unit 2 holding register 0 counts its own reads, and
registers 10-19 and 30-39 exist while 20-29 are an illegal hole.
"""
import asyncio
import struct
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def words(fmt: str, value, order: str) -> list[int]:
    """The registers of a value whose bytes A, B, C… are sent in `order`."""
    raw = struct.pack(">" + fmt, value)
    mixed = bytes(raw["ABCDEFGH".index(letter)] for letter in order)
    return [int.from_bytes(mixed[i : i + 2], "big") for i in range(0, len(mixed), 2)]


def text(value: str, registers: int) -> list[int]:
    raw = value.encode().ljust(registers * 2, b"\0")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


def holding() -> list[SimData]:
    blocks = [
        (0, [65533]),  # short -3, ushort 65533, and bits 15..2 and 0
        (10, words("i", -123456789, "ABCD")),
        (12, words("I", 4000000000, "CDAB")),
        (14, words("f", 12.5, "ABCD")),
        (16, words("f", -0.1, "CDAB")),
        (18, words("f", 1e10, "BADC")),
        (20, words("f", 3.25, "DCBA")),
        (30, words("d", 1234.5678, "ABCDEFGH")),
        (34, words("d", -9.75, "GHEFCDAB")),
        (40, words("q", -5000000000, "ABCDEFGH")),
        (50, text("Größe°C", 6)),
    ]
    return [SimData(address, values=values, datatype=DataType.REGISTERS) for address, values in blocks]


reads = 0


async def count_reads(function, start, address, count, registers, values):
    """Register 0 counts how often it was read."""
    global reads
    if function == 3 and values is None and address == 0 and start == 0:
        reads += 1
        registers[0] = reads & 0xFFFF
    return None


async def main() -> None:
    bits = [SimData(0, values=[True, False, True, True] + [False] * 12, datatype=DataType.BITS)]
    input_registers = [SimData(100, values=[1000 + i for i in range(20)], datatype=DataType.REGISTERS)]
    held = [SimData(0, values=[0] * 60, datatype=DataType.REGISTERS)] if "writable" in sys.argv[2:] else holding()
    every_type = SimDevice(1, simdata=(bits, bits, held, input_registers))
    counter = SimDevice(
        2,
        simdata=(
            bits,
            bits,
            [
                SimData(0, values=0, datatype=DataType.REGISTERS),
                SimData(10, values=[10 + i for i in range(10)], datatype=DataType.REGISTERS),
                SimData(30, values=[30 + i for i in range(10)], datatype=DataType.REGISTERS),
            ],
            input_registers,
        ),
        action=count_reads,
    )
    framer = FramerType.RTU if "rtu" in sys.argv[2:] else FramerType.SOCKET
    server = ModbusTcpServer([every_type, counter], address=("127.0.0.1", int(sys.argv[1])), framer=framer)
    await server.serve_forever(background=True)
    print("READY", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
