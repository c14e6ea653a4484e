"""Runs in the guest: a Modbus RTU device at the other end of a terminal, unit 1, register n holds n. Usage: LINK GROUP.

The Python there is the smallest: no pty, no struct."""

import os
import sys


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


master, slave = os.openpty()
os.system(f"stty -F {os.ttyname(slave)} raw -echo")
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
        unit, function = frame[0], frame[1]
        first, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        if unit == 1 and function in (3, 4):
            values = b"".join((first + n).to_bytes(2, "big") for n in range(count))
            answer = bytes([unit, function, count * 2]) + values
            os.write(master, answer + crc(answer))
