"""ASE calculators as users may have them: EMT that fails for some frames, or takes its time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.emt import EMT


class Moody(EMT):
    """Fails for a share of all frames, always for the same ones.

    Parameters
    ----------
    share : float
        Share of the frames that fail.
    message : str
        What it says then.
    """

    def __init__(self, share: float, message: str, **kwargs: Any) -> None:
        super().__init__(asap_cutoff=False, **kwargs)
        self.share, self.message = share, message

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        number = int(np.abs(self.atoms.positions * 1e6).round().sum()) % 1000
        if number < 1000 * self.share:
            raise RuntimeError(self.message)


class Slow(EMT):
    """Takes `seconds` for each frame."""

    def __init__(self, seconds: float) -> None:
        super().__init__(asap_cutoff=False)
        self.seconds = seconds

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(self.seconds)
        super().calculate(*args, **kwargs)


class Stopped(EMT):
    """Its user presses Ctrl-C as long as `file` exists."""

    def __init__(self, file: str) -> None:
        super().__init__(asap_cutoff=False)
        self.file = Path(file)

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        if self.file.exists():
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)
