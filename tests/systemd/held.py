"""Holds the gateway still at a moment of an update that is chosen before: whoever opens a file of the state folder is let in
only when this says so (fanotify(7), permission events). No luck is needed to meet a step that takes a millisecond."""

import contextlib
import ctypes
import os
import queue
import select
import struct
import threading

CLASS_CONTENT, CLOSE_ON_EXEC = 0x4, 0x1
MARK_ADD, MARK_FILESYSTEM, AT_CWD = 0x1, 0x100, -100
CLOSE_NOWRITE, OPEN_PERM, ON_FOLDERS = 0x10, 0x10000, 0x40000000
# struct fanotify_event_metadata and struct fanotify_response.
EVENT, ANSWER, ALLOW = struct.Struct("=IBBHQii"), struct.Struct("=iI"), 1
FOLDERS = ("/update", "/engines")
#: When the state is in its place and may not be durable yet; when it is, and is acted on; when what came of it is written down.
MOMENTS = ("shown", "acting", "noting")
libc = ctypes.CDLL(None, use_errno=True)


def called(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "fanotify: " + os.strerror(ctypes.get_errno()))
    return answer


class Held:
    """`reached` is set when the gateway stands at that moment of a job in this state; from then on it opens nothing."""

    def __init__(self, root, job, old, step, moment):
        """`job` reads the job as it lies on disk; the one with the id `old` is of no interest."""
        self.job, self.old, self.step, self.moment = job, old, step, moment
        self.reached, self.kept, self.shown, self.durable = threading.Event(), [], False, False
        self.group = called(libc.fanotify_init(CLASS_CONTENT | CLOSE_ON_EXEC, os.O_RDONLY | os.O_LARGEFILE | os.O_NONBLOCK))
        mask = ctypes.c_uint64(OPEN_PERM | CLOSE_NOWRITE | ON_FOLDERS)
        called(libc.fanotify_mark(self.group, MARK_ADD | MARK_FILESYSTEM, mask, AT_CWD, os.fsencode(root)))
        self.events, (self.end, self.ending) = queue.SimpleQueue(), os.pipe()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._decide)]
        for thread in self.threads:
            thread.start()

    def release(self):
        """Whoever still lives goes on; nothing is held any more."""
        if self.group is None:
            return
        os.close(self.ending)
        for thread in self.threads:
            thread.join()
        # The group lets in whoever waits.
        os.close(self.group)
        for handle in self.kept + [self.end]:
            os.close(handle)
        self.group = None

    def _read(self):
        """What we open ourselves has to come through while the other thread thinks."""
        while self.group in select.select([self.group, self.end], [], [])[0]:
            packed = os.read(self.group, 1 << 16)
            while packed:
                length, _, _, _, mask, handle, pid = EVENT.unpack_from(packed)
                packed = packed[length:]
                if handle < 0:
                    continue
                if pid == os.getpid():
                    self._let_in(mask, handle)
                else:
                    self.events.put((mask, handle, pid))
        self.events.put(None)

    def _let_in(self, mask, handle):
        if mask & OPEN_PERM:
            os.write(self.group, ANSWER.pack(handle, ALLOW))
        os.close(handle)

    def _decide(self):
        while event := self.events.get():
            mask, handle, pid = event
            path = os.readlink(f"/proc/self/fd/{handle}")
            if self._of_the_gateway(path, pid) and self._holds(mask & OPEN_PERM, path):
                self.kept.append(handle)
                self.reached.set()
            else:
                self._let_in(mask, handle)

    def _of_the_gateway(self, path, pid):
        if not any(folder in path for folder in FOLDERS):
            return False
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)").endswith("/enos-edge")
        return False

    def _holds(self, opens, path):
        """A state is renamed into its place, then its folder is opened, made durable and closed: the seam of the disk."""
        if self.reached.is_set():
            return bool(opens)
        job = self.job()
        if job.get("id") in (None, self.old) or job["state"] != self.step:
            self.shown = self.durable = False
            return False
        of_folder = path.endswith("/update")
        now = (self.moment == "acting" and self.durable) or (self.moment == "noting" and path.endswith("/job.json.tmp"))
        if opens and (now or self.moment == "shown" and of_folder):
            return True
        self.shown |= of_folder and bool(opens)
        self.durable |= self.shown and of_folder and not opens
        return False
