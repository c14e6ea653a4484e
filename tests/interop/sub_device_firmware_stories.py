"""Firmware of sub-devices by the file transfer of their protocol, to servers of others: pymodbus and asyncua."""
import hashlib
import http.server
import json
import pathlib
import random
import subprocess
import sys
import threading
import time

import pool
from site_files import GATEWAY, ROOT, Gateway, Peer, free_port, wait_until, write_site
from stand_in import StandIn

PYTHON = sys.executable
PEERS = ROOT / "tests/peers"

MODBUS = """name,number,value type,point type,coefficient,base value,alias
Major,0,ushort,pi,1,0,
Minor,1,ushort,pi,1,0,
Patch,2,ushort,pi,1,0,
Reads,3,ushort,pi,1,0,
Start,10,ushort,ao,1,0,
"""
OPCUA = """name,number,value type,point type,coefficient,base value,alias
Version,ns=2;s=Press.Version,string,ai,1,0,
Ticks,ns=2;s=Press.Ticks,int,ai,1,0,
Start,ns=2;s=Press.Start,int,ao,1,0,
"""


class Files:
    """The cloud's store of update files."""

    def __init__(self, folder: pathlib.Path):
        handler = lambda *words: http.server.SimpleHTTPRequestHandler(*words, directory=str(folder))
        http.server.SimpleHTTPRequestHandler.log_message = lambda *words: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def payload(version: str, size: int) -> bytes:
    head = f"FIRMWARE VERSION {version} ".encode()
    return head + random.Random(version).randbytes(size - len(head))


def update_file(folder: pathlib.Path, version: str, size: int, *more: str) -> pathlib.Path:
    (folder / "payload").write_bytes(payload(version, size))
    if not (folder / "key").exists():
        subprocess.run([GATEWAY, "package", "keygen", "-o", folder / "key"], check=True, capture_output=True)
    file = folder / f"fw-{version}.tar.gz"
    more = more or ("--template", "t")
    subprocess.run([GATEWAY, "update", "build", "--kind", "device", *more, "--version", version, "--binary",
                    folder / "payload", "--key", folder / "key", "-o", file], check=True, capture_output=True)
    return file


def write_firmware_site(folder: pathlib.Path, cloud, protocol: str, port, firmware: str):
    modbus = protocol != "opcua"
    link = f"cloud:\n  url: tcp://127.0.0.1:{cloud.port}\n  product_key: gw\n  device_key: gw1\n  device_secret: s\n"
    update = (f"update:\n  keys: [ {folder}/key.pub ]\n  hosts: [ 127.0.0.1 ]\n  cleartext: true\n"
              f"  conditions_dir: {folder}/none\n  firmware_dir: {folder}/none\n")
    where = {
        "modbus-tcp": f"  host: 127.0.0.1\n  port: {port}\n  timeout_ms: 500\n",
        "modbus-rtu": f"  serial_port: {port}\n  baud_rate: 115200\n  parity: none\n  timeout_ms: 500\n",
        "opcua": f"  endpoint: opc.tcp://127.0.0.1:{port}\n  timeout_ms: 1000\n",
    }[protocol]
    points = [("major", "int"), ("minor", "int"), ("patch", "int"), ("reads", "int"), ("start", "int")] if modbus else [
        ("version", "string"), ("ticks", "int"), ("start", "int")]
    mapping = ([(name, f"pi.{at}") for at, (name, _) in enumerate(points[:4])] + [("start", "", "ao.10")]) if modbus else [
        ("version", "ai.ns=2;s=Press.Version"), ("ticks", "ai.ns=2;s=Press.Ticks"), ("start", "", "ao.ns=2;s=Press.Start")]
    devices = [("meter", 1), ("neighbour", 2)] if modbus else [("meter", 1)]
    write_site(folder, f"name: line\nprotocol: {protocol}\nprotocol.sys:\n{where}  scan_period_ms: 100\n",
               MODBUS if modbus else OPCUA, devices, points, mapping, link + update)
    version = "[ major, minor, patch ]" if modbus else "version"
    (folder / "site/templates/t/template.yaml").write_text(
        f"model: M\nfirmware:\n  version: {version}\n  after: [ {{ set: start, value: 1 }} ]\n{firmware}")


