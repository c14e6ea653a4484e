"""What a process holds in memory, and of what kind. Of an acted processor's program, the emulator's own part apart."""

import pathlib

PROGRAM, LIBRARY = "/usr/bin/enos-edge", ".so"


def memory(pid):
    """kB resident by kind: code and data of the program, libraries, the rest that is the program's, and the emulator."""
    kinds = {"program": 0, "libraries": 0, "other": 0}
    for path, resident in mappings(pathlib.Path(f"/proc/{pid}/smaps").read_text()):
        kind = "program" if path.endswith(PROGRAM) else "libraries" if LIBRARY in path else "other"
        kinds[kind] += resident
    return {**kinds, "resident": sum(kinds.values())}


def mappings(text):
    """(path or nothing, kB resident) of each."""
    path = ""
    for line in text.splitlines():
        words = line.split()
        if words[0] == "Rss:":
            yield path, int(words[1])
        elif not words[0].endswith(":"):
            path = words[5] if len(words) > 5 else ""
