"""Packages fetched from servers nobody here wrote: nginx, vsftpd, pyftpdlib, OpenSSH. Run with this file, or its names."""
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pool
from site_files import GATEWAY, ROOT, free_port, wait_until
from stand_in import StandIn

#: Throttled to RATE by every server, so that there is time to cut.
SIZE = 12 << 20
RATE = 6 << 20
#: Who fails in the middle: the connection, the whole server, or whoever fetches.
ENDS = ("connection", "server", "fetch")
CUTS = 2 * len(ENDS)
#: The gateway itself is killed so often while it fetches.
KILLS = 2
SERVERS = ("nginx", "vsftpd", "sshd", "ssh-keygen", "sftp", "openssl", "curl")


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    return found


def openssl(*words, folder):
    subprocess.run([program("openssl"), *words], cwd=folder, check=True, capture_output=True)


def authority(folder: pathlib.Path):
    """An authority, a server certificate for 127.0.0.1 and localhost, and a client certificate."""
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    (folder / "people").write_text("extendedKeyUsage=clientAuth\n")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out",
            "ca.pem", "-days", "2", "-subj", "/CN=ca", folder=folder)
    for name, more in (("server", ("-extfile", "san")), ("client", ("-extfile", "people"))):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", "-subj", f"/CN={name}", folder=folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.pem", "-days", "2", *more, folder=folder)
    for key in folder.glob("*.key"):
        key.chmod(0o600)


def fingerprint(folder: pathlib.Path) -> str:
    told = subprocess.run([program("openssl"), "x509", "-noout", "-fingerprint", "-sha256", "-in", "server.pem"], cwd=folder,
                          check=True, capture_output=True, text=True)
    return told.stdout.strip().split("=")[1]


def served(folder: pathlib.Path) -> tuple[pathlib.Path, str]:
    """A folder with a large archive in it, and the archive's digest."""
    root = folder / "files"
    root.mkdir()
    content = random.Random(7).randbytes(SIZE)
    (root / "site-1.9.zip").write_bytes(b"old")
    (root / "site-1.10.zip").write_bytes(content)
    root.chmod(0o755)
    for file in root.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    return root, hashlib.sha256(content).hexdigest()


class Cable:
    """A slow way to a server that has no brake of its own."""

    def __init__(self, port: int):
        self.to, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                with contextlib.suppress(OSError):
                    far = socket.create_connection(("127.0.0.1", self.to))
                    for one, other in ((near, far), (far, near)):
                        threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        with contextlib.suppress(OSError):
            while block := one.recv(64 << 10):
                other.sendall(block)
                time.sleep(len(block) / RATE)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def kill(self):
        self.listener.close()


class Server:
    """A server of somebody else's in the foreground; `cut` ends the connections it has, `fall` all of it."""

    def __init__(self, command, port: int, folder: pathlib.Path, name: str):
        self.port, self.log, self.name = port, open(folder / f"{name}.log", "wb"), name
        self.command = [str(word) for word in command]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        wait_until(f"{self.name} listens", self.listening, 10)

    def listening(self) -> bool:
        assert self.process.poll() is None, f"ended: {pathlib.Path(self.log.name).read_text()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def below(self, pid: int) -> list:
        """What it started, and what that started."""
        found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
        return [one for child in map(int, found) for one in (child, *self.below(child))]

    def cut(self):
        end(self.below(self.process.pid))

    def fall(self):
        """kill -9 of everything, the one that listens first: it would start others."""
        all_of_it = [self.process.pid, *self.below(self.process.pid)]
        end(all_of_it)
        self.process.wait()

    def kill(self):
        self.fall()