class Site:
    """One device of somebody else's, the gateway, the stand-in cloud, and the store of files."""

    def __init__(self, folder, protocol="modbus-tcp", firmware="", peer=(), size=60_001):
        self.folder, self.protocol = folder, protocol
        self.script = "asyncua_files.py" if protocol == "opcua" else "pymodbus_files.py"
        self.cable, self.port = self._line() if protocol == "modbus-rtu" else (None, free_port())
        self.cloud = StandIn("--gateway", "gw/gw1/s", "--sub-device", "pk/meter/s-meter", "--sub-device",
                             "pk/neighbour/s-neighbour", "--accept-all", "--no-connect-limit")
        self.files = Files(folder)
        self.file = update_file(folder, "2.0.0", size)
        self.size = size
        write_firmware_site(folder, self.cloud, protocol, folder / "line" if self.cable else self.port, firmware)
        self.device = None
        self.plug(*peer)
        self.gateway = Gateway(folder)
        self.process = None

    def _line(self):
        """A serial cable between `line`, where the gateway is, and the device."""
        ends = [self.folder / "line", self.folder / "device"]
        cable = Peer("socat", *(f"pty,raw,echo=0,link={end}" for end in ends), ready=None)
        wait_until("the serial line is there", lambda: all(end.exists() for end in ends))
        return cable, ends[1]

    def plug(self, *flags):
        self.device = Peer(PYTHON, PEERS / self.script, self.port, self.folder, *flags)

    def things(self):
        return self.gateway, self.cloud, self.device

    def known(self):
        return self.cloud.ask("ota pk meter")

    def version(self):
        return self.known()["version"]

    def offer(self, file=None, version="2.0.0", device="meter"):
        """Offers and answers with the gateway's reply."""
        data = (file or self.file).read_bytes()
        self.cloud.order(f"upgrade pk {device} " + json.dumps({
            "version": version, "signMethod": "sha256", "sign": hashlib.sha256(data).hexdigest(),
            "fileUrl": f"http://127.0.0.1:{self.files.port}/{(file or self.file).name}", "fileSize": len(data)}))
        return self.cloud.said(30)

    def job(self) -> dict:
        try:
            return self.gateway.ask("update", "status").get("job") or {}
        except (subprocess.TimeoutExpired, json.JSONDecodeError):
            return {}

    def ended(self, seconds=60) -> dict:
        return wait_until("the job ends", lambda: (job := self.job()).get("end") and job, seconds)

    def steps(self):
        return [int(step) for step, _ in self.known()["progress"]]

    def started(self) -> bytes:
        return (self.folder / "started").read_bytes()

    def writes(self) -> int:
        counts = self.folder / "counts"
        return int(counts.read_text().split()[0]) if counts.exists() else 0

    def blocks(self):
        """Of 120 registers, and none goes over the end of a file of 10,000 records."""
        registers = -(-self.size // 2)
        files = [min(10_000, registers - at) for at in range(0, registers, 10_000)]
        return sum(-(-held // 120) for held in files)

    def is_whole(self):
        held = self.started()
        assert held[: self.size] == payload("2.0.0", self.size) and len(held) <= self.size + 1, len(held)

    def again(self):
        self.gateway.kill()
        for file in (self.folder / "state/identity").glob("*connects*"):
            file.unlink()
        self.gateway = Gateway(self.folder)


def told(site: Site, wanted=lambda site: site):
    """With everything ended afterwards, and what was said if it goes wrong."""
    try:
        wanted(site)
    finally:
        site.gateway.kill()
        site.cloud.kill()
        site.device.kill()
        if site.cable:
            site.cable.kill()


FILE = "  transfer: { file: 1 }\n  patience_s: 8\n"


def a_job_of_the_cloud_updates_a_pymodbus_device_while_its_neighbour_is_read_on(folder):
    def story(site):
        wait_until("the version that the device shows is told", lambda: site.version() == "1.0.0", 30)
        before = int((folder / "counts").read_text().split()[1])
        begun = time.monotonic()
        assert site.offer()["answer"]["code"] == 200
        again = site.offer()["answer"]
        assert again["code"] == 200, f"the same offer again is the same job: {again}"
        job = site.ended()
        assert (job["state"], job["target"], job["version"], job["replaces"]) == ("done", "device", "2.0.0", "1.0.0"), job
        took = time.monotonic() - begun
        polls = int((folder / "counts").read_text().split()[1]) - before
        site.is_whole()
        wait_until("the new version ends the cloud's job", lambda: site.version() == "2.0.0")
        steps = site.steps()
        assert steps == sorted(steps) and steps[-1] == 100, steps
        assert polls >= 0.7 * took * 10, f"{polls} scans of the neighbour in {took:.1f} s"
        # The same version once more: nothing is sent.
        writes = site.writes()
        site.cloud.order("ota pk meter"), site.cloud.said()
        assert site.offer()["answer"]["code"] == 200
        time.sleep(1)
        assert site.writes() == writes
        print(f"    {site.size} bytes in {writes} writes and {took:.1f} s, {polls} scans of the neighbour meanwhile; told {steps}")

    told(Site(folder, firmware=FILE, peer=("--burn", "5")), story)


def a_device_cut_in_the_middle_that_forgets_all_is_read_back_and_gets_what_it_lacks(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        assert site.offer()["answer"]["code"] == 200
        wait_until("it is half way", lambda: site.writes() > 100)
        site.device.kill()
        time.sleep(1.5)
        site.plug("--burn", "5")
        job = site.ended()
        assert job["state"] == "done", job
        site.is_whole()
        print(f"    {site.writes()} writes after the cut; the file has {site.blocks()} blocks")

    told(Site(folder, firmware=FILE, peer=("--burn", "5")), story)


def a_pymodbus_device_on_a_serial_line_is_updated_and_cut_in_the_middle(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version() == "1.0.0", 30)
        assert site.offer()["answer"]["code"] == 200
        wait_until("it is half way", lambda: site.writes() > 60, 40)
        site.device.kill()
        time.sleep(1.5)
        site.plug("--burn", "5")
        job = site.ended(90)
        assert (job["state"], job["replaces"]) == ("done", "1.0.0"), job
        site.is_whole()
        wait_until("the new version ends the cloud's job", lambda: site.version() == "2.0.0")
        print(f"    {site.size} bytes in RTU frames of at most 256 bytes; {site.writes()} writes after the cut, {site.blocks()} blocks")

    told(Site(folder, "modbus-rtu", FILE.replace("file: 1", "file: 1, block_registers: 100"), ("--burn", "5"), 30_001), story)


def a_device_cut_for_good_and_one_that_refuses_end_with_code_and_words(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        site.offer()
        wait_until("it is half way", lambda: site.writes() > 50)
        site.device.kill()
        job = site.ended()
        assert job["state"] == "failed" and "sub-device meter: no answer for 3 s" in job["why"], job
        wait_until("the cloud is told", lambda: site.steps()[-1] == -4)
        assert "no answer" in site.known()["progress"][-1][1]
        # Offered again while it is away: nothing was changed.
        site.offer()
        job = site.ended()
        assert job["state"] == "failed" and job["step"] == -1 and "no answer for 3 s" in job["why"], job
        site.plug("--refuse", "1", "1200", "3")
        site.gateway.ask("read", "meter")
        site.offer()
        job = site.ended()
        assert "write file 1 record 1200 (120 registers): modbus exception 3 (illegal data value)" in job["why"], job
        assert not (folder / "started").exists()
        wait_until("the cloud is told", lambda: "exception 3" in site.known()["progress"][-1][1])
        print(f"    told {[step for step in site.steps() if step < 0]}")

    told(Site(folder, firmware=FILE.replace("8", "3"), peer=("--burn", "5")), story)


def a_swallowed_block_is_found_by_reading_back_and_told_where_it_can_not_be(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        site.offer()
        assert site.ended()["state"] == "done"
        site.is_whole()
        assert site.writes() == site.blocks() + 1, "one block twice"

    told(Site(folder, firmware=FILE, peer=("--swallow", "40")), story)


def a_device_that_knows_no_reading_back_says_so_and_takes_the_file_without(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        site.offer()
        job = site.ended()
        assert job["state"] == "failed" and "`read_back: false` leaves that out" in job["why"], job
        template = folder / "site/templates/t/template.yaml"
        template.write_text(template.read_text().replace("file: 1", "file: 1, read_back: false, block_registers: 122"))
        installed = site.gateway.command("package", "install", folder / "site")
        assert installed.returncode == 0, installed
        wait_until("it is read again", lambda: site.gateway.ask("read", "meter"))
        site.offer()
        job = site.ended()
        assert job["state"] == "done", job
        site.is_whole()

    told(Site(folder, firmware=FILE, peer=("--no-read-back",)), story)


def a_device_that_never_shows_the_version_is_no_success(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        site.offer()
        job = site.ended()
        assert job["state"] == "rolled back" and "shows version 1.0.0, and not 2.0.0" in job["why"], job
        wait_until("the cloud is told", lambda: site.steps()[-1] == -1)
        assert site.version() == "1.0.0"

    told(Site(folder, firmware=FILE + "  version_within_s: 2\n", peer=("--dead-start",), size=5_000), story)


def a_gateway_killed_at_any_moment_brings_the_device_to_the_new_version(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        assert site.offer()["answer"]["code"] == 200
        seen = []
        for _ in range(8):
            time.sleep(random.uniform(0.6, 1.6))
            job = site.job()
            seen.append(job.get("state"))
            site.again()
        job = site.ended(90)
        assert job["state"] == "done", job
        site.is_whole()
        wait_until("the cloud has the version", lambda: site.version() == "2.0.0", 30)
        steps = site.steps()
        assert all(step > 0 for step in steps), steps
        history = site.gateway.ask("update", "history")
        print(f"    killed in {seen}; {site.writes()} writes of {site.blocks()} blocks, {len(history)} in the history")

    random.seed(21)
    told(Site(folder, firmware=FILE, peer=("--burn", "15")), story)


def an_update_that_waits_to_be_asked_for_is_asked_for_when_the_device_shows_its_version(folder):
    def story(site):
        site.gateway.kill()
        data = site.file.read_bytes()
        site.cloud.order("offer pk meter " + json.dumps({
            "version": "2.0.0", "signMethod": "md5", "sign": hashlib.md5(data).hexdigest(),
            "fileUrl": f"http://127.0.0.1:{site.files.port}/{site.file.name}", "fileSize": len(data)}))
        config = folder / "edge.yaml"
        config.write_text(config.read_text() + "  pull: start\n")
        site.again()
        wait_until("it asked and was updated", lambda: site.version() == "2.0.0", 90)
        site.is_whole()

    told(Site(folder, firmware=FILE, size=5_000), story)


def a_file_for_another_make_device_or_by_a_stranger_is_refused(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        last = lambda: site.known()["progress"][-1]
        for version, more, code, words in (
            ("2.0.1", ("--template", "inverter"), -5, "for devices of template inverter, and meter is a t"),
            ("2.0.2", ("--template", "t", "--device", "neighbour"), -5, "firmware of device neighbour"),
            ("0.9.0", ("--template", "t"), -5, "older than 1.0.0"),
        ):
            site.offer(update_file(folder, version, 5_000, *more), version)
            job = site.ended()
            assert words in job["why"] and job["step"] == code, job
            wait_until("the cloud is told", lambda: words in last()[1])
        (folder / "key").rename(folder / "own"), (folder / "key.pub").rename(folder / "own.pub")
        file = update_file(folder, "2.0.3", 5_000)
        site.offer(file, "2.0.3")
        job = site.ended()
        assert job["step"] == -3 and "not trusted here" in job["why"], job
        # By hand: nobody said which device, then one that is not there, then the right one.
        (folder / "own").rename(folder / "key"), (folder / "own.pub").rename(folder / "key.pub")
        file = update_file(folder, "2.0.0", site.size)
        done = site.gateway.command("update", "install", file, "--now")
        assert done.returncode == 1 and "name one with --device" in done.stdout + done.stderr, done
        done = site.gateway.command("update", "install", file, "--now", "--device", "nobody")
        assert done.returncode != 0 and "no sub-device" in done.stderr, done
        done = site.gateway.command("update", "install", file, "--now", "--device", "meter")
        assert done.returncode == 0, done
        site.is_whole()
        wait_until("the cloud has the version", lambda: site.version() == "2.0.0", 40)
        back = site.gateway.command("update", "roll-back")
        assert back.returncode != 0 and "not taken back" in back.stderr, back

    told(Site(folder, firmware=FILE, size=5_000), story)


UA_FILE = "  transfer: { file: \"ns=2;s=Press.Firmware\", read_back: true, chunk_bytes: 4000 }\n  patience_s: 12\n"


def a_job_of_the_cloud_updates_an_asyncua_device(folder):
    def story(site):
        wait_until("the version that the device shows is told", lambda: site.version() == "1.0.0", 30)
        assert site.offer()["answer"]["code"] == 200
        job = site.ended()
        assert (job["state"], job["replaces"]) == ("done", "1.0.0"), job
        site.is_whole()
        assert site.writes() == -(-site.size // 1000), "the server's limit is kept"
        wait_until("the new version ends the cloud's job", lambda: site.version() == "2.0.0")
        assert site.steps()[-1] == 100

    told(Site(folder, "opcua", UA_FILE, ("--most", "1000", "--locked", "2")), story)


def an_asyncua_device_cut_in_the_middle_gets_the_file_anew(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        site.offer()
        wait_until("it is half way", lambda: site.writes() > 200, 40)
        site.device.kill()
        time.sleep(1.5)
        site.plug("--most", "200")
        job = site.ended(90)
        assert job["state"] == "done", job
        site.is_whole()

    told(Site(folder, "opcua", UA_FILE, ("--most", "200")), story)


def an_asyncua_device_that_swallows_or_refuses_a_piece_is_told(folder):
    def story(site):
        wait_until("the version is told", lambda: site.version(), 30)
        site.offer()
        job = site.ended()
        assert job["state"] == "failed" and job["step"] == -4, job
        assert "the file that the server holds is another one from byte 16000 on" in job["why"], job
        site.device.kill()
        site.plug("--refuse", "3", "BadNotWritable")
        wait_until("it is read again", lambda: site.gateway.ask("read", "meter"))
        site.offer()
        job = site.ended()
        assert job["step"] == -4 and "write to the file: BadNotWritable" in job["why"], job
        assert not (folder / "started").exists()

    told(Site(folder, "opcua", UA_FILE, ("--swallow", "5")), story)


STORIES = [value for name, value in list(globals().items())
           if callable(value) and name.startswith(("a_", "an_")) and name.count("_") > 4]

if __name__ == "__main__":
    sys.exit(pool.main(__file__, "sub-device-firmware", STORIES))
