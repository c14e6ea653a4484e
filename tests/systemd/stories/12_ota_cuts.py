"""The gateway is killed, and its power cut, at the steps of an update over the air: each round ends with a whole engine that
polls, and nothing lost. With --long at every step, both ways."""

from ota import Ota, all_engines
from rounds import Rounds

STEPS = ["offered", "downloading", "downloaded", "verified", "waiting", "preparing", "installing", "activating", "on_trial", "confirming"]
#: How it dies, where, and whether the engine that comes is a good one: of those that crash a round is over sooner.
SHORT = [("kill", "downloading", "crash"), ("power", "installing", "crash"), ("kill", "activating", "crash"), ("power", "on_trial", "good")]
# An end that is missed is tried so often again.
AGAIN = 2


def story(stage):
    engines = all_engines()
    if stage.long:
        engines.engine("0.3.0")
    ota = Ota(stage, more="  allow_downgrade: true\n", disk_mb=1024)
    rounds = Rounds(stage, ota)
    for how, step, kind in SHORT if not stage.long else every():
        for _ in range(AGAIN if stage.long else 1):
            if rounds.one(how, step, kind) == step:
                break
    if stage.long:
        for delay in range(8):
            rounds.one(("kill", "power")[delay % 2], "on_trial", ("good", "crash")[delay // 2 % 2], delay * 0.7)
        for how in ("kill", "power"):
            rounds.taken_back(how)
    stage.fact(rounds.figures())
    ota.deaths()
    stage.nothing_lost(ota.site, beyond_bound=True)


def every():
    for step in STEPS:
        for how in ("kill", "power"):
            yield how, step, "good" if step in ("on_trial", "confirming") else "crash"
            if step in ("installing", "activating"):
                yield how, step, "good"
