from __future__ import annotations

import numpy as np
import pytest

from alfw.core.errors import StoreError
from alfw.core.frame import Frame
from alfw.core.records import Label, Run, Theory


def water(x: float = 0.0) -> Frame:
    return Frame(numbers=[8, 1, 1], positions=[[x, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def test_smoke(store, launchpad):
    [fid] = store.put_frames([water()])
    assert store.get_frames([fid])[0].id == fid
    th = Theory("x", {"a": 1})
    lid = store.put_label(fid, th, Label(-1.0, np.zeros((3, 3))))
    assert store.get_labels([fid], th.id)[fid][0] == lid
    assert store.labelled([fid, "no"], th.id) == {fid}
    c = store.claim(fid, th.id, "e.1")
    assert c.acquired and c.tries == 1
    assert not store.claim(fid, th.id, "e.1").acquired
    store.release([c])
    assert store.claim(fid, th.id, "e.1").tries == 2
