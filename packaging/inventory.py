"""Writes what is built into the program: sbom.cdx.json (CycloneDX 1.5) and licenses.txt.

usage, from the project's folder: inventory.py RUST-TARGET VERSION PROGRAM FOLDER
"""

import collections
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

TEXTS = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)
# C libraries that crates bring along: where their version stands.
BUNDLED = {
    "libsqlite3-sys": ("sqlite", "blessing", "sqlite3/sqlite3.h", r'#define SQLITE_VERSION\s+"([\d.]+)"', None),
    "zstd-sys": ("zstd", "BSD-3-Clause", "zstd/lib/zstd.h", r"#define ZSTD_VERSION_(?:MAJOR|MINOR|RELEASE)\s+(\d+)", "zstd/LICENSE"),
}


def cargo(*words):
    return subprocess.run(["cargo", *words, "--locked"], check=True, capture_output=True, text=True).stdout


def crates(target):
    """The crates whose code is in the program, by name and version; macros and build scripts are not."""
    tree = cargo("tree", "-p", "enos-edge", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "none", "--format", "{p}")
    wanted = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    known = {}
    for package in json.loads(cargo("metadata", "--format-version", "1"))["packages"]:
        known[package["name"], "v" + package["version"]] = package
    missing = wanted - known.keys()
    if missing or len(wanted) < 50:
        sys.exit(f"the list of crates is not whole: {len(wanted)} crates, unknown {missing}")
    return [known[key] for key in sorted(wanted)]


def bundled(package):
    """The C library in a crate, if there is one."""
    if package["name"] not in BUNDLED:
        return None
    name, licence, header, pattern, text = BUNDLED[package["name"]]
    folder = pathlib.Path(package["manifest_path"]).parent
    version = ".".join(re.findall(pattern, (folder / header).read_text(errors="replace"))[:3])
    if not version:
        sys.exit(f"{folder / header} does not say its version")
    return {"name": name, "version": version, "license": licence, "text": text and folder / text}


def checksums():
    with open("Cargo.lock", "rb") as file:
        return {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}


def component(name, version, licence, purl, checksum=None):
    entry = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licence:
        entry["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def sbom(packages, version, program):
    known = checksums()
    components = []
    for package in packages:
        name, number = package["name"], package["version"]
        if name == "enos-edge":
            continue
        components.append(component(name, number, package["license"], f"pkg:cargo/{name}@{number}", known.get((name, number))))
        if library := bundled(package):
            purl = f"pkg:generic/{library['name']}@{library['version']}"
            components.append(component(library["name"], library["version"], library["license"], purl))
    digest = hashlib.sha256(pathlib.Path(program).read_bytes()).hexdigest()
    made = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    whole = component("enos-edge", version, "Apache-2.0", f"pkg:generic/enos-edge@{version}", digest)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {"timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": whole | {"type": "application"}},
        "components": components,
    }


def texts(package):
    """Licence texts and notices that lie in the crate."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and TEXTS.match(path.name)]
    library = bundled(package)
    if library and library["text"]:
        files.append(library["text"])
    return [path.read_text(errors="replace").strip() for path in files]


def licences(packages):
    """Who wrote it and under which terms, then each text once with those it is of."""
    foreign = [package for package in packages if package["source"]]
    lines = ["What is built into enos-edge, which is itself under the Apache License 2.0, with the licences of each part.", ""]
    groups = collections.OrderedDict()
    for package in foreign:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name:42} {package['license'] or 'see its text below'}")
        if library := bundled(package):
            lines.append(f"{'  with ' + library['name'] + ' ' + library['version']:42} {library['license']}")
        for text in texts(package):
            groups.setdefault(" ".join(text.split()), (text, []))[1].append(name)
    for text, names in groups.values():
        lines += ["", "-" * 100, "of " + ", ".join(dict.fromkeys(names)), "", text]
    return "\n".join(lines) + "\n"


def main(target, version, program, folder):
    packages = crates(target)
    folder = pathlib.Path(folder)
    (folder / "sbom.cdx.json").write_text(json.dumps(sbom(packages, version, program), indent=1, ensure_ascii=False) + "\n")
    (folder / "licenses.txt").write_text(licences(packages))


main(*sys.argv[1:])
