"""The packages that stories install: this program, as packaging/build packs it."""

import os
import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


def version(number):
    return f"0.0.{number}~story"


def package(number):
    """The number-th version; the program in it is the same."""
    return next((TOP / "target/packages").glob(f"enos-edge_{version(number)}_*.deb"))


def shipped():
    """What `run --shipped` was given: a package as it goes out, for whatever processor."""
    return pathlib.Path(os.environ["ENOS_EDGE_SHIPPED"])


def field(file, name):
    return subprocess.run(["dpkg-deb", "-f", file, name], check=True, capture_output=True, text=True).stdout.strip()


def emulated():
    """Whether the processor of the guest is only acted, by qemu-user: some ten times slower."""
    if "ENOS_EDGE_SHIPPED" not in os.environ:
        return False
    own = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    return field(shipped(), "Architecture") != own
