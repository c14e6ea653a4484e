"""Servers of files that somebody else wrote: nginx, vsftpd, pyftpdlib, OpenSSH; what they prove themselves with, and how
they are cut."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from site_files import free_port, wait_until

#: Bytes a second that each of them gives.
RATE = 6 << 20


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


@contextlib.contextmanager
def standing(*servers):
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()
