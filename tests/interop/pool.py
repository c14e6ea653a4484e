"""Runs stories a few at a time, each in a process and a folder of its own; what one says stays together."""
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

#: Most of them wait for time to pass. More at once would make peers slow and their deadlines untrue.
AT_ONCE = 3
#: A story has deadlines of its own; this one is for a story that forgot.
LONGEST = 420
ALONE = "--alone"


def alone(story, prefix: str) -> bool:
    """Tells one story in this process."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"enos-{prefix}-"))
    begun = time.monotonic()
    try:
        story(folder)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        log = folder / "gateway.log"
        if log.exists():
            print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        print(f"FAILED  {story.__name__} ({time.monotonic() - begun:.1f} s); its files: {folder}", flush=True)
        return False
    print(f"ok      {story.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def in_a_process(script: str, story) -> bool:
    command = [sys.executable, script, ALONE, story.__name__]
    # A file, not a pipe: a peer left over would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            passed = process.wait(LONGEST) == 0
        except subprocess.TimeoutExpired:
            passed = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if f" {story.__name__}" not in said:
        said, passed = f"{said}FAILED  {story.__name__}: it ended without a word or after {LONGEST} s\n", False
    print(said, end="", flush=True)
    return passed


def main(script: str, prefix: str, stories: list) -> int:
    words = sys.argv[1:]
    if words[:1] == [ALONE]:
        [story] = [story for story in stories if story.__name__ == words[1]]
        return 0 if alone(story, prefix) else 1
    names = [story.__name__ for story in stories]
    assert len(set(names)) == len(names), "two stories of one name"
    chosen = [story for story in stories if not words or any(word in story.__name__ for word in words)]
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        passed = sum(pool.map(lambda story: in_a_process(script, story), chosen))
    took = time.monotonic() - begun
    print(f"{prefix}: {passed} passed, {len(chosen) - passed} failed ({took:.0f} s)", flush=True)
    return 1 if passed < len(chosen) or not chosen else 0
