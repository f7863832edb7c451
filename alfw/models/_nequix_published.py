"""Published Nequix checkpoints."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from nequix.calculator import NequixCalculator

from alfw.core.errors import DataError

TIMEOUT_S = 30.0


def download(name: str, target: Path) -> Path:
    """`target`, with the checkpoint of this name from Nequix's own address.

    Raises
    ------
    DataError
        There is none of this name, or it cannot be had from here.
    """
    urls = NequixCalculator.URLS
    if name not in urls:
        raise DataError(
            f"start_from: no file and no published checkpoint {name!r}; published: {', '.join(sorted(urls))}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".part{os.getpid()}")
    try:
        with urllib.request.urlopen(urls[name], timeout=TIMEOUT_S) as answer:
            part.write_bytes(answer.read())
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        raise DataError(
            f"start_from: {name} cannot be downloaded from {urls[name]} ({error}); copy the file here and give its path"
        ) from error
    os.replace(part, target)
    return target
