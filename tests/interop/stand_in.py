"""The stand-in cloud as a process that takes orders, and certificates for those who connect to it."""
import datetime
import json
import pathlib
import queue
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from site_files import TESTBED


class StandIn:
    """`testbed cloud` with its orders on standard input. Unlike a peer of somebody else's it answers in JSON lines."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [str(word) for word in (TESTBED, "cloud", *flags)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )
        self.lines = queue.Queue()
        ready = self.process.stdout.readline().split()
        assert ready[:1] == ["READY"], f"the stand-in did not start: {ready}"
        also = dict(zip(ready[2::2], ready[3::2]))
        self.port = int(ready[1].rsplit(":", 1)[1])
        self.tls_port = int(also["tls"].rsplit(":", 1)[1]) if "tls" in also else None
        self.rest = also.get("rest")
        self.http = also.get("http")
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def order(self, words: str):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def said(self, seconds: float = 15) -> dict:
        """The next line it says."""
        said = json.loads(self.lines.get(timeout=seconds))
        assert not (isinstance(said, dict) and "orders:" in str(said.get("error"))), said
        return said

    def ask(self, words: str) -> dict:
        self.order(words)
        return self.said()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Authority:
    """Vouches for clients."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self.certificate = self.sign(name, self.key.public_key(), authority=True)
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, public_key, authority=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        called = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        builder = (
            x509.CertificateBuilder().subject_name(called(name)).issuer_name(called(self.name)).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def client(self, kind: str):
        """Files of a new key and its certificate, and its serial number in hex."""
        key = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
        certificate = self.sign(f"asset-of-{kind}", key.public_key())
        key_file, certificate_file = (self.folder / f"{self.name}-{kind}.{end}" for end in ("key", "crt"))
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate_file, key_file, f"{certificate.serial_number:x}"
