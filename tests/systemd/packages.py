"""The packages that stories install: this program, as packaging/build packs it."""

import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
PROGRAM = TOP / "target/debug/enos-edge"
OUT = TOP / "target/systemd-packages"
_made = {}


def package(number):
    """The number-th version of it; the program in it is the same."""
    if number not in _made:
        OUT.mkdir(parents=True, exist_ok=True)
        _made[number] = make(f"0.1.{number}")
    return _made[number]


def make(version):
    tree = OUT / f"tree-{version}"
    shutil.rmtree(tree, ignore_errors=True)
    units = tree / "lib/systemd/system"
    for folder in (units, tree / "usr/bin", tree / "usr/lib/sysusers.d", tree / "usr/lib/tmpfiles.d", tree / "etc/enos-edge", tree / "DEBIAN"):
        folder.mkdir(parents=True)
    subprocess.run(["strip", "-o", tree / "usr/bin/enos-edge", PROGRAM], check=True)
    (tree / "usr/bin/enos-edge").chmod(0o755)
    for unit in ("enos-edge.service", "enos-edge.socket"):
        shutil.copy(TOP / "packaging/systemd" / unit, units)
    if "launch" not in subprocess.run([PROGRAM, "--help"], capture_output=True, text=True).stdout:
        unit = units / "enos-edge.service"
        unit.write_text(unit.read_text().replace("enos-edge launch", "enos-edge run"))
    shutil.copy(TOP / "packaging/systemd/enos-edge.sysusers", tree / "usr/lib/sysusers.d/enos-edge.conf")
    shutil.copy(TOP / "packaging/systemd/enos-edge.tmpfiles", tree / "usr/lib/tmpfiles.d/enos-edge.conf")
    (tree / "etc/enos-edge/edge.yaml").write_text("state_dir: /var/lib/enos-edge\ncontrol_socket: /run/enos-edge/control.sock\n")
    text = f"Package: enos-edge\nVersion: {version}\nArchitecture: amd64\nMaintainer: tests\nDescription: gateway\n"
    (tree / "DEBIAN/control").write_text(text)
    (tree / "DEBIAN/conffiles").write_text("/etc/enos-edge/edge.yaml\n")
    scripts = {
        "postinst": 'if [ "$1" = configure ]; then\nsystemd-sysusers enos-edge.conf\nsystemd-tmpfiles --create enos-edge.conf\n'
        'chown root:enos-edge /etc/enos-edge /etc/enos-edge/edge.yaml\nchmod 2750 /etc/enos-edge\nchmod 0640 /etc/enos-edge/edge.yaml\n'
        'systemctl daemon-reload\nsystemctl enable -q enos-edge.socket enos-edge.service\n'
        'systemctl start enos-edge.socket\nsystemctl restart enos-edge.service\nfi\n',
        "prerm": 'if [ "$1" = remove ]; then systemctl disable -q --now enos-edge.socket enos-edge.service; fi\n',
        "postrm": 'systemctl daemon-reload || true\nif [ "$1" = purge ]; then rm -rf /var/lib/enos-edge; fi\n',
    }
    for name, text in scripts.items():
        (tree / "DEBIAN" / name).write_text("#!/bin/sh\nset -e\n" + text)
        (tree / "DEBIAN" / name).chmod(0o755)
    file = OUT / f"enos-edge_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, file], check=True, capture_output=True)
    shutil.rmtree(tree)
    return file
