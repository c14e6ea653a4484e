"""Packages fetched from servers nobody here wrote: nginx, vsftpd, pyftpdlib, OpenSSH. Run with this file, or its names."""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import time

import pool
from fetching import SIZE, Daemon, configure, fetch, good_package, nginx_plain, package, served, told
from file_servers import Cable, Server, authority, fingerprint, nginx, program, pyftpdlib, sshd, standing, vsftpd
from publish_stories import (
    the_cloud_publishes_and_is_told_each_step_of_it,
    the_result_of_a_publish_outlives_a_dead_link_and_a_dead_gateway,
)
from site_files import GATEWAY, free_port, wait_until

#: Who fails in the middle: the connection, the whole server, or whoever fetches.
ENDS = ("connection", "server", "fetch")
CUTS = 2 * len(ENDS)
#: The gateway itself is killed so often while it fetches.
KILLS = 2
SERVERS = ("nginx", "vsftpd", "sshd", "ssh-keygen", "sftp", "openssl", "curl")


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
