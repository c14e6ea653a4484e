"""A table for SPECIFICATION.md of what packaging/figures measured. Usage: figures.py FILE.json ..."""

import json
import sys

MEGA = 1e6


def megabytes(count):
    return f"{count / MEGA:.1f} MB"


def kilobytes_of_memory(kilobytes):
    return f"{kilobytes / 1024:.1f} MiB"


def memory(found):
    whole = kilobytes_of_memory(found["resident"])
    if "emulator" not in found:
        return whole
    own = found["resident"] - found["emulator"]
    return f"{kilobytes_of_memory(own)} ({whole} with the emulator)"


def a_day(count):
    return f"{count / MEGA:.1f} MB" if count < 1000 * MEGA else f"{count / MEGA / 1000:.2f} GB"


ROWS = [
    (".deb", lambda one: megabytes(one["package_bytes"])),
    ("installed, documents included", lambda one: megabytes(one["installed_kb"] * 1024)),
    ("`/usr/bin/enos-edge`", lambda one: megabytes(one["program_bytes"])),
    ("`dpkg -i` in a booted Debian 12", lambda one: f"{one['install_s']:.1f} s"),
]


def of_load(load, show):
    return lambda one: show(one["loads"][load])


def rows(loads):
    yield from ROWS
    for load in loads:
        yield f"{load}: values a second", of_load(load, lambda found: f"{found['values_a_second']:g}")
        yield f"{load}: start to READY", of_load(load, lambda found: f"{found['start_to_ready_s']:.1f} s")
        yield f"{load}: start to the first reading at the cloud", of_load(load, lambda found: f"{found['start_to_first_reading_s']:.1f} s")
        yield f"{load}: resident", of_load(load, lambda found: memory(found["memory"]))
        yield f"{load}: of that code and data of the program", of_load(load, lambda found: kilobytes_of_memory(found["memory"]["program"]))
        yield f"{load}: written a day by the process (1)", of_load(load, lambda found: a_day(found["process_bytes_a_day"]))
        yield f"{load}: written a day to the disk (2)", of_load(load, lambda found: a_day(found["device_bytes_a_day"]))
        yield f"{load}: flushes a day", of_load(load, lambda found: f"{found['flushes_a_day']}")


def main():
    measured = [json.load(open(name, encoding="utf-8")) for name in sys.argv[1:]]
    heads = [one["architecture"] + (", acted by qemu-user" if one["emulated"] else "") for one in measured]
    print("| what | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for what, show in rows(measured[0]["loads"]):
        print(f"| {what} | " + " | ".join(show(one) for one in measured) + " |")
    seconds = {load: found["seconds"] for load, found in measured[0]["loads"].items()}
    told = ", ".join(f"{load} {took:.0f} s" for load, took in seconds.items())
    print(f"\n(1) `write_bytes` of /proc/PID/io, (2) sectors and flushes of the block device below ext4, journal and metadata included; "
          f"both scaled to a day from {told}.")


if __name__ == "__main__":
    main()
