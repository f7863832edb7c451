"""Launches one rocket (FW_ID 0: reconciles instead) and kills its own process (SIGKILL) at a chosen call.

killer.py LAUNCHPAD_FILE FW_ID MODULE:ATTRIBUTE before|after [WITHIN]
"""

from __future__ import annotations

import os
import signal
import sys
from functools import wraps
from importlib import import_module
from typing import Any


def arm(point: str, when: str, within: str) -> None:
    """Replace a function by one that ends the process before or after the original has done its work."""
    module, _, path = point.partition(":")
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    @wraps(original)
    def deadly(*args: Any, **kwargs: Any) -> Any:
        here = not within or _running(within)
        if here and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(*args, **kwargs)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, deadly)


def _running(function: str) -> bool:
    """Whether a function of this name is among the callers."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


def main() -> None:
    """Arm, then launch or reconcile."""
    from fireworks import FWorker, LaunchPad
    from fireworks.core.rocket_launcher import launch_rocket

    import alfw.firetasks  # noqa: F401  (what the point is in)
    from alfw.store import Store
    from alfw.workflow.reconcile import reconcile

    file, fw_id, point, when, within = sys.argv[1:6]
    launchpad = LaunchPad.from_file(file)
    arm(point, when, within)
    if int(fw_id):
        launch_rocket(launchpad, FWorker(), fw_id=int(fw_id))
    else:
        reconcile(launchpad, Store.from_launchpad(launchpad), expiration_s=0.0, lock_s=0.0, grace_s=0.0)


if __name__ == "__main__":
    main()
