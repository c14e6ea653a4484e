"""A Debian that boots, and what is done to it. Everything happens from outside: by nsenter and in its files."""

import contextlib
import fcntl
import os
import pathlib
import signal
import struct
import subprocess
import time

from packages import emulated

# Of waits for the guest, not for the gateway: a processor that is only acted takes its time.
PATIENCE = 6 if emulated() else 1
# All of the unit's sandbox that qemu-user can not do: it has no clone() into a user namespace.
LEFT_OUT = "[Service]\nPrivateUsers=no\n"
# FS_IOC_SHUTDOWN without flushing the journal: the power is gone.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
STATE = "/var/lib/enos-edge"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "TERM": "dumb"}


class Failed(Exception):
    """A command in the guest did not do what it should."""


def until(what, condition, within, step=0.05):
    """Waits until the condition gives something, and gives that; fails past `within` seconds."""
    begun = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() - begun > within:
            raise Failed(f"{what}: not within {within} s")
        time.sleep(step)


class Disk:
    """A file system in an image, for the state folder: its power can fail, and it can freeze."""

    def __init__(self, folder, size_mb):
        # A new name each time: a loop device that is stuck may still hold the old one.
        self.image, self.root = folder / f"state-{time.monotonic_ns()}.img", folder / "state"
        self.root.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(size_mb << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image], check=True)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop,noatime", self.image, self.root], check=True)

    def settle(self):
        """All that waits in memory for this disk goes there."""
        subprocess.run(["sync", "-f", self.root], check=True)

    def written(self):
        """(bytes, flushes) that the file system asked of its disk so far, journal and metadata included."""
        attached = ["losetup", "-n", "-O", "NAME", "-j", str(self.image)]
        device = subprocess.run(attached, check=True, capture_output=True, text=True).stdout.split()[0]
        # Documentation/block/stat.rst: sectors written and flushes done are the 7th and 16th.
        counts = pathlib.Path("/sys/block", pathlib.Path(device).name, "stat").read_text().split()
        return int(counts[6]) * 512, int(counts[15])

    def freeze(self, frozen):
        subprocess.run(["fsfreeze", "--freeze" if frozen else "--unfreeze", self.root], check=True)

    def cut(self):
        """Only when all writers are dead."""
        handle = os.open(self.root, os.O_RDONLY)
        fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(handle)
        subprocess.run(["umount", self.root], check=True)
        attached = ["losetup", "-n", "-O", "NAME", "-j", str(self.image)]
        until("the image is let go", lambda: not subprocess.run(attached, capture_output=True).stdout.strip(), 10)
        self.mount()


class ControlGroup:
    """One for each boot: guests that share one see and kill each other's services."""

    def __init__(self):
        top = pathlib.Path("/sys/fs/cgroup")
        # With control groups of the first kind systemd has a hierarchy of its own.
        tops = [top / name for name in ("systemd", "unified") if (top / name / "cgroup.procs").exists()] or [top]
        self.folders = [top / f"gateway-{os.getpid()}-{time.monotonic_ns()}" for top in tops]
        for old in (old for top in tops for old in top.glob("gateway-*-*")):
            owner = old.name.split("-")[1]
            # That of another run may be empty because it is about to be entered.
            if owner == str(os.getpid()) or not pathlib.Path("/proc", owner).exists():
                remove_empty(old)
        for folder in self.folders:
            folder.mkdir()

    def enter(self):
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))


def remove_empty(folder):
    """What has a process in it stays."""
    for below in folder.glob("*/"):
        remove_empty(below)
    with contextlib.suppress(OSError):
        folder.rmdir()


