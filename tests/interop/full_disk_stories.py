"""A gateway that starts with not one byte free on the disk of its state: it runs, says so, and recovers by itself."""
import contextlib
import ctypes
import os
import pathlib
import subprocess
import sys

from broker import Cable, Listener, Mosquitto
from counters import counter_site, missing
from destination_stories import destination
from site_files import ROOT, Gateway, Peer, free_port, running, wait_until

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"
NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000


@contextlib.contextmanager
def small_disk(at: pathlib.Path, megabytes: int):
    """A real file system of that size, seen by this story and what it starts alone."""
    at.mkdir()
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS if user == 0 else NEW_MOUNTS | NEW_USER):
        raise OSError(ctypes.get_errno(), "a mount namespace of one's own")
    if user:
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@contextlib.contextmanager
def counting_on_a_small_disk(folder):
    """A site whose values are counts, its broker behind a cable, and 24 MB for the state of the gateway."""
    port = free_port()
    with small_disk(folder / "state", 24) as disk:
        peer, broker = Peer(PYTHON, PEERS / "pymodbus_server.py", port), Mosquitto(folder)
        cable = Cable(broker.port)
        counter_site(folder, port, cable.port)
        with running(peer, broker):
            yield disk, cable, Listener(broker.port)


def fill(disk: pathlib.Path):
    with open(disk / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    assert os.statvfs(disk).f_bavail == 0, "the disk is not full"


def trouble(gateway: Gateway) -> str:
    return gateway.ask("status").get("outbox", {}).get("trouble") or ""


def told_everywhere(gateway: Gateway):
    wait_until("the status tells", lambda: "full" in trouble(gateway) or "No space" in trouble(gateway))
    page = gateway.command("status").stdout
    assert "the disk takes no writes" in page, page
    doctor = gateway.command("doctor").stdout
    assert "0 MB are free" in doctor and "the outbox can not write" in doctor and "make room" in doctor, doctor
    assert gateway.told("the disk is full") == 1, gateway.tail()


def polls(gateway: Gateway):
    before = gateway.counter("samples_good")
    wait_until("it goes on polling", lambda: gateway.counter("samples_good") > before + 30)


def flows_again(listener: Listener):
    seen = len(listener.values[("counter", "reads")])
    wait_until("data flows", lambda: len(listener.values[("counter", "reads")]) > seen + 60, 40)


def the_backlog_is_delivered_from_a_full_disk_and_nothing_is_lost_when_room_is_made(folder):
    with counting_on_a_small_disk(folder) as (disk, cable, listener):
        gateway = Gateway(folder)
        with running(gateway):
            wait_until("data flows", lambda: listener.values[("counter", "reads")])
            cable.cut()
            wait_until("a backlog is stored", lambda: gateway.counter("outbox_stored") > 100)
            gateway.stop()
            fill(disk)
            gateway = Gateway(folder)
            with running(gateway):
                told_everywhere(gateway)
                polls(gateway)
                cable.mend()
                wait_until("what was stored arrives, and what is read", lambda: not missing(listener), 40)
                cable.cut()
                wait_until("readings wait in memory", lambda: gateway.counter("outbox_readings") > 60)
                assert gateway.counter("dropped") == 0 and trouble(gateway)
                (disk / "filler").unlink()
                wait_until("the trouble is over", lambda: not trouble(gateway))
                assert gateway.told("outbox writes again") == 1, gateway.tail()
                wait_until("they are stored", lambda: gateway.counter("outbox_stored") > 60)
                gateway.kill()
            gateway = Gateway(folder)
            with running(gateway):
                cable.mend()
                flows_again(listener)
                # Read in the second before the kill and not yet stored: the stated bound, 20 scans of it.
                wait_until("the rest arrives", lambda: len(missing(listener)) <= 22, 40)
                print(f"    {len(missing(listener))} scans were younger than the bound when it was killed")
                gateway.stop()


def what_lies_in_a_file_that_can_not_be_opened_is_delivered_with_what_came_since(folder):
    """A destination that is new has to be written into the file before it is used: on a full disk it is not."""
    with counting_on_a_small_disk(folder) as (disk, cable, listener):
        cable.cut()
        gateway = Gateway(folder)
        with running(gateway):
            wait_until("a backlog is stored", lambda: gateway.counter("outbox_stored") > 100)
            gateway.stop()
            fill(disk)
            new = destination("new", f"tcp://127.0.0.1:{free_port()}")
            with open(folder / "edge.yaml", "a") as edge:
                edge.write(f"destinations:\n{new}")
            gateway = Gateway(folder)
            with running(gateway):
                told_everywhere(gateway)
                wait_until("readings wait in memory", lambda: gateway.counter("outbox_readings") > 60)
                cable.mend()
                wait_until("live ones are delivered", lambda: len(listener.values[("counter", "reads")]) > 40)
                (disk / "filler").unlink()
                wait_until("from the first on they arrive", lambda: not missing(listener) and first(listener) <= 2, 40)
                wait_until("the trouble is over", lambda: not trouble(gateway))
                assert gateway.told("there is room for the outbox file") == 1, gateway.tail()
                shown = {one["name"]: one for one in gateway.ask("status")["outbox"]["destinations"]}
                assert shown["new"]["readings"]["waiting"] > 60, "what came since waits for the new one"
                assert all(one["readings"]["dropped"] == 0 for one in shown.values()), shown
                gateway.stop()


def first(listener) -> int:
    return min(value for _, value in listener.values[("counter", "reads")])


def a_gateway_whose_disk_never_had_room_runs_all_the_same_and_stores_when_there_is(folder):
    with counting_on_a_small_disk(folder) as (disk, cable, listener):
        fill(disk)
        gateway = Gateway(folder)
        with running(gateway):
            told_everywhere(gateway)
            assert gateway.told("it runs from where it lies") == 1, gateway.tail()
            polls(gateway)
            wait_until("live readings are delivered without a disk", lambda: len(listener.values[("counter", "reads")]) > 20)
            cable.cut()
            wait_until("readings wait in memory", lambda: gateway.counter("outbox_readings") > 60)
            (disk / "filler").unlink()
            wait_until("they are stored", lambda: gateway.counter("outbox_stored") > 60 and not trouble(gateway))
            gateway.stop()
            gateway = Gateway(folder)
            with running(gateway):
                assert wait_until("it answers", lambda: gateway.ask("status"))["package"]["generation"] == 1
                cable.mend()
                flows_again(listener)
                wait_until("every count arrives", lambda: not missing(listener), 40)
                gateway.stop()


STORIES = [
    what_lies_in_a_file_that_can_not_be_opened_is_delivered_with_what_came_since,
    the_backlog_is_delivered_from_a_full_disk_and_nothing_is_lost_when_room_is_made,
    a_gateway_whose_disk_never_had_room_runs_all_the_same_and_stores_when_there_is,
]