def end(pids: list):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def nginx(folder: pathlib.Path, root: pathlib.Path):
    plain, tls = free_port(), free_port()
    user = "user root;" if os.getuid() == 0 else ""
    spaces = "".join(f"{word}_temp_path {folder}/tmp;" for word in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(f"""{user}
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log; {spaces} root {root}; limit_rate {RATE};
  server {{ listen 127.0.0.1:{plain}; }}
  server {{
    listen 127.0.0.1:{tls} ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    location /down {{ return 302 http://127.0.0.1:{plain}/site-1.10.zip; }}
    location /loop {{ return 302 /loop; }}
    location /moved {{ return 302 /site-1.10.zip; }}
    location = /packed.zip {{ gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; alias {root}/site-1.10.zip; }}
  }}
}}
""")
    server = Server([program("nginx"), "-p", folder, "-c", config], plain, folder, "nginx")
    server.tls = tls
    return server


def vsftpd(folder: pathlib.Path, root: pathlib.Path, tls: bool, implicit: bool = False):
    port, low = free_port(), free_port()
    secure = f"""ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file={folder}/server.pem
rsa_private_key_file={folder}/server.key
""" if tls else ""
    secure += "implicit_ssl=YES\n" if implicit else ""
    config = folder / "vsftpd.conf"
    config.write_text(f"""listen=YES
background=NO
listen_address=127.0.0.1
listen_port={port}
run_as_launching_user=YES
anonymous_enable=YES
no_anon_password=NO
anon_root={root}
pasv_address=192.0.2.1
pasv_min_port={low}
pasv_max_port={min(low + 50, 65535)}
anon_max_rate={RATE}
seccomp_sandbox=NO
vsftpd_log_file={folder}/vsftpd.trace
{secure}""")
    os.chown(config, os.getuid(), os.getgid())
    return Server([program("vsftpd"), config], port, folder, "vsftpd")


PYFTPD = """
import sys
import time
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FileProducer, TLS_FTPHandler
from pyftpdlib.servers import MultiprocessFTPServer
port, root, cert, rate = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
users = DummyAuthorizer()
users.add_user("gateway", "let me in", root, perm="elr")
# Its own throttle lets megabytes through over TLS; each connection has a process, so a sleep holds up nobody else.
fast = FileProducer.more
def slow(self):
    time.sleep(self.buffer_size / rate)
    return fast(self)
FileProducer.more = slow
handler = TLS_FTPHandler
handler.certfile, handler.authorizer = cert, users
handler.tls_control_required = handler.tls_data_required = True
handler.masquerade_address = "192.0.2.1"
MultiprocessFTPServer(("127.0.0.1", port), handler).serve_forever()
"""


def pyftpdlib(folder: pathlib.Path, root: pathlib.Path):
    (folder / "both.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    (folder / "ftpd.py").write_text(PYFTPD)
    # The system's Python: the peers' own may not have it.
    candidates = [sys.executable, "/usr/bin/python3"]
    has = lambda python: subprocess.run([python, "-c", "import pyftpdlib, OpenSSL"], capture_output=True).returncode == 0
    python = next((python for python in candidates if has(python)), None)
    assert python, "pyftpdlib with pyOpenSSL is not installed"
    port = free_port()
    return Server([python, folder / "ftpd.py", port, root, folder / "both.pem", RATE], port, folder, "pyftpdlib")


def sshd(folder: pathlib.Path):
    if os.getuid() == 0:
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    for name in ("host", "id"):
        subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_text((folder / "id.pub").read_text())
    kind, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    config = folder / "sshd_config"
    config.write_text(f"""ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxStartups 100
""")
    return Server([program("sshd"), "-D", "-e", "-f", config], port, folder, "sshd")


def configure(folder: pathlib.Path, *sources: dict, **more) -> pathlib.Path:
    file = folder / "edge.yaml"
    file.write_text(json.dumps({"state_dir": str(folder / "state"), "fetch": list(sources), **more}))
    file.chmod(0o600)
    return file


def fetch(config: pathlib.Path, name: str, *flags) -> subprocess.Popen:
    words = [GATEWAY, "package", "fetch", name, "--config", config, *flags]
    return subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def told(config: pathlib.Path, name: str, *flags) -> tuple[int, str]:
    client = fetch(config, name, *flags)
    said = client.communicate(timeout=120)[0]
    return client.returncode, said


def dice() -> random.Random:
    seed = random.randrange(1 << 30)
    print(f"    seed {seed}")
    return random.Random(seed)


def cut_until_whole(folder: pathlib.Path, server: Server, source: dict, digest: str):
    """The transfer is killed at random points, at each end in turn, and in the end the digest is right."""
    config, out = configure(folder, {"name": "site", "stall_s": 10, **source}), folder / "got.zip"
    part = folder / "state" / "incoming" / "site.once.part"
    rng, lengths = dice(), []
    length = lambda: part.stat().st_size if part.exists() else 0
    ends = [*ENDS] * (CUTS // len(ENDS))
    rng.shuffle(ends)
    # Whoever fetches also dies before there is anything: on the way there.
    client = fetch(config, "site", "--to", out)
    time.sleep(rng.uniform(0, 0.3))
    client.kill()
    client.communicate()
    for which in ends:
        before = length()
        client = fetch(config, "site", "--to", out)
        target = before + rng.randrange(64 << 10, SIZE // (CUTS + 2))
        wait_until("it grows", lambda: length() >= target or client.poll() is not None, 30)
        assert client.poll() is None, client.stdout.read()
        {"connection": server.cut, "server": server.fall, "fetch": client.kill}[which]()
        said = client.communicate(timeout=30)[0]
        assert client.returncode != 0 and not out.exists(), said
        assert length() >= before, f"{which}: what was here of it was dropped: {before} -> {length()}\n{said}"
        lengths.append((which, length()))
        if which == "server":
            server.start()
        wait_until("the server is back", server.listening, 10)
    status, said = told(config, "site", "--to", out)
    assert status == 0, said
    assert hashlib.sha256(out.read_bytes()).hexdigest() == digest, "the digest is wrong"
    assert ("goes on at" in said or " on\n" in said), f"it was not resumed:\n{said}"
    print(f"    cut at {lengths} of {SIZE} bytes")
    return said


def killed_until_it_runs(folder: pathlib.Path, root: pathlib.Path, source: dict):
    """The gateway is killed (-9) at random points of a transfer, goes on with it, and runs the very bytes that lie there."""
    archive = root / "site-1.11.tar.gz"
    shutil.copy(package(folder, "1.1.0", SIZE), archive)
    archive.chmod(0o644)
    at = source["url"].rsplit("/", 1)
    url = source["url"] if not at[1] else f"{at[0]}/{archive.name}"
    config = configure(folder, {"name": "site", "stall_s": 10, **source, "url": url, "when": "manual"})
    part = folder / "state/incoming/site.part"
    length = lambda: part.stat().st_size if part.exists() else 0
    rng, lengths = dice(), []
    for _ in range(KILLS):
        daemon = Daemon(folder, config)
        try:
            before = length()
            assert before >= (lengths or [0])[-1], f"what was here of it was dropped: {lengths} -> {before}"
            asks = fetch(config, "site")
            target = before + rng.randrange(64 << 10, SIZE // (KILLS + 1))
            wait_until("it grows", lambda: length() >= target or asks.poll() is not None, 30)
            assert asks.poll() is None, asks.stdout.read()
        finally:
            daemon.process.kill()
            daemon.process.wait()
        lengths.append(length())
        assert asks.wait(30) != 0 and asks.stdout.close() is None
    with standing(daemon := Daemon(folder, config)):
        status, said = told(config, "site")
        goes_on = re.search(r"(?:goes on at|, from) (\d+) o", said)
        assert status == 0 and goes_on, f"{lengths}:\n{said}"
        # A program that fetches for it may have lived a moment longer.
        assert int(goes_on[1]) >= lengths[-1], f"{lengths}:\n{said}"
        assert daemon.generation() == 2
        kept = json.loads((folder / "state/packages/current").read_text().splitlines()[1])
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        assert kept["generations"][-1]["sha256"] == digest, "another digest runs"
    print(f"    the gateway was killed at {lengths}")


@contextlib.contextmanager
def standing(*servers):
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()


def nginx_with_tls_is_resumed_after_every_cut(folder):
    authority(folder)
    root, digest = served(folder)
    (root / "site-1.10.zip.sha256").write_text(f"{digest}  site-1.10.zip\n")
    with standing(server := nginx(folder, root)):
        url = f"https://127.0.0.1:{server.tls}/site-1.10.zip"
        trusted = {"url": url, "ca_file": str(folder / "ca.pem")}
        said = cut_until_whole(folder, server, {**trusted, "checksum": "required"}, digest)
        for step in ("name resolution", "tcp connection", "tls", "request", "transfer", "digest"):
            assert f"ok      {step}" in said, said
        ranges = [line.split('"')[2].split()[0] for line in (folder / "access.log").read_text().splitlines()]
        # A worker that is killed logs nothing.
        assert ranges.count("206") >= CUTS // len(ENDS), ranges
        killed_until_it_runs(folder, root, trusted)


def an_archive_that_changes_at_nginx_is_never_put_together_from_two(folder):
    authority(folder)
    root, _ = served(folder)
    with standing(server := nginx(folder, root)):
        config, out = configure(folder, {"name": "site", "url": f"http://127.0.0.1:{server.port}/site-1.10.zip"}), folder / "got"
        part = folder / "state/incoming/site.once.part"
        client = fetch(config, "site", "--to", out)
        wait_until("it grows", lambda: part.exists() and part.stat().st_size > 1 << 20)
        client.kill()
        client.wait()
        content = random.randbytes(SIZE)
        (root / "new").write_bytes(content)
        os.utime(root / "new", (1_700_000_000, 1_700_000_000))
        (root / "new").rename(root / "site-1.10.zip")
        status, said = told(config, "site", "--to", out)
        assert status == 0 and out.read_bytes() == content and "goes on" not in said, said
        # nginx makes its etag of second and size: within a second another archive bears the same one.
        client = fetch(config, "site", "--to", out)
        wait_until("it grows", lambda: part.exists() and part.stat().st_size > 1 << 20)
        client.kill()
        client.wait()
        content = random.randbytes(SIZE)
        (root / "site-1.10.zip").write_bytes(content)
        os.utime(root / "site-1.10.zip", (1_700_000_000, 1_700_000_000))
        (root / "site-1.10.zip.sha256").write_text(hashlib.sha256(content).hexdigest())
        status, said = told(config, "site", "--to", out)
        assert status == 1 and "FAILED  digest" in said, said
        status, said = told(config, "site", "--to", out)
        assert status == 0 and out.read_bytes() == content, said


def nginx_is_not_believed_without_its_certificate_and_leads_nowhere_else(folder):
    authority(folder)
    other = folder / "other"
    other.mkdir()
    authority(other)
    root, _ = served(folder)
    with standing(server := nginx(folder, root)):
        at = f"https://127.0.0.1:{server.tls}"
        trusted = {"ca_file": str(folder / "ca.pem")}
        pin = lambda where: {"certificate_sha256": fingerprint(where)}
        cases = [
            ({"url": f"{at}/site-1.10.zip", **pin(folder)}, 0, "proved who it is"),
            ({"url": f"{at}/moved", **trusted}, 0, "redirected to"),
            ({"url": f"{at}/site-1.10.zip", **pin(other)}, 1, "not the pinned one"),
            ({"url": f"{at}/site-1.10.zip", "ca_file": str(other / "ca.pem")}, 1, "FAILED  tls"),
            ({"url": f"{at}/down", **trusted}, 1, "from https to http"),
            ({"url": f"{at}/loop", **trusted}, 1, "more than 5 redirects"),
            ({"url": f"{at}/none.zip", **trusted}, 1, "http status 404"),
            ({"url": f"{at}/site-1.10.zip", **trusted, "max_mb": 1}, 1, "max_mb"),
            ({"url": f"http://127.0.0.1:{server.tls}/site-1.10.zip"}, 1, "http status 400"),
            ({"url": f"https://127.0.0.1:{server.port}/site-1.10.zip", **trusted}, 1, "speaks no tls"),
            ({"url": f"http://127.0.0.1:{free_port()}/site.zip"}, 1, "is closed"),
        ]
        for source, expected, words in cases:
            status, said = told(configure(folder, {"name": "site", **source}), "site", "--dry-run")
            assert status == expected and words in said, f"{source}: {status}\n{said}"


def vsftpd_is_resumed_after_every_cut_and_its_address_of_another_host_ignored(folder):
    root, digest = served(folder)
    with standing(server := vsftpd(folder, root, tls=False)):
        source = {"url": f"ftp://127.0.0.1:{server.port}{root}/"}
        cut_until_whole(folder, server, source, digest)
        killed_until_it_runs(folder, root, source)


def vsftpd_with_tls_and_required_session_reuse_is_resumed_after_every_cut(folder):
    authority(folder)
    root, digest = served(folder)
    with standing(server := vsftpd(folder, root, tls=True)):
        at = f"127.0.0.1:{server.port}{root}/site-1.10.zip"
        source = {"url": f"ftps://{at}", "ca_file": str(folder / "ca.pem")}
        cut_until_whole(folder, server, source, digest)
        killed_until_it_runs(folder, root, source)
        status, said = told(configure(folder, {"name": "site", "url": f"ftp://{at}"}), "site", "--dry-run")
        assert status == 1 and "FAILED  login" in said and "ftps://" in said, said


def vsftpd_that_is_encrypted_from_the_first_byte_is_resumed_and_known_by_its_certificate(folder):
    authority(folder)
    root, digest = served(folder)
    with standing(server := vsftpd(folder, root, tls=True, implicit=True)):
        source = {"url": f"ftps://127.0.0.1:{server.port}{root}/", "ca_file": str(folder / "ca.pem"), "implicit_tls": True}
        cut_until_whole(folder, server, source, digest)
        killed_until_it_runs(folder, root, source)
        other = folder / "other"
        other.mkdir()
        authority(other)
        wrong = configure(folder, {"name": "site", **source, "ca_file": str(other / "ca.pem")})
        status, said = told(wrong, "site", "--dry-run")
        assert status == 1 and "FAILED  tls" in said, said
        explicit = configure(folder, {"name": "site", **source, "implicit_tls": False, "connect_timeout_s": 2, "stall_s": 2})
        status, said = told(explicit, "site", "--dry-run")
        assert status == 1 and "FAILED  " in said, said


def a_small_disk_is_not_filled(folder):
    root, _ = served(folder)
    with standing(server := nginx_plain(folder, root)):
        config = configure(folder, {"name": "site", "url": f"http://127.0.0.1:{server.port}/site-1.10.zip"})
        (folder / "state").mkdir()
        fetch_it = f"{GATEWAY} package fetch site --to {folder}/state/got.zip --config {config}"
        # 12 MB come, 16 MB stay free: 20 MB are too few, 40 MB are enough.
        for size, status, words in ((20, 1, "make space"), (40, 0, "written to")):
            script = f"mount -t tmpfs -o size={size}m tmpfs {folder}/state && {{ {fetch_it}; s=$?; du -sk {folder}/state; exit $s; }}"
            unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
            done = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, timeout=60)
            assert done.returncode == status and words in done.stdout, (size, done)
            used = int(done.stdout.split()[-2])
            assert status == 0 or used < 64, f"{used} kB were written to a disk without room"


def pyftpdlib_with_tls_and_a_password_is_resumed_after_every_cut(folder):
    authority(folder)
    root, digest = served(folder)
    with standing(server := pyftpdlib(folder, root)):
        account = {"user": "gateway", "password": "let me in", "ca_file": str(folder / "ca.pem")}
        source = {"url": f"ftps://127.0.0.1:{server.port}/", **account}
        cut_until_whole(folder, server, source, digest)
        killed_until_it_runs(folder, root, source)
        wrong = configure(folder, {"name": "site", **source, "password": "let me out"})
        status, said = told(wrong, "site", "--dry-run")
        assert status == 1 and "FAILED  login" in said and "let me" not in said, said


def openssh_is_resumed_after_every_cut_and_known_by_its_key(folder):
    root, digest = served(folder)
    with standing(server := sshd(folder), cable := Cable(server.port)):
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        source = {"url": f"sftp://127.0.0.1:{cable.port}{root}/", "user": user, "key_file": str(folder / "id"),
                  "known_hosts_file": str(folder / "known_hosts")}
        known = (folder / "known_hosts").read_text()
        (folder / "known_hosts").write_text(known + known.replace(str(server.port), str(cable.port)))
        cut_until_whole(folder, server, source, digest)
        killed_until_it_runs(folder, root, source)
        subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / "stranger"], check=True)
        known = (folder / "known_hosts").read_text().splitlines()[1].split()
        (folder / "wrong_hosts").write_text(f"{known[0]} {known[1]} {(folder / 'stranger.pub').read_text().split()[1]}\n")
        for change, words in (
            ({"known_hosts_file": str(folder / "wrong_hosts")}, "host key is not the known one"),
            ({"key_file": str(folder / "stranger")}, "authorized_keys"),
            ({"url": f"sftp://127.0.0.1:{cable.port}{root}/none.zip"}, "check the path"),
        ):
            status, said = told(configure(folder, {"name": "site", **source, **change}), "site", "--dry-run")
            assert status == 1 and words in said, f"{change}: {status}\n{said}"
        bare = subprocess.run([str(GATEWAY), "package", "fetch", "site", "--dry-run", "--config",
                               str(configure(folder, {"name": "site", **source}))],
                              capture_output=True, text=True, env={"PATH": str(folder)})
        assert bare.returncode == 1 and "sftp is not installed" in bare.stdout, bare.stdout + bare.stderr


class Daemon:
    def __init__(self, folder: pathlib.Path, config: pathlib.Path):
        self.config = config
        self.log = open(folder / "gateway.log", "ab")
        package = ROOT / "examples/quickstart/site"
        for name in ("meter-1", "machine-1"):
            secret = folder / "state/secrets" / name
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_text("secret")
            secret.chmod(0o600)
        words = [GATEWAY, "run", "--config", config, "--package", package]
        self.process = subprocess.Popen([str(w) for w in words], stdout=self.log, stderr=self.log)
        wait_until("it answers", lambda: self.process.poll() is None and self.status(), 20)

    def status(self) -> dict:
        asked = subprocess.run([str(GATEWAY), "status", "--json", "--config", str(self.config)], capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else {}

    def kill(self):
        self.process.terminate()
        self.process.wait(15)

    def generation(self) -> int:
        return self.status().get("package", {}).get("generation", 0)


def package(folder: pathlib.Path, version: str, padding: int = 0) -> pathlib.Path:
    """The quickstart's package in another version, and as much larger as is wanted."""
    site = folder / f"site-{version}"
    shutil.copytree(ROOT / "examples/quickstart/site", site)
    manifest = site / "package.yaml"
    manifest.write_text(manifest.read_text().replace("version: 1.0.0", f"version: {version}"))
    if padding:
        (site / "docs").mkdir()
        (site / "docs/manual.bin").write_bytes(random.Random(1).randbytes(padding))
    archive = folder / f"site-{version}.tar.gz"
    subprocess.run([str(GATEWAY), "package", "build", str(site), "-o", str(archive)], check=True, capture_output=True)
    return archive


def good_package(folder: pathlib.Path) -> pathlib.Path:
    archive = folder / "good.tar.gz"
    subprocess.run([str(GATEWAY), "package", "build", str(ROOT / "examples/quickstart/site"), "-o", str(archive)], check=True,
                   capture_output=True)
    return archive


def a_running_gateway_takes_a_package_once_and_tells_why_another_is_refused(folder):
    root, _ = served(folder)
    shutil.copy(good_package(folder), root / "site.tar.gz")
    drop = folder / "drop"
    drop.mkdir()
    with standing(server := nginx_plain(folder, root)):
        sources = ({"name": "pull", "url": f"http://127.0.0.1:{server.port}/site.tar.gz", "when": "manual"},
                   {"name": "closed", "url": f"http://127.0.0.1:{free_port()}/x.zip", "when": "manual"},
                   {"name": "stick", "url": f"file://{drop}", "every_s": 10})
        config = configure(folder, *sources)
        with standing(daemon := Daemon(folder, config)):
            status, said = told(config, "pull")
            assert status == 0 and "ok      transfer" in said and "hand over" not in said.lower().split("ok")[0], said
            status, said = told(config, "pull")
            assert status == 0 and "unchanged" in said, said
            status, said = told(config, "closed")
            assert status == 1 and "is closed" in said and "open port" in said, said
            (drop / "bad.zip").write_bytes(b"PK no zip")
            status, said = told(config, "stick")
            assert status == 1, said
            note = wait_until("the note is there", lambda: (drop / "bad.zip.error.txt").exists() and (drop / "bad.zip.error.txt").read_text())
            assert "was not taken" in note, note
            shown = {source["name"]: source for source in daemon.status()["fetch"]}
            assert shown["closed"]["trouble"]["step"] == "tcp connection" and shown["pull"]["trouble"] is None, shown


def nginx_plain(folder, root):
    authority(folder)
    return nginx(folder, root)


def curl_pushes_with_a_certificate_or_a_token_and_is_told_every_fault(folder):
    authority(folder)
    good = good_package(folder)
    token = "a token of some length"
    port = free_port()
    tls = {"cert_file": str(folder / "server.pem"), "key_file": str(folder / "server.key")}
    for access, right, wrong in (
        ({"client_ca_file": str(folder / "ca.pem")}, ["--cert", f"{folder}/client.pem", "--key", f"{folder}/client.key"], []),
        ({"token": token}, ["-H", f"Authorization: Bearer {token}"], ["-H", "Authorization: Bearer another one"]),
    ):
        config = configure(folder, push={"listen": f"127.0.0.1:{port}", **tls, **access, "max_mb": 1})
        with standing(Daemon(folder, config)):
            def curl(*words):
                base = [program("curl"), "-s", "-S", "--cacert", f"{folder}/ca.pem", "-w", "\n%{http_code}", "--max-time", "60"]
                done = subprocess.run([*base, *words, f"https://127.0.0.1:{port}/package"], capture_output=True, text=True)
                body, _, code = done.stdout.rpartition("\n")
                return int(code or 0), body, done
            code, body, done = curl("-T", str(good), *wrong)
            assert code in (0, 401), (code, body, done)
            sha256 = hashlib.sha256(good.read_bytes()).hexdigest()
            code, body, done = curl("-T", str(good), "-H", f"x-sha256: {sha256}", *right)
            assert code == 200 and json.loads(body)["taken"] is True, (code, body, done)
            code, body, _ = curl("-T", str(good), "-H", f"x-sha256: {'0' * 64}", *right)
            assert code == 400 and sha256 in body, (code, body)
            (folder / "bad.zip").write_bytes(b"PK no zip")
            code, body, _ = curl("-T", str(folder / "bad.zip"), *right)
            assert code == 422 and json.loads(body)["faults"], (code, body)
            (folder / "large.zip").write_bytes(bytes(2 << 20))
            code, body, _ = curl("-T", str(folder / "large.zip"), *right)
            assert code == 413, (code, body)
            code, body, _ = curl(*right)
            assert code == 200 and json.loads(body)["last"]["state"] == "refused", (code, body)


def cloud_of(folder: pathlib.Path) -> tuple[StandIn, dict]:
    cloud = StandIn("--gateway", "gw/gw1/s", "--accept-all", "--no-connect-limit")
    return cloud, {"url": f"tcp://127.0.0.1:{cloud.port}", "product_key": "gw", "device_key": "gw1", "device_secret": "s"}


def publish(cloud: StandIn, inputs: dict, number: int) -> dict:
    cloud.order(f"command gw gw1 thing/service/updatePackage id={number} {json.dumps(inputs)}")
    return cloud.said(40)["answer"]


def steps_of(cloud: StandIn, number) -> list:
    events = [event for event in cloud.ask("events") if event["event"] == "packageProgress"]
    return [event["outputs"] for event in events if event["outputs"].get("publish") == str(number)]


def states_of(cloud: StandIn, number) -> list:
    return [step["state"] for step in steps_of(cloud, number)]


def the_cloud_publishes_and_is_told_each_step_of_it(folder):
    authority(folder)
    root, _ = served(folder)
    second, third = package(folder, "1.1.0", 9 << 20), package(folder, "1.2.0")
    for archive in (second, third):
        shutil.copy(archive, root)
    sha256 = hashlib.sha256(third.read_bytes()).hexdigest()
    (root / "bad.zip").write_bytes(b"PK no zip")
    cloud, link = cloud_of(folder)
    with standing(server := nginx(folder, root), cloud):
        at = f"https://127.0.0.1:{server.tls}"
        source = {"name": "site", "url": f"{at}/site-1.1.0.tar.gz", "when": "on_notice", "ca_file": str(folder / "ca.pem")}
        hand = {"name": "hand", "url": f"http://127.0.0.1:{server.port}/x.zip", "when": "manual"}
        config = configure(folder, source, hand, cloud=link, publish={"progress_s": 1}, package_watch={"window_s": 2})
        with standing(daemon := Daemon(folder, config)):
            wait_until("the cloud sees it", lambda: cloud.ask("online gw gw1")["online"], 30)
            answer = publish(cloud, {}, 7)
            assert answer["code"] == 200 and answer["data"] == {"publish": "7", "sources": ["site"]}, answer
            wait_until("it is kept", lambda: states_of(cloud, 7)[-1:] == ["kept"], 60)
            told = steps_of(cloud, 7)
            states = [step["state"] for step in told]
            assert [s for s in states if s != "progress"] == ["begun", "verified", "checked", "switched", "watching", "kept"], states
            progress = [step for step in told if step["state"] == "progress"]
            assert progress and all(0 < step["percent"] <= 100 and step["total"] > 9 << 20 for step in progress), told
            assert told[-1]["version"] == "1.1.0" and told[-1]["generation"] == 2 and told[-1]["message"], told[-1]
            assert daemon.generation() == 2
            for words, status in ((("--version", "1.1.0", "--timeout", "5"), 0), (("--version", "9", "--timeout", "0"), 1)):
                waited = subprocess.run([str(GATEWAY), "package", "wait", "--json", "--config", str(config), *words],
                                        capture_output=True, text=True)
                assert waited.returncode == status and json.loads(waited.stdout)["version"] == "1.1.0", waited
            for inputs, code, words in (
                ({"url": "https://127.0.0.1:1/site-1.2.0.tar.gz"}, 2017, "configured hosts"),
                ({"url": f"http://127.0.0.1:{server.port}/site-1.2.0.tar.gz"}, 2017, "configured hosts"),
                ({"url": "file:///etc/passwd"}, 2017, "configured hosts"),
                ({"source": "hand"}, 2017, "person"), ({"sha256": "12"}, 2000, "64 hex digits"), ({"what": 1}, 2000, "not known"),
            ):
                answer = publish(cloud, inputs, random.randrange(10**6, 10**9))
                assert answer["code"] == code and words in answer["message"], (inputs, answer)
            # The same again runs already; another digest or version than was said is refused, and the right one taken.
            assert publish(cloud, {"url": f"{at}/site-1.1.0.tar.gz"}, 8)["code"] == 200
            wait_until("it runs already", lambda: states_of(cloud, 8)[-1:] == ["unchanged"], 40)
            other = {"url": f"{at}/site-1.2.0.tar.gz"}
            assert publish(cloud, {**other, "version": "1.3.0"}, 9)["code"] == 200
            wait_until("it is refused", lambda: states_of(cloud, 9)[-1:] == ["refused"], 40)
            assert "1.3.0" in steps_of(cloud, 9)[-1]["message"], steps_of(cloud, 9)
            assert publish(cloud, {"url": f"{at}/bad.zip"}, 10)["code"] == 200
            wait_until("it is refused", lambda: states_of(cloud, 10)[-1:] == ["refused"], 40)
            assert steps_of(cloud, 10)[-1]["faults"] >= 1 and daemon.generation() == 2, steps_of(cloud, 10)
            assert publish(cloud, {**other, "sha256": "0" * 64}, 11)["code"] == 200
            wait_until("it fails", lambda: states_of(cloud, 11)[-1:] == ["failed"], 40)
            assert steps_of(cloud, 11)[-1]["step"] == "digest" and sha256 in steps_of(cloud, 11)[-1]["message"]
            assert publish(cloud, {**other, "sha256": sha256, "version": "1.2.0"}, 12)["code"] == 200
            wait_until("it is switched", lambda: "switched" in states_of(cloud, 12), 40)
            assert states_of(cloud, 11)[-1] == "failed" and daemon.generation() == 3
            audit = subprocess.run([str(GATEWAY), "audit", "--json", "--config", str(config)], capture_output=True, text=True).stdout
            asked = [record for record in json.loads(audit) if "updatePackage" in json.dumps(record)]
            assert len(asked) >= 12 and all(record["door"] == "enos" for record in asked), audit


def the_result_of_a_publish_outlives_a_dead_link_and_a_dead_gateway(folder):
    authority(folder)
    root, _ = served(folder)
    shutil.copy(package(folder, "1.1.0", 9 << 20), root)
    cloud, link = cloud_of(folder)
    with standing(server := nginx(folder, root), cloud):
        source = {"name": "site", "url": f"http://127.0.0.1:{server.port}/site-1.1.0.tar.gz", "when": "on_notice"}
        config = configure(folder, source, cloud=link, package_watch={"window_s": 1})
        part = folder / "state/incoming/site.part"
        daemon = Daemon(folder, config)
        try:
            wait_until("the cloud sees it", lambda: cloud.ask("online gw gw1")["online"], 30)
            assert publish(cloud, {}, 7)["code"] == 200
            wait_until("it grows", lambda: part.exists() and part.stat().st_size > 1 << 20, 20)
            # Killed in the middle of the transfer, with the link down from now on.
            daemon.process.kill()
            daemon.process.wait()
            cloud.order("down")
            half = part.stat().st_size
            daemon = Daemon(folder, config)
            wait_until("it goes on by itself", lambda: daemon.generation() == 2, 60)
            assert half > 1 << 20 and '" 206 ' in (folder / "access.log").read_text(), "it was not resumed"
            waiting = folder / "state/notices/waiting"
            wait_until("the result waits on disk", lambda: '"kept"' in waiting.read_text(), 20)
            daemon.process.kill()
            daemon.process.wait()
            cloud.order("up")
            daemon = Daemon(folder, config)
            wait_until("the cloud is told", lambda: "kept" in states_of(cloud, 7), 60)
            states = states_of(cloud, 7)
            for state in ("begun", "verified", "checked", "switched", "kept"):
                assert state in states, states
            wait_until("nothing waits", lambda: waiting.read_text().strip() == "[]", 20)
        finally:
            daemon.kill()


def a_push_that_was_cut_by_curl_and_by_a_killed_gateway_goes_on(folder):
    authority(folder)
    archive = package(folder, "1.1.0", 6 << 20)
    sha256, token, port = hashlib.sha256(archive.read_bytes()).hexdigest(), "a token of some length", free_port()
    tls = {"cert_file": str(folder / "server.pem"), "key_file": str(folder / "server.key")}
    config = configure(folder, push={"listen": f"127.0.0.1:{port}", **tls, "token": token})
    words = [program("curl"), "-sS", "--cacert", f"{folder}/ca.pem", "-H", f"Authorization: Bearer {token}", "-H", f"x-sha256: {sha256}",
             "-H", "Expect:", "--max-time", "60", f"https://127.0.0.1:{port}/package"]
    part = folder / "state/incoming/push.part"
    grown = lambda least: part.exists() and part.stat().st_size >= least
    daemon = Daemon(folder, config)
    silent = []
    try:
        for victim in ("curl", "gateway"):
            least = 1 << 20 if victim == "curl" else 3 << 20
            held = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["held"]
            goes_on = ["-C", str(held["bytes"])] if held else []
            pushing = subprocess.Popen([*words, *goes_on, "-T", str(archive), "--limit-rate", "3M"], stdout=subprocess.PIPE)
            wait_until("it grows", lambda: grown(least), 30)
            if victim == "curl":
                pushing.kill()
            else:
                daemon.process.kill()
                daemon.process.wait()
                daemon = Daemon(folder, config)
            pushing.wait()
        # A crowd that says nothing is there as well.
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        held = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["held"]
        assert held["sha256"] == sha256 and held["bytes"] >= 2 << 20, held
        done = subprocess.run([*words, "-C", str(held["bytes"]), "-T", str(archive)], capture_output=True, text=True)
        assert done.returncode == 0 and json.loads(done.stdout)["taken"] is True, done
        assert daemon.generation() == 2
    finally:
        for one in silent:
            one.close()
        daemon.kill()


STORIES = [
    nginx_with_tls_is_resumed_after_every_cut,
    an_archive_that_changes_at_nginx_is_never_put_together_from_two,
    nginx_is_not_believed_without_its_certificate_and_leads_nowhere_else,
    vsftpd_is_resumed_after_every_cut_and_its_address_of_another_host_ignored,
    vsftpd_with_tls_and_required_session_reuse_is_resumed_after_every_cut,
    pyftpdlib_with_tls_and_a_password_is_resumed_after_every_cut,
    openssh_is_resumed_after_every_cut_and_known_by_its_key,
    a_running_gateway_takes_a_package_once_and_tells_why_another_is_refused,
    curl_pushes_with_a_certificate_or_a_token_and_is_told_every_fault,
    vsftpd_that_is_encrypted_from_the_first_byte_is_resumed_and_known_by_its_certificate,
    a_small_disk_is_not_filled,
    a_push_that_was_cut_by_curl_and_by_a_killed_gateway_goes_on,
    the_cloud_publishes_and_is_told_each_step_of_it,
    the_result_of_a_publish_outlives_a_dead_link_and_a_dead_gateway,
]


if __name__ == "__main__":
    for name in SERVERS:
        program(name)
    sys.exit(pool.main(__file__, "fetch", STORIES))
