"""Settings that make no sense or come from someone else: flags, losses, model tables, arms, augmentations, checkpoints, variables.

Each must be refused by a `UserError` that names the reason, within the time and memory of `tests.faults.hostile`, or do no harm.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tests.faults.hostile import Attack, try_attack, warm_up
from tests.faults.settings_checkpoints import checkpoints
from tests.faults.settings_environment import environments
from tests.faults.settings_flags import arms, flags, losses
from tests.faults.settings_models import models, pretrained
from tests.faults.settings_users import augmentations, hub
from tests.faults.tally import Tally
from utils.log import LOG


def attacks(folder: Path) -> Iterator[Attack]:
    """Lay out every attack below `folder`."""
    for kind in (losses, flags, arms, models, pretrained, augmentations, hub, checkpoints, environments):
        place = folder / kind.__name__
        place.mkdir()
        for entry in kind(place):
            yield Attack(*entry)


def run(folder: Path, *, short: bool) -> Tally:
    """Try every attack, or every tenth."""
    tally = Tally("settings")
    LOG.addHandler(logging.NullHandler())  # in place of the one for standard output, which has the counts
    os.chdir(folder)
    warm_up(folder)
    for number, attack in enumerate(attacks(folder)):
        if short and number % 10:
            continue
        tally.fault(*try_attack(attack))
    return tally
