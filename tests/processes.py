"""Processes that tests start, and that have to end."""

from __future__ import annotations

import os
import time

import pytest


def assert_ends(pid: int) -> None:
    """Fail where the process is still there after ten seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")
