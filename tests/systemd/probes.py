"""Runs in the guest, in the unit's sandbox instead of the gateway: tries what it must not be able to do, and what it must.
One line each on standard output: `denied NAME`, `ALLOWED NAME`, `works NAME` or `BROKEN NAME`.

The Python there is the smallest: what has no function is tried by a program.

`probes.py harmless` leaves out what would reach beyond the guest if nothing refused it: the kernel's clock and tunables are
those of the host."""

import os
import subprocess
import sys

STATE = "/var/lib/enos-edge"


def run(command):
    done = subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        raise OSError(command)


def write(path, text="x", mode="w"):
    with open(path, mode) as file:
        file.write(text)


def execute_own_file(folder):
    path = f"{folder}/probe-program"
    with open("/usr/bin/true", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    try:
        os.chmod(path, 0o755)
        run(path)
    finally:
        os.unlink(path)


def setuid_file():
    path = f"{STATE}/probe-setuid"
    write(path)
    try:
        os.chmod(path, 0o4755)
        if not os.stat(path).st_mode & 0o4000:
            raise OSError("the bit is not there")
    finally:
        os.unlink(path)


def raw_socket():
    import _socket

    _socket.socket(_socket.AF_INET, _socket.SOCK_RAW, 1).close()


def packet_socket():
    import _socket

    _socket.socket(17, _socket.SOCK_RAW, 0).close()


def netlink_socket():
    import _socket

    _socket.socket(16, _socket.SOCK_RAW, 0).close()


def low_port():
    import _socket

    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).bind(("127.0.0.1", 81))


def high_port():
    import _socket

    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)


def others_visible():
    if not os.path.exists("/proc/1/stat"):
        raise OSError("not visible")


def capabilities():
    with open("/proc/self/status") as status:
        held = [line for line in status if line.startswith(("CapEff", "CapBnd", "CapAmb"))]
    if all(int(line.split()[1], 16) == 0 for line in held):
        raise OSError("none")


def raise_priority():
    os.nice(-5)


FORBIDDEN = [
    ("write below /usr", lambda: write("/usr/probe")),
    ("write below /etc", lambda: write("/etc/probe")),
    ("write its own settings", lambda: write("/etc/enos-edge/edge.yaml", "", "a")),
    ("add to its own settings", lambda: write("/etc/enos-edge/probe")),
    ("write to the root folder", lambda: write("/probe")),
    ("write below /run", lambda: write("/run/probe")),
    ("write below /var/log", lambda: write("/var/log/probe")),
    ("look into /root", lambda: os.listdir("/root")),
    ("look into /home", lambda: os.listdir("/home/guest")),
    ("read the shadow file", lambda: open("/etc/shadow").read()),
    ("see other processes", others_visible),
    ("hold a capability", capabilities),
    ("mount", lambda: run("mount -t tmpfs none /mnt")),
    ("make a device", lambda: run(f"mknod {STATE}/probe-null c 1 3")),
    ("read the kernel's log", lambda: run("dmesg")),
    ("become root", lambda: os.setuid(0)),
    ("become root by a program", lambda: run("setpriv --reuid 0 true")),
    ("set the setuid bit", setuid_file),
    ("make a user namespace", lambda: run("unshare --user true")),
    ("make a mount namespace", lambda: run("unshare --mount true")),
    ("set the clock", lambda: run("date -s 2001-01-01")),
    ("set the name of the host", lambda: run("hostname probe")),
    ("change a kernel tunable", lambda: write("/proc/sys/vm/swappiness", "60")),
    ("change a control group", lambda: os.mkdir("/sys/fs/cgroup/probe")),
    ("raise its priority", raise_priority),
    ("be a real-time process", lambda: run("chrt -f 1 true")),
    ("open a raw socket", raw_socket),
    ("open a packet socket", packet_socket),
    ("open a netlink socket", netlink_socket),
    ("listen below port 1024", low_port),
    ("run a program out of the state folder", lambda: execute_own_file(STATE)),
    ("run a program out of /tmp", lambda: execute_own_file("/tmp")),
    ("run a program out of /dev/shm", lambda: execute_own_file("/dev/shm")),
    ("load a kernel module", lambda: run("insmod /probe.ko || modprobe loop && test -r /proc/modules && false")),
    ("turn the machine off", lambda: run("systemctl reboot --force --force --dry-run && false || systemctl restart dbus")),
]

# Never tried without a sandbox: there is one clock, one kernel.
REACHES_THE_HOST = {
    "set the clock", "change a kernel tunable", "load a kernel module", "turn the machine off", "read the kernel's log",
    "change a control group", "be a real-time process",
}

NEEDED = [
    ("write its state", lambda: (write(f"{STATE}/probe-state"), os.unlink(f"{STATE}/probe-state"))),
    ("run an engine out of a slot", lambda: execute_own_file(f"{STATE}/engines")),
    ("read its settings", lambda: open("/etc/enos-edge/edge.yaml").read()),
    ("write to its /tmp", lambda: (write("/tmp/probe"), os.unlink("/tmp/probe"))),
    ("listen above port 1023", high_port),
    ("run a program of the system", lambda: run("/usr/bin/true")),
    ("know the boot", lambda: open("/proc/sys/kernel/random/boot_id").read()),
    ("find names of hosts", lambda: run("getent hosts localhost")),
]


def tell(probes, done, failed):
    for name, probe in probes:
        try:
            probe()
            print(done, name)
        except (OSError, ValueError, ImportError):
            print(failed, name)


if sys.argv[1:] == ["harmless"]:
    FORBIDDEN = [probe for probe in FORBIDDEN if probe[0] not in REACHES_THE_HOST]
tell(FORBIDDEN, "ALLOWED", "denied")
tell(NEEDED, "works", "BROKEN")
sys.stdout.flush()
