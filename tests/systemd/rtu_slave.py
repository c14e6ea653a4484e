"""Runs in the guest: a Modbus RTU device at the other end of a terminal, unit 1, register n holds n. Usage: FILE"""

import os
import pty
import struct
import sys
import tty


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)


master, slave = pty.openpty()
tty.setraw(slave)
os.chmod(os.ttyname(slave), 0o660)
os.chown(os.ttyname(slave), 0, int(sys.argv[2]))
os.symlink(os.ttyname(slave), sys.argv[1])
heard = b""
while True:
    heard += os.read(master, 256)
    # A request to read is eight bytes; whatever does not end in its checksum is shifted out.
    while len(heard) >= 8:
        frame, rest = heard[:8], heard[8:]
        if crc(frame[:6]) != frame[6:]:
            heard = heard[1:]
            continue
        heard = rest
        unit, function, first, count = struct.unpack(">BBHH", frame[:6])
        if unit == 1 and function in (3, 4):
            body = struct.pack(">BBB", unit, function, count * 2) + b"".join(struct.pack(">H", first + n) for n in range(count))
            os.write(master, body + crc(body))
