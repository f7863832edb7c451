"""Labelled frames as stacked arrays: a training set travels in a few shards, and is read in one go.

A hundred thousand Frames and Labels are a hundred thousand documents and Python objects; stacked they are a dozen
arrays. `Stacked` is a sequence of Labeled all the same: an item is made when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray

from alfw.core.errors import DataError
from alfw.core.frame import Float, Int
from alfw.core.records import Label, Labeled
from alfw.io.shards import OF_FRAMES, OF_THEIR_ATOMS, RESERVED, Columns, columns, frame_at, pack

# What a label may lack; its rows are NaN then, and the array is missing where no label has one.
OPTIONAL = {"stress": (3, 3), "dipole": (3,)}
GRID = ("esp", "esp_points", "n_grid")  # potentials, padded to the longest grid

# What only some frames or labels have, so that parts differ in it.
RARE = frozenset((*GRID, "frame_fixed", "frame_moments", "frame_masses"))
KNOWN = frozenset(
    (*GRID, *OPTIONAL, "energy", "atoms_forces", "atoms_charges", "frame_offsets")
    + tuple(RESERVED + name for name in (*OF_FRAMES, *OF_THEIR_ATOMS))
)


class Padded(NamedTuple):
    """M frames, padded to A atoms, as a device wants them.

    Attributes
    ----------
    numbers : (M, A) int32
        0 for padding.
    positions : (M, A, 3) float32, Å
        About the mean of the frame's atoms, so that float32 has digits left far from the origin.
    cell : (M, 3, 3) float32, Å
    energy : (M,) float64, eV
        In float64: E0 are yet to be subtracted.
    forces : (M, A, 3) float32, eV/Å
    mask : (M, A) bool
        True for real atoms.
    free : (M, A) bool
        True for atoms that may move.
    """

    numbers: NDArray[np.int32]
    positions: NDArray[np.float32]
    cell: NDArray[np.float32]
    energy: Float
    forces: NDArray[np.float32]
    mask: NDArray[np.bool_]
    free: NDArray[np.bool_]


class Stacked(Sequence[Labeled]):
    """M labelled frames in arrays.

    Parameters
    ----------
    arrays : mapping
        `columns` of a shard with energy (M,) eV, atoms_forces (Σn, 3) eV/Å, and where there are any stress, dipole,
        atoms_charges, esp, esp_points and n_grid as in `Label`.

    Raises
    ------
    DataError
        Energies or forces are missing, or arrays do not fit together.
    """

    def __init__(self, arrays: Columns) -> None:
        self.arrays = arrays
        missing = [name for name in ("energy", "atoms_forces") if name not in arrays]
        if missing:
            raise DataError(f"stacked labels without {' and '.join(missing)}: not a training set")
        self.offsets: Int = np.asarray(arrays["frame_offsets"], np.int64)
        if len(arrays["energy"]) != len(self) or len(arrays["atoms_forces"]) != self.offsets[-1]:
            raise DataError("stacked labels and frames are not equally many: damaged")
        self._made: dict[int, Labeled] = {}  # items that somebody has asked for

    @classmethod
    def of(cls, items: Sequence[Labeled]) -> Self:
        """The labelled frames, stacked."""
        return cls(columns(stack(items)))

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The labelled frames of a shard that `stack` made; DataError where it is none."""
        return cls(columns(data))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Labeled: ...
    @overload
    def __getitem__(self, index: slice) -> Stacked: ...
    def __getitem__(self, index: int | slice) -> Labeled | Stacked:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]
        if row not in self._made:
            self._made[row] = Labeled(frame_at(self.arrays, row), self._label(row))
        return self._made[row]

    def _label(self, row: int) -> Label:
        atoms = slice(*self.offsets[row : row + 2])
        charges = (
            self.arrays["atoms_charges"][atoms] if "atoms_charges" in self.arrays else np.array([np.nan])
        )
        n = int(self.arrays["n_grid"][row]) if "n_grid" in self.arrays else 0
        return Label(
            energy=float(self.arrays["energy"][row]),
            forces=self.arrays["atoms_forces"][atoms],
            charges=None if np.isnan(charges).all() else charges,
            esp=self.arrays["esp"][row, :n] if n else None,
            esp_points=self.arrays["esp_points"][row, :n] if n else None,
            stress=self._present("stress", row),
            dipole=self._present("dipole", row),
        )

    def _present(self, name: str, row: int) -> Float | None:
        """An optional array of a label; None where it has none."""
        if name not in self.arrays or np.isnan(self.arrays[name][row]).all():
            return None
        return np.asarray(self.arrays[name][row])

    def take(self, rows: NDArray[np.int64]) -> Stacked:
        """These rows, in this order."""
        sizes = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        atoms = np.repeat(self.offsets[rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
        taken = {
            name: array[atoms if _per_atom(name) else rows]
            for name, array in self.arrays.items()
            if name != "frame_offsets"
        }
        return Stacked({"frame_offsets": offsets, **taken})

    @property
    def sizes(self) -> Int:
        """(M,) int64: atoms of each frame."""
        return np.diff(self.offsets)

    @property
    def finite(self) -> bool:
        """Whether all energies, forces and potentials are finite, and what a label has of optional arrays."""
        whole = all(np.isfinite(self.arrays[name]).all() for name in ("energy", "atoms_forces"))
        optional = [name for name in (*OPTIONAL, "esp") if name in self.arrays]
        # a label that lacks one has NaN throughout, which is no fault
        return whole and all(
            (np.isfinite(rows).all(1) | np.isnan(rows).all(1)).all()
            for rows in (self.arrays[name].reshape(len(self), -1) for name in optional)
        )

    def padded(self) -> Padded:
        """All frames as arrays for a device."""
        sizes, numbers = self.sizes, self.arrays["frame_numbers"]
        mask = np.arange(int(sizes.max(initial=0))) < sizes[:, None]
        positions = self.arrays["frame_positions"]
        centres = np.add.reduceat(positions, self.offsets[:-1]) / sizes[:, None]
        local = (positions - np.repeat(centres, sizes, axis=0)).astype(np.float32)
        fixed = self.arrays.get("frame_fixed")
        return Padded(
            numbers=_pad(numbers, mask, np.int32),
            positions=_pad(local, mask, np.float32),
            cell=self.arrays["frame_cell"].astype(np.float32),
            energy=np.asarray(self.arrays["energy"], np.float64),
            forces=_pad(self.arrays["atoms_forces"], mask, np.float32),
            mask=mask,
            free=mask if fixed is None else mask & ~_pad(fixed, mask, np.bool_),
        )


def _per_atom(name: str) -> bool:
    """Whether an array has one row an atom."""
    return name.removeprefix(RESERVED) not in OF_FRAMES and name.startswith((RESERVED, "atoms_"))


def _pad(flat: NDArray[Any], mask: NDArray[np.bool_], dtype: Any) -> NDArray[Any]:
    """(M, A, …) of rows one an atom; equal sizes need no copy but that of the type."""
    if mask.all():
        return flat.reshape(*mask.shape, *flat.shape[1:]).astype(dtype, copy=False)
    padded = np.zeros((*mask.shape, *flat.shape[1:]), dtype)
    padded[mask] = flat
    return padded


def stack(items: Sequence[Labeled], **arrays: Any) -> bytes:
    """A shard of labelled frames, and of arrays that travel with them; see `Stacked` and `pack`."""
    labels = [item.label for item in items]
    arrays["energy"] = np.array([label.energy for label in labels], np.float64)
    arrays["atoms_forces"] = np.concatenate([np.empty((0, 3)), *(label.forces for label in labels)])
    for name, shape in OPTIONAL.items():
        if any(getattr(label, name) is not None for label in labels):
            rows = [getattr(label, name) for label in labels]
            arrays[name] = np.array([np.full(shape, np.nan) if row is None else row for row in rows])
    if any(label.charges is not None for label in labels):
        rows = [np.full(len(x.forces), np.nan) if x.charges is None else x.charges for x in labels]
        arrays["atoms_charges"] = np.concatenate(rows)
    if any(label.esp is not None for label in labels):
        arrays |= _grids(labels)
    return pack([item.frame for item in items], **arrays)


def _grids(labels: Sequence[Label]) -> dict[str, NDArray[Any]]:
    """Potentials at grid points, padded to the longest grid."""
    counts = np.array([0 if label.esp is None else len(label.esp) for label in labels])
    esp, points = np.zeros((len(labels), counts.max())), np.zeros((len(labels), counts.max(), 3))
    for row, label in enumerate(labels):
        if label.esp is not None and label.esp_points is not None:
            esp[row, : counts[row]], points[row, : counts[row]] = label.esp, label.esp_points
    return dict(zip(GRID, (esp, points, counts), strict=True))


def joined(parts: Sequence[Stacked]) -> Stacked:
    """The rows of all parts, in order; what a part lacks is NaN (no such label) in its rows.

    Raises
    ------
    DataError
        There are no parts.
    """
    if not parts:
        raise DataError("no stacked labels to join")
    if len(parts) == 1:
        return parts[0]
    if any(RARE & part.arrays.keys() for part in parts):
        own = {name for part in parts for name in part.arrays} - KNOWN
        travelling = {name: np.concatenate([part.arrays[name] for part in parts]) for name in own}
        return Stacked(columns(stack([item for part in parts for item in part], **travelling)))
    names = dict.fromkeys(name for part in parts for name in part.arrays if name != "frame_offsets")
    sizes = np.concatenate([part.sizes for part in parts])
    columns_ = {name: np.concatenate([_rows(part, name) for part in parts]) for name in names}
    return Stacked({"frame_offsets": np.concatenate([[0], np.cumsum(sizes)]), **columns_})


def _rows(part: Stacked, name: str) -> NDArray[Any]:
    """An array of a part, or as many rows of NaN."""
    if name in part.arrays:
        return part.arrays[name]
    shape = (int(part.offsets[-1]),) if _per_atom(name) else (len(part), *OPTIONAL[name])
    return np.full(shape, np.nan)
