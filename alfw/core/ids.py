"""Content ids and seeds: SHA-256 of canonical bytes, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_bytes(value: Any) -> bytes:
    """Bytes of an array or of plain JSON data, equal exactly when the content is equal.

    Arrays: dtype family, shape, then little-endian 64-bit values in C order, with −0 written as 0.
    Everything else: JSON with sorted keys and no white space.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            data = np.ascontiguousarray(value, dtype="<f8") + 0.0  # −0.0 + 0.0 = 0.0
        elif value.dtype.kind in "iub":
            data = np.ascontiguousarray(value, dtype="<i8")
        else:
            raise TypeError(f"no canonical bytes for arrays of dtype {value.dtype}")
        return f"{data.dtype.str}{value.shape}".encode() + data.tobytes()
    return ENCODER.encode(value).encode()


def content_id(kind: str, fields: Mapping[str, Any]) -> str:
    """SHA-256 (64 hex digits) of named content; `kind` keeps records of different kinds apart."""
    digest = hashlib.sha256(kind.encode())
    for name in sorted(fields):
        data = canonical_bytes(fields[name])
        digest.update(f"\n{name}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """SHA-256 (64 hex digits) of bytes."""
    return hashlib.sha256(data).hexdigest()


def derive_seed(*parts: int | str) -> int:
    """Seed in [0, 2^31) derived from (campaign seed, round, stage, part …); there is no global generator."""
    return int.from_bytes(hashlib.sha256(canonical_bytes(list(parts))).digest()[:4], "big") >> 1