class Guest:
    """One throw-away copy of the root, booted as often as wanted."""

    def __init__(self, root, folder):
        self.folder, self.files = folder, folder / "merged"
        self.nspawn = self.leader = self.disk = None
        for name in ("upper", "overlay", "merged"):
            (folder / name).mkdir()
        options = f"lowerdir={root},upperdir={folder}/upper,workdir={folder}/overlay"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.files], check=True)

    def use_disk(self, size_mb=128):
        """The state lies on a file system of its own from now on. Before boot."""
        self.disk = Disk(self.folder, size_mb)
        return self.disk

    def boot(self):
        """Seconds until the system is up."""
        if emulated():
            self.write("/etc/systemd/system/enos-edge.service.d/emulated.conf", LEFT_OUT)
        begun = time.monotonic()
        command = ["systemd-nspawn", "--quiet", f"--directory={self.files}", f"--machine=gateway-{os.getpid()}", "--boot"]
        command += ["--console=pipe", "--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]
        if self.disk:
            command.append(f"--bind={self.disk.root}:{STATE}")
        control_group = ControlGroup()
        with open(self.folder / "console", "ab") as console:
            self.nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                preexec_fn=control_group.enter,
            )
        until("the guest is up", self._is_up, 60 * PATIENCE)
        return time.monotonic() - begun

    def _child(self):
        if self.nspawn.poll() is not None:
            raise Failed("systemd-nspawn ended: " + (self.folder / "console").read_text(errors="replace")[-2000:])
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _is_up(self):
        # While it begins, the first process has one before it.
        self.leader = self._child()
        if self.leader is None:
            return False
        said = self.run("systemctl is-system-running", check=False)
        return said.strip() in ("running", "degraded")

    def start(self, command):
        """A process in the guest."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"]
        return subprocess.Popen(
            enter + ["bash", "-c", command], env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )

    def run(self, command, check=True, within=60):
        """What a command says, both streams."""
        process = self.start(command)
        try:
            said, _ = process.communicate(timeout=within * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed(f"{command}: not done within {within * PATIENCE} s") from None
        if check and process.returncode != 0:
            raise Failed(f"{command}: ended with {process.returncode}\n{said}")
        return said

    def succeeds(self, command):
        return self.start(command + " >/dev/null 2>&1").wait(60) == 0

    def show(self, name, unit="enos-edge"):
        return self.run(f"systemctl show {unit} -p {name} --value").strip()

    def main_process(self, unit="enos-edge"):
        """The number the host knows it by: there /proc tells all of it, whatever processor the guest has."""
        inside = self.show("MainPID", unit)
        space = os.readlink(f"/proc/{self.leader}/ns/pid")
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
                if f"\t{inside}\n" in text.partition("NSpid:")[2] and os.readlink(status.parent / "ns/pid") == space:
                    return int(status.parent.name)
            except OSError:
                continue
        raise Failed(f"no process of the host is {inside} of the guest")

    def journal(self, more=""):
        return self.run(f"journalctl -q -u enos-edge --no-pager {more}", check=False)

    def path(self, inside):
        return self.files / inside.lstrip("/")

    def write(self, inside, text):
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def drop_in(self, text, name="story", unit="enos-edge.service"):
        """Lines for the unit, in force with its next start."""
        self.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text)
        self.run("systemctl daemon-reload")

    def install(self, package):
        """Seconds that dpkg takes."""
        target = self.path(f"/srv/{package.name}")
        target.write_bytes(package.read_bytes())
        begun = time.monotonic()
        self.run(f"dpkg --force-confold -i /srv/{package.name}", within=120)
        return time.monotonic() - begun

    def shut_down(self):
        self.run("systemctl poweroff", check=False)
        self._gone(40 * PATIENCE)

    def pull_the_plug(self, dead=lambda: None):
        """Everything in it dies at once; with a disk of its own, what was not durable is lost too. `dead` is called between."""
        os.kill(self.leader, signal.SIGKILL)
        self._gone(20)
        dead()
        if self.disk:
            self.disk.cut()

    def _gone(self, within):
        try:
            self.nspawn.wait(within)
        finally:
            self.nspawn.kill()
            self.nspawn.wait()
            self.leader = None

    def discard(self):
        if self.nspawn and self.nspawn.poll() is None:
            if self.leader:
                os.kill(self.leader, signal.SIGKILL)
            self._gone(20)
        subprocess.run(["umount", "-l", self.files], check=False)
        if self.disk:
            subprocess.run(["umount", "-l", self.disk.root], check=False)
