#!/usr/bin/env python3
"""Pulls the plug on a program again and again, and counts what it had promised and lost. README.md tells how.

The program writes to an ext4 or xfs file system in an image of its own. At a random moment it is killed and the
file system is shut down without flushing its journal; what fsync had not made durable is gone. Then the image is
mounted again and a second command compares the disk with the program's standard output.
"""

import argparse
import ctypes
import fcntl
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

# FS_IOC_SHUTDOWN with "do not flush the log"; ext4 took over the number of xfs.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
# xfs refuses less than 300 MiB.
IMAGE_BYTES = 320 << 20
# These make a run fail; other words are only added up.
DAMAGE = ("lost", "corrupt")
PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Volume:
    """A file system whose power can fail."""

    def __init__(self, folder, kind):
        # A new name each run: a loop device that is stuck may still hold the old one.
        self.kind, self.image, self.root = kind, folder / f"{kind}-{os.getpid()}.img", folder / kind
        self.root.mkdir(exist_ok=True)

    def make(self):
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_BYTES)
        subprocess.run(MAKE[self.kind] + [self.image], check=True)

    def mount(self):
        began = time.monotonic()
        subprocess.run(["mount", "-o", "loop,noatime", self.image, self.root], check=True)
        self.must_be_alive()
        return (time.monotonic() - began) * 1000

    def must_be_alive(self):
        """If something pins the old mount, this is the superblock that was shut down, and the round shows nothing."""
        handle = os.open(self.root, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(handle, b"alive")
        os.fsync(handle)
        os.close(handle)

    def cut(self):
        """Only when all writers are dead: an fsync that races the shutdown may be told 0 by xfs."""
        handle = os.open(self.root, os.O_RDONLY)
        fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(handle)
        self.unmount()

    def unmount(self):
        subprocess.run(["umount", self.root], check=True)
        for _ in range(500):
            if not subprocess.run(["losetup", "-n", "-O", "NAME", "-j", self.image], capture_output=True).stdout.strip():
                return
            time.sleep(0.02)
        raise SystemExit(f"{self.image} stays attached: another mount namespace pins it")


def live_and_die(command, root, number, wait):
    """Runs the command, kills it that long after its first promise, and returns the whole lines it said."""
    child = subprocess.Popen(
        command.format(dir=root, round=number),
        shell=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    heard, first = bytearray(), threading.Event()

    def listen():
        while chunk := os.read(child.stdout.fileno(), 1 << 16):
            heard.extend(chunk)
            first.set()

    ear = threading.Thread(target=listen)
    ear.start()
    first.wait(30)
    time.sleep(wait)
    early = child.poll()
    # All of its session: daemons are writers too.
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    ear.join()
    if early is not None:
        raise SystemExit(f"the program ended by itself with {early}: nothing was tested")
    return bytes(heard[: heard.rfind(b"\n") + 1])


def campaign(folder, kind, run, verify, rounds, seed):
    """All rounds on one file system. It lives on from round to round, and is made anew after damage."""
    volume, ledger = Volume(folder, kind), folder / "ledger"
    moments, sums, hit = random.Random(seed), {}, {}
    promised, remounts, began = 0, [], time.monotonic()
    volume.make()
    ledger.write_bytes(b"")
    for number in range(1, rounds + 1):
        volume.mount()
        said = live_and_die(run, volume.root, number, moments.uniform(0.05, 1.2))
        volume.cut()
        promised += said.count(b"\n")
        with open(ledger, "ab") as book:
            book.write(said)
        remounts.append(volume.mount())
        report = subprocess.run(
            verify.format(dir=volume.root, ledger=ledger), shell=True, capture_output=True, text=True, timeout=120
        )
        volume.unmount()
        if report.returncode != 0:
            raise SystemExit(f"round {number}: verify ended with {report.returncode}: {report.stderr[-800:]}")
        found = {word: int(n) for word, n in re.findall(r"^([a-z]+) (\d+)$", report.stdout, re.M)}
        for word, n in found.items():
            sums[word] = sums.get(word, 0) + n
            hit[word] = hit.get(word, 0) + bool(n)
        if any(found.get(word) for word in DAMAGE):
            volume.make()  # the next round must not count the same loss again
            ledger.write_bytes(b"")
    if not promised:
        raise SystemExit("nothing was ever promised, so nothing was tested")
    words = ", ".join(f"{word} {n} (in {hit[word]} cuts)" for word, n in sums.items())
    each = (time.monotonic() - began) / rounds
    print(f"{kind}: {rounds} cuts, {promised} promises, {words}; {each:.2f} s a round, remount {sorted(remounts)[rounds // 2]:.0f} ms")
    sys.stdout.flush()
    return sums, hit


def control(folder, kind, rounds, seed):
    """SQLite that does not wait for the disk must lose: otherwise this script does not cut."""
    me = pathlib.Path(__file__).resolve().parent / "control.py"
    run, verify = f"exec {sys.executable} {me} write {{dir}}", f"{sys.executable} {me} verify {{dir}} {{ledger}}"
    print("control, synchronous=NORMAL, must lose: ", end="")
    _, hit = campaign(folder, kind, run, verify, rounds, seed)
    return hit.get("lost", 0) >= rounds / 5


def inside(args):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="powercut-"))
    try:
        sound = True
        for kind in args.fs or sorted(MAKE):
            if not args.no_control:
                sound &= control(folder, kind, args.rounds, args.seed)
            if args.run:
                sums, _ = campaign(folder, kind, args.run, args.verify, args.rounds, args.seed)
                sound &= not any(sums.get(word) for word in DAMAGE)
        return 0 if sound else 1
    finally:
        # The namespace ends with us, and the mounts with it.
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="what is cut; {dir} and {round} are filled in; a line of output is a promise")
    parser.add_argument("--verify", help="counts afterwards; {dir} and {ledger} are filled in; prints 'lost N' and 'corrupt N'")
    parser.add_argument("--fs", action="append", choices=sorted(MAKE))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--no-control", action="store_true")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("powercut: needs root, for mounts of its own")
    if not os.environ.get("POWERCUT_INSIDE"):
        # Mounts nobody else sees: a stranger's namespace would pin them.
        os.environ["POWERCUT_INSIDE"] = "1"
        print(f"seed {args.seed}", flush=True)
        command = [sys.executable, __file__, *sys.argv[1:], "--seed", str(args.seed)]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *command])
    sys.exit(inside(args))


if __name__ == "__main__":
    main()
