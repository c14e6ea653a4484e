"""A Modbus server of the pymodbus project with a store of file records, as a device that takes firmware.

    pymodbus_files.py PORT|SERIAL-PORT FOLDER [--version 1.0.0] [--swallow N] [--refuse FILE RECORD CODE] [--no-read-back]
                      [--dead-start] [--burn MS]

A number is a port of TCP, a path a serial line with RTU frames (115200 baud). Unit 1 has functions 20 and 21 over a store in memory, lost when the process ends. Holding registers 0-2 show the version,
register 3 counts its own reads, a 1 in register 10 starts what lies in the store from file 1 on: the version after
`VERSION ` in it, which is also written to FOLDER/started with all bytes. Unit 2 has register 3 alone.
--swallow: the N-th write is confirmed and not kept. --dead-start: what is started shows nothing new.
"""
import argparse
import asyncio
import pathlib
import re
import struct

from pymodbus.pdu import ExceptionResponse
from pymodbus.pdu.file_message import (
    FileRecord, ReadFileRecordRequest, ReadFileRecordResponse, WriteFileRecordRequest, WriteFileRecordResponse,
)
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

parser = argparse.ArgumentParser()
parser.add_argument("port")
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--version", default="1.0.0")
parser.add_argument("--swallow", type=int, default=0)
parser.add_argument("--refuse", type=int, nargs=3, default=(0, 0, 0))
parser.add_argument("--no-read-back", action="store_true")
parser.add_argument("--dead-start", action="store_true")
parser.add_argument("--burn", type=float, default=0.0)
own = parser.parse_args()

store: dict[tuple[int, int], bytes] = {}
version = [int(part) for part in own.version.split(".")]
counts = {"writes": 0, "reads": {1: 0, 2: 0}}


def tell():
    new = own.folder / "counts.new"
    new.write_text(f"{counts['writes']} {counts['reads'][2]}")
    new.rename(own.folder / "counts")


class Write(WriteFileRecordRequest):
    async def datastore_update(self, context, device_id):
        counts["writes"] += 1
        tell()
        await asyncio.sleep(own.burn / 1000)
        for record in self.records:
            if (record.file_number, record.record_number) == tuple(own.refuse[:2]) and own.refuse[2]:
                return ExceptionResponse(self.function_code, own.refuse[2])
            if counts["writes"] == own.swallow:
                continue
            for at in range(record.record_length):
                store[record.file_number, record.record_number + at] = record.record_data[2 * at : 2 * at + 2]
        return WriteFileRecordResponse(records=self.records, dev_id=device_id, transaction_id=self.transaction_id)


class Read(ReadFileRecordRequest):
    def decode(self, data):
        # pymodbus 3.16 takes the record length of a request for bytes and halves it; clause 6.14 counts registers.
        self.records = []
        for at in range(1, data[0], 7):
            _, file, record, length = struct.unpack(">BHHH", data[at : at + 7])
            self.records.append(FileRecord(file_number=file, record_number=record, record_length=2 * length))

    async def datastore_update(self, context, device_id):
        if own.no_read_back:
            return ExceptionResponse(self.function_code, 1)
        answers = []
        for record in self.records:
            places = [(record.file_number, record.record_number + at) for at in range(record.record_length)]
            # What was never written is erased flash.
            answers.append(FileRecord(record_data=b"".join(store.get(place, b"\xff\xff") for place in places)))
        return ReadFileRecordResponse(records=answers, dev_id=device_id, transaction_id=self.transaction_id)


def start():
    held, at = b"", (1, 0)
    while at in store:
        held += store[at]
        at = (at[0], at[1] + 1) if at[1] < 9999 else (at[0] + 1, 0)
    (own.folder / "started").write_bytes(held)
    found = re.search(rb"VERSION (\d+)\.(\d+)\.(\d+)", held)
    if found and not own.dead_start:
        version[:] = [int(part) for part in found.groups()]


def registers_of(unit):
    async def action(function, begin, address, count, registers, values):
        if function == 3 and values is None and address <= 3 < address + count:
            counts["reads"][unit] += 1
            tell()
            registers[3 - begin] = counts["reads"][unit] & 0xFFFF
            if unit == 1:
                registers[0 - begin : 3 - begin] = version
        if values and function in (6, 16) and address == 10 and values[0] == 1:
            start()
        return None

    return action


async def main():
    held = [SimData(0, values=[0] * 20, datatype=DataType.REGISTERS)]
    none = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    units = [SimDevice(unit, simdata=(none, none, held, held), action=registers_of(unit)) for unit in (1, 2)]
    if own.port.isdigit():
        server = ModbusTcpServer(units, address=("127.0.0.1", int(own.port)), custom_pdu=[Write, Read])
    else:
        line = {"port": own.port, "baudrate": 115200}
        server = ModbusSerialServer(units, framer=FramerType.RTU, custom_pdu=[Write, Read], **line)
    await server.serve_forever(background=True)
    tell()
    print("READY", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
