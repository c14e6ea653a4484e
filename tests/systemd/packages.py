"""The packages that stories install: this program, as packaging/build packs it."""

import hashlib
import os
import pathlib
import re
import shutil
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


def of_engine(program, called, folder):
    """As the first, with another program in it."""
    tree, deb = folder / f"deb-{called}", folder / f"enos-edge_{called}.deb"
    subprocess.run(["dpkg-deb", "-R", package("1"), tree], check=True)
    shutil.copy(program, tree / "usr/bin/enos-edge")
    control, sums = tree / "DEBIAN/control", tree / "DEBIAN/md5sums"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {called}", control.read_text()))
    digest = hashlib.md5(program.read_bytes()).hexdigest()
    sums.write_text(re.sub(r"(?m)^\w+(  usr/bin/enos-edge)$", digest + r"\1", sums.read_text()))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, deb], check=True, capture_output=True)
    shutil.rmtree(tree)
    return deb
