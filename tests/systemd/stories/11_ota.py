"""Updates over the air in the sandbox of the unit: a good engine stays, and of those that crash, hang, lie, are corrupt, unsigned, of
a stranger or older each ends with the engine before, the right code at the cloud, and nothing lost."""

from engines import Unsigned
from ota import Ota, all_engines

# Every limit of the watchdog is this time.
LIMIT = 8


def story(stage):
    engines = all_engines()
    good, crash, deaf, lie = (engines.engine(*words) for words in
                              [("0.2.0",), ("0.3.0", "crash"), ("0.3.1", "deaf"), ("0.3.2", "lie")])
    older, stranger, tiny = engines.tiny("0.0.9"), engines.tiny("0.4.0", "stranger"), engines.tiny("0.4.1")
    if stage.long:
        # Room for a few engines, and for none that takes all of it.
        ota = Ota(stage, drop_in=f"WatchdogSec={LIMIT}\n", disk_mb=900, reserve_mb=200)
    else:
        ota = Ota(stage, drop_in=f"WatchdogSec={LIMIT}\n")
    sequence = ota.sequence()

    steps, took = ota.takes(good, secure=True)
    stage.claim("every part of the way is told", all(any(low <= step <= high for step in steps) for low, high in
                [(1, 39), (40, 52), (53, 59), (60, 84), (85, 94)]), steps)
    stage.claim("it runs out of its slot", ota.running() == ("a", "0.2.0"), ota.running())
    after = ota.sequence()
    stage.claim("numbers of batches go on", after >= sequence > 0, (sequence, after))
    stage.fact(f"good in {took:.0f} s, told {steps}")

    ended = {
        "crash": ota.refuses(crash, -1, "engine 0.3.0 ended by itself 2 times"),
        "hang": ota.refuses(deaf, -1, "engine 0.3.1 hangs"),
        "lie": ota.refuses(lie, -1, "it says it is 0.1.1"),
        "corrupt": ota.refuses(tiny, -3, "digest", sign="0" * 32),
        "unsigned": ota.refuses(Unsigned(tiny), -3, "is not signed"),
        "stranger": ota.refuses(stranger, -3, "not trusted here"),
        "older": ota.refuses(older, -5, "older"),
    }
    if stage.long:
        for kind, why in (("hang", "was not ready within 30 s"), ("mute", "not proven itself"), ("fill", "bytes on the disk, fewer than")):
            ended[f"{kind} ({why})"] = ota.refuses(engines.engine("0.3.3", kind), -1, why, within=150)
    stage.claim("the good one runs on", ota.running() == ("a", "0.2.0"), ota.running())
    events = ota.events()
    stage.claim("the cloud hears of engines", len(events) >= 4, events)
    stage.claim("numbers of batches go on", ota.sequence() >= after)
    stage.fact("back after " + ", ".join(f"{kind} {took:.0f} s" for kind, took in ended.items()))
    stage.fact(f"{stage.guest.show('NRestarts')} restarts")
    stage.nothing_lost(ota.site)
