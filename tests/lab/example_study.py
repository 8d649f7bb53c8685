"""Longer walks go further: a small study for the tests of the engine.

Its trial waits, fails or dies as its settings say.
"""

import os
import signal
import time
from dataclasses import dataclass

import torch

from neurarium.lab import Claim, Curve, Paper, Run, Study, difference


@dataclass(frozen=True)
class Settings:
    step: float = 1.0
    count: int = 5
    wait: float = 0.0
    fail: str = "never"


def trial(settings: Settings, run: Run) -> dict[str, float]:
    x = torch.randn(64, 64)
    for i in run.track(range(settings.count), "steps"):
        time.sleep(settings.wait)
        x = torch.tanh(x @ torch.randn(64, 64) / 8)
        run.record(step=i, size=x.norm())
    if settings.fail == "raise":
        raise RuntimeError("this trial was told to fail")
    if settings.fail == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"distance": settings.step * float(x.norm())}


STUDY = Study(
    paper=Paper("A walk", "Nobody", 2020),
    trial=trial,
    arms={"short": Settings(), "long": Settings(step=2.0)},
    scales={"smoke": {"count": 2}},
    claims=[Claim("longer steps go further", "Fig. 1", difference("distance", "long", "short") > 1.0)],
    figures=[Curve(title="Size by step", x="step", y="size")],
)
