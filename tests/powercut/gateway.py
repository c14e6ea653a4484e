#!/usr/bin/env python3
"""Cuts the power of the whole gateway: its state lies on an ext4 or xfs file system that loses power at each kill.

Devices, cloud and ledger live on outside (`testbed crash`), and so does the verdict. Usage, as root:
gateway.py TESTBED [ROUNDS] [--strict] [--fs ext4|xfs] [--seed N] [--no-control]
"""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import powercut


def volume(folder, kind):
    one = powercut.Volume(folder, kind)
    # The same image in every process that cuts it.
    one.image = folder / f"{kind}.img"
    return one


def cut(folder, kind):
    """The gateway is dead: what it had not made durable is gone, and the journal replays."""
    one = volume(pathlib.Path(folder), kind)
    one.cut()
    one.mount()


def campaign(folder, kind, args):
    one = volume(folder, kind)
    one.make()
    one.mount()
    after = shlex.join([sys.executable, os.path.abspath(__file__), "--cut", str(folder), kind])
    command = [args.testbed, "crash", "--rounds", str(args.rounds), "--json", "--seed", str(args.seed)]
    command += ["--state", str(one.root / "state"), "--after-kill", after, "--rate", str(args.rate)]
    if args.strict:
        command.append("--strict")
    print(f"gateway on {kind}: ", end="", flush=True)
    sound = subprocess.run(command, stderr=None if args.verbose else subprocess.DEVNULL).returncode == 0
    one.unmount()
    return sound


def inside(args):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="powercut-"))
    sound = True
    try:
        for kind in args.fs or sorted(powercut.MAKE):
            if not args.no_control:
                sound &= powercut.control(folder, kind, args.rounds, args.seed)
            sound &= campaign(folder, kind, args)
    finally:
        # The namespace ends with us, and the mounts with it.
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if sound else 1


def main():
    if sys.argv[1:2] == ["--cut"]:
        return cut(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("testbed", help="the testbed's program")
    parser.add_argument("rounds", nargs="?", type=int, default=20)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--fs", action="append", choices=sorted(powercut.MAKE))
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("powercut: needs root, for mounts of its own")
    if not os.environ.get("POWERCUT_INSIDE"):
        # Mounts nobody else sees: a stranger's namespace would pin them.
        os.environ["POWERCUT_INSIDE"] = "1"
        command = [sys.executable, __file__, *sys.argv[1:], "--seed", str(args.seed)]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *command])
    sys.exit(inside(args))


if __name__ == "__main__":
    main()
