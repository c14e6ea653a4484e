"""Runs the stories of stories/: each a file with `story(stage)`, on a guest of its own. With
`--shipped` those of shipped/, on the package that ENOS_EDGE_SHIPPED names. Usage: stories.py ROOT [--shipped] [--long] [NAME ...]"""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from guest import Failed, Guest  # noqa: E402
from stage import Stage  # noqa: E402


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tell(root, path, work, long):
    """One story; True when it ended well."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=path.stem + "-", dir=work))
    stage = Stage(root, folder, long)
    begun = time.monotonic()
    try:
        load(path).story(stage)
        sound = True
    except (Failed, AssertionError, OSError, subprocess.SubprocessError, KeyError, ValueError):
        sound = False
        traceback.print_exc()
        stage.last_words()
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)
    facts = "".join(f", {fact}" for fact in stage.facts)
    print(f"{'ok    ' if sound else 'FAILED'} {path.stem}: {stage.checks} checks, {time.monotonic() - begun:.1f} s{facts}", flush=True)
    return sound, stage.checks


def main():
    root, wanted = pathlib.Path(sys.argv[1]), [word for word in sys.argv[2:] if word != "--long"]
    kind = "stories"
    if "--shipped" in wanted:
        wanted.remove("--shipped")
        kind = "shipped"
    stories = sorted((HERE / kind).glob("*.py"))
    if wanted:
        stories = [path for path in stories if any(word in path.stem for word in wanted)]
        assert stories, f"no story is called {wanted}"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    pathlib.Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/systemd/nspawn"], check=True)
    work = root.with_name(f"{kind}-of-{root.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    begun = time.monotonic()
    ended = [tell(root, path, work, "--long" in sys.argv) for path in stories]
    good = sum(sound for sound, _ in ended)
    print(f"{good} of {len(ended)} stories, {sum(checks for _, checks in ended)} checks, {time.monotonic() - begun:.0f} s")
    return 0 if good == len(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
