"""What a process holds in memory, and of what kind. Of a program that is acted, the emulator's own part apart."""

import pathlib

PROGRAM, LIBRARY, EMULATOR = "/usr/bin/enos-edge", ".so", "/usr/bin/qemu-"
# qemu-user 7.2 puts what it acts below 2^39 (32 bit: 2^32) of its own space; itself, its heap and what it translated lie
# where the kernel puts programs, above.
ACTED = 1 << 39


def memory(pid):
    """kB resident by kind: code and data of the program, libraries, heap and the rest, and the emulator where there is one."""
    return sorted_out(pathlib.Path(f"/proc/{pid}/smaps").read_text())


def sorted_out(smaps):
    found = list(mappings(smaps))
    acted = any(path.startswith(EMULATOR) for _, path, _ in found)
    kinds = {"program": 0, "libraries": 0, "other": 0, **({"emulator": 0} if acted else {})}
    for begin, path, resident in found:
        if acted and begin >= ACTED:
            kind = "emulator"
        elif path.endswith(PROGRAM):
            kind = "program"
        else:
            kind = "libraries" if LIBRARY in path else "other"
        kinds[kind] += resident
    return {**kinds, "resident": sum(kinds.values())}


def mappings(text):
    """(address, path or nothing, kB resident) of each."""
    begin, path = 0, ""
    for line in text.splitlines():
        words = line.split()
        if words[0] == "Rss:":
            yield begin, path, int(words[1])
        elif not words[0].endswith(":"):
            begin, path = int(words[0].split("-")[0], 16), words[5] if len(words) > 5 else ""
