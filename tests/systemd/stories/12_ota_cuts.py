"""The gateway is killed, and its power cut, at the steps of an update over the air: each round ends with a whole engine that
polls, and nothing lost. With --long at every moment of every step, both ways."""

from held import MOMENTS
from ota import Ota, all_engines
from rounds import Rounds

STEPS = ["offered", "downloading", "downloaded", "verified", "waiting", "preparing", "installing", "activating", "on_trial", "confirming"]
#: How it dies, where, and whether the engine that comes is a good one: of those that crash a round is over sooner.
SHORT = [
    ("kill", "downloading", "acting", "crash"), ("power", "installing", "noting", "crash"), ("kill", "activating", "noting", "crash"),
    ("power", "activating", "acting", "crash"), ("power", "confirming", "shown", "good"),
]


def story(stage):
    engines = all_engines()
    if stage.long:
        engines.engine("0.3.0")
    ota = Ota(stage, more="  allow_downgrade: true\n", disk_mb=1024)
    rounds = Rounds(stage, ota)
    for round in every() if stage.long else SHORT:
        rounds.one(*round)
    if stage.long:
        for count in range(8):
            rounds.later(("kill", "power")[count % 2], count * 0.7, ("good", "crash")[count // 2 % 2])
        for how, moment in ((how, moment) for how in ("kill", "power") for moment in MOMENTS):
            rounds.taken_back(how, moment)
    stage.fact(rounds.figures())
    ota.deaths()
    stage.nothing_lost(ota.site, beyond_bound=True)


def every():
    for step in STEPS:
        for moment in MOMENTS:
            for how in ("kill", "power"):
                # What a crash ends would never be confirmed; and a good engine is carried through cuts of its slot as well.
                good = step in ("on_trial", "confirming") or step in ("installing", "activating") and moment == "noting"
                yield how, step, moment, "good" if good else "crash"
