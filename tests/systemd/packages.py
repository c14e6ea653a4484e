"""The packages that stories install: this program, as packaging/build packs it."""

import pathlib

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


def version(number):
    return f"0.0.{number}~story"


def package(number):
    """The number-th version; the program in it is the same."""
    return next((TOP / "target/packages").glob(f"enos-edge_{version(number)}_*.deb"))
