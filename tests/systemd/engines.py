"""Engines as update files: many of one program (`trial-engine` reads what is appended to it), built once and kept below target/."""

import concurrent.futures
import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import threading

DEBUG = pathlib.Path("target/debug").resolve()
# Bytes of the program: whatever a build changes makes other engines.
KEPT = pathlib.Path("target/systemd-engines").resolve()
# An engine says its name and version, and these say no more: for those that are refused before they would run.
TINY = '#include <stdio.h>\nint main(void) { return puts("enos-edge %s") < 0; }\n'


def tool(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Engines:
    """Asked for by name; what is asked for first is made while the rest of a story gets ready."""

    def __init__(self):
        stat = (DEBUG / "trial-engine").stat()
        self.folder = KEPT / f"{stat.st_mtime_ns}-{stat.st_size}"
        if not self.folder.exists():
            shutil.rmtree(KEPT, ignore_errors=True)
            self.folder.mkdir(parents=True)
        self.program, self.lock = self.folder / "trial-engine", threading.Lock()
        self.makers = concurrent.futures.ThreadPoolExecutor(2)
        self.made = {}

    def _base(self):
        with self.lock:
            if not self.program.exists():
                tool("strip", "-o", self.program.with_suffix(".tmp"), DEBUG / "trial-engine")
                for key in ("own", "stranger"):
                    tool(self.program.with_suffix(".tmp"), "package", "keygen", "-o", self.folder / key)
                self.program.with_suffix(".tmp").rename(self.program)
        return self.program

    def public_key(self):
        self._base()
        return (self.folder / "own.pub").read_text()

    def engine(self, version, behave="good", after_ms=0):
        """Begins to make the whole gateway as this version; `path` waits for it."""
        return self._begin(f"{version}-{behave}-{after_ms}.tar.zst", self._whole, version, behave, after_ms)

    def tiny(self, version, key="own"):
        return self._begin(f"{version}-tiny-{key}.tar.gz", self._tiny, version, key)

    def program_of(self, version):
        """The bare program of a good engine, for a package of the operating system."""
        return self._payload(version, "good", 0)

    def _begin(self, name, make, *words):
        file = self.folder / f"enos-edge-{name}"
        with self.lock:
            if file not in self.made:
                self.made[file] = self.makers.submit(lambda: None) if file.exists() else self.makers.submit(make, file, *words)
        return Made(self, file)

    def _payload(self, version, behave, after_ms):
        payload = self.folder / f"program-{version}-{behave}-{after_ms}"
        shutil.copy(self._base(), payload)
        with open(payload, "ab") as program:
            program.write(f"\nENGINE version={version} behave={behave} after_ms={after_ms}\n".encode())
        return payload

    def _whole(self, file, version, behave, after_ms):
        payload = self._payload(version, behave, after_ms)
        self._build(file, payload, "own")
        payload.unlink()

    def _tiny(self, file, version, key):
        payload = self.folder / f"tiny-{version}-{key}"
        payload.with_suffix(".c").write_text(TINY % version)
        tool("cc", "-s", "-o", payload, payload.with_suffix(".c"))
        self._build(file, payload, key)

    def _build(self, file, payload, key):
        unfinished = file.with_name("making-" + file.name)
        tool(self._base(), "update", "build", "--kind", "engine", "--binary", payload, "--key", self.folder / key, "-o", unfinished)
        unfinished.rename(file)


class Made:
    """An update file, when it is there."""

    def __init__(self, engines, path):
        self.engines, self._path = engines, path

    @property
    def path(self):
        self.engines.made[self._path].result(180)
        return self._path

    @property
    def version(self):
        return self._path.name.split("-")[2]


class Unsigned:
    """The same archive without its signature. Of a tiny one: it is packed anew."""

    def __init__(self, made):
        self.path, self.version = made.path.with_name("unsigned-" + made.path.name), made.version
        with tarfile.open(made.path) as source, tarfile.open(self.path, "w:gz") as target:
            for member in source:
                if member.name != "update.sig":
                    target.addfile(member, source.extractfile(member))


def digest(path, method):
    return hashlib.new(method, path.read_bytes()).hexdigest()
