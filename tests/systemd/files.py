"""Gives out update files over HTTP and HTTPS, with Range as real servers have it, and as slowly as a story wants."""

import http.server
import pathlib
import ssl
import subprocess
import threading
import time

BLOCK = 64 << 10
# An end entity: what openssl makes unasked is an authority.
CERTIFICATE = """[req]
prompt = no
distinguished_name = name
x509_extensions = server
[name]
CN = files
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
"""


class Files:
    def __init__(self, folder):
        """`folder` takes the server's certificate and key."""
        folder.mkdir(exist_ok=True)
        self.shared, self.pace, self.asked = {}, None, []
        self.authority = folder / "files.pem"
        (folder / "files.cnf").write_text(CERTIFICATE)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
             folder / "files.key", "-out", self.authority, "-config", folder / "files.cnf"],
            check=True, capture_output=True,
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.authority, folder / "files.key")
        self.plain, self.secure = self._listen(None), self._listen(tls)

    def _listen(self, tls):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.files = True, self
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def share(self, path: pathlib.Path, secure=False):
        """Its address. Nothing else of the folder is given out."""
        self.shared[path.name] = path
        server = self.secure if secure else self.plain
        return f"{'https' if secure else 'http'}://127.0.0.1:{server.server_address[1]}/{path.name}"

    def close(self):
        for server in (self.plain, self.secure):
            server.shutdown()
            server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        files = self.server.files
        path = files.shared.get(self.path.lstrip("/"))
        if path is None:
            return self.send_error(404)
        data, tag = path.read_bytes(), f'"{path.stat().st_mtime_ns:x}"'
        begin, wanted = 0, self.headers.get("Range", "")
        if wanted.startswith("bytes=") and self.headers.get("If-Range", tag) == tag:
            begin = int(wanted[6:].split("-")[0])
        files.asked.append((path.name, begin))
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("ETag", tag)
        self.end_headers()
        try:
            for at in range(begin, len(data), BLOCK):
                self.wfile.write(data[at:at + BLOCK])
                if files.pace:
                    time.sleep(BLOCK / files.pace)
        except OSError:
            # Whoever hangs up, as a killed gateway does, asks again.
            self.close_connection = True
