"""Energies and forces from one file, electrostatic potentials from another: paired by what they are of.

Rows belong together by frame id, else by elements in order and positions up to a rigid motion: never by their place
in the files, and mirror images are different. Points of a potential follow their molecule into the orientation
that forces and dipoles are in.

Source: W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873 (the rotation);
doi:10.1107/S0567739478001680 (that it is a proper one).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from alfw.core.errors import DataError
from alfw.core.frame import Float, Frame
from alfw.core.records import Label
from alfw.io.esp_npz import EspRow
from alfw.io.imported import Imported

TOLERANCE_A = 1e-3  # root mean square distance of atoms, up to which two geometries are the same
AS_NEAR_A = 1e-5  # two rows are equally near when they differ by less: energies by 1e-4 eV at most
FINGERPRINT = 16  # distances from the centre that are compared first
SAME_ENERGY_eV, SAME_FORCE_eV_PER_A = 1e-4, 1e-3


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows with energies and forces, in the order of their file, with potentials where there are some.

    Attributes
    ----------
    items : list of Imported
    n_esp : int
        Of them with a potential; the others train energies, forces and dipoles alone.
    n_unused : int
        Rows with a potential that another row of the same geometry has already given.
    """

    items: list[Imported]
    n_esp: int
    n_unused: int

    def __str__(self) -> str:
        without = len(self.items) - self.n_esp
        text = f"{len(self.items)} rows: {self.n_esp} with a potential"
        text += f", {without} without one (masked: energies, forces and dipoles alone)" if without else ""
        return text + (
            f"; {self.n_unused} potentials of the same geometry again, not used" if self.n_unused else ""
        )


@dataclass(frozen=True, eq=False)
class Match:
    """A row of potentials, the row of energies of the same geometry, and the motion from one to the other."""

    esp: int
    efd: int
    rmsd_A: float
    rotation: Float
    shift: Float

    def carry(self, points: Float) -> Float:
        """(G, 3) Å: points in the orientation of the row of energies."""
        return np.asarray(points @ self.rotation.T + self.shift)


def pair(efd: Sequence[Imported], esp: Sequence[EspRow], efd_file: Path | str, esp_file: Path | str) -> Pairs:
    """The rows of `efd`, with the potentials of `esp` on the labels they belong to.

    Parameters
    ----------
    efd : sequence of Imported
        With labels.
    esp : sequence of EspRow
        Rows without points are left out: they say nothing.
    efd_file, esp_file : Path or str
        For messages.

    Raises
    ------
    DataError
        A potential is of a geometry that `efd` lacks; an id stands for two geometries; several rows of energies
        have the same geometry and different labels.
    """
    matches = defaultdict(list)
    for match in _matches(efd, esp, efd_file, esp_file):
        matches[match.esp].append(match)
    found: dict[int, Match] = {}
    for k, row in enumerate(esp):
        if len(row.esp) == 0:
            continue
        if not matches[k]:
            raise DataError(
                f"{esp_file} row {k} ({row.frame.formula}): no row of {efd_file} has its elements, charge and geometry"
                f" (within {TOLERANCE_A} Å): add its energy and forces there, or drop it here"
            )
        for match in _nearest(matches[k], efd, efd_file):
            if match.efd not in found or match.rmsd_A < found[match.efd].rmsd_A - AS_NEAR_A:
                found[match.efd] = match
    items = [_with_esp(item, esp, found.get(i)) for i, item in enumerate(efd)]
    used = {match.esp for match in found.values()}
    return Pairs(items, len(found), sum(len(row.esp) > 0 for row in esp) - len(used))


def _with_esp(item: Imported, esp: Sequence[EspRow], match: Match | None) -> Imported:
    if match is None or item.label is None:
        return item
    row = esp[match.esp]
    same = np.array_equal(row.frame.positions, item.frame.positions)  # then not even rounding moves a point
    points = row.points if same else match.carry(row.points)
    return replace(item, label=replace(item.label, esp=row.esp, esp_points=points))


def _nearest(matches: list[Match], efd: Sequence[Imported], efd_file: Path | str) -> list[Match]:
    """The nearest rows of energies for one potential: one, or several that agree."""
    best = min(matches, key=lambda match: match.rmsd_A)
    near = [match for match in matches if match.rmsd_A < best.rmsd_A + AS_NEAR_A]
    for match in near:
        if not _agree(efd[best.efd].label, efd[match.efd].label):
            raise DataError(
                f"{efd_file} rows {min(best.efd, match.efd)} and {max(best.efd, match.efd)}: the same geometry with"
                " different energies or forces: drop the wrong one"
            )
    return near


def _agree(one: Label | None, two: Label | None) -> bool:
    """Whether two labels of one geometry, maybe turned, say the same."""
    if one is None or two is None or one is two:
        return True
    lengths = [np.linalg.norm(label.forces, axis=1) for label in (one, two)]
    return abs(one.energy - two.energy) < SAME_ENERGY_eV and bool(
        np.abs(lengths[0] - lengths[1]).max() < SAME_FORCE_eV_PER_A
    )


def _matches(
    efd: Sequence[Imported], esp: Sequence[EspRow], efd_file: Path | str, esp_file: Path | str
) -> Iterator[Match]:
    """All pairs of rows of the same id, and of the same geometry where an id finds nothing."""
    by_id = defaultdict(list)
    for i, item in enumerate(efd):
        by_id[item.frame.id].append(i)
    named = [(k, i) for k, row in enumerate(esp) for i in by_id.get(row.id or row.frame.id, [])]
    for match in _aligned(named, [row.frame for row in esp], [item.frame for item in efd]):
        if match.rmsd_A > TOLERANCE_A:
            raise DataError(
                f"{esp_file} row {match.esp} has the id {efd[match.efd].frame.id[:12]} of {efd_file} row {match.efd},"
                f" but another geometry ({match.rmsd_A:.3g} Å off): one of the files was altered"
            )
        yield match
    left = set(range(len(esp))) - {k for k, _ in named}
    yield from _by_geometry([item.frame for item in efd], [row.frame for row in esp], sorted(left))


def _by_geometry(efd: Sequence[Frame], esp: Sequence[Frame], wanted: Sequence[int]) -> Iterator[Match]:
    """Pairs within the tolerance; only those whose fingerprints allow it are superimposed."""
    kinds: dict[bytes, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for k in wanted:
        kinds[_kind(esp[k])][0].append(k)
    for i, frame in enumerate(efd):
        kinds[_kind(frame)][1].append(i)
    pairs = []
    for ours, theirs in kinds.values():
        if ours and theirs:
            reach = TOLERANCE_A * np.sqrt(len(esp[ours[0]])) + 1e-9
            tree = cKDTree(_fingerprints([efd[i] for i in theirs]))
            near = tree.query_ball_point(_fingerprints([esp[k] for k in ours]), reach)
            pairs += [(k, theirs[j]) for k, close in zip(ours, near, strict=True) for j in close]
    yield from (match for match in _aligned(pairs, esp, efd) if match.rmsd_A <= TOLERANCE_A)


def _kind(frame: Frame) -> bytes:
    """Equal for frames that can be one geometry."""
    return np.array([frame.charge, frame.multiplicity, *frame.numbers], np.int64).tobytes()


def _fingerprints(frames: Sequence[Frame]) -> Float:
    """(B, m) Å: distances of the first atoms from the centre.

    Where the root mean square distance of n superimposed atoms is d, these differ by sqrt(n) d at most.
    """
    positions = np.array([frame.positions for frame in frames])
    return np.asarray(
        np.linalg.norm(positions - positions.mean(1, keepdims=True), axis=2)[:, :FINGERPRINT], np.float64
    )


def _aligned(pairs: Sequence[tuple[int, int]], esp: Sequence[Frame], efd: Sequence[Frame]) -> Iterator[Match]:
    """Each frame of `esp` moved onto its partner of `efd` by the best proper rotation."""
    of_size: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for k, i in pairs:
        if len(esp[k]) == len(efd[i]):
            of_size[len(esp[k])].append((k, i))
        else:
            yield Match(k, i, np.inf, np.eye(3), np.zeros(3))
    for n, same in of_size.items():
        a, b = np.array([esp[k].positions for k, _ in same]), np.array([efd[i].positions for _, i in same])
        centre_a, centre_b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
        rotations = proper_rotations(a - centre_a, b - centre_b)
        moved = (a - centre_a) @ rotations.transpose(0, 2, 1) + centre_b
        rmsd = np.sqrt(((moved - b) ** 2).sum((1, 2)) / n)
        shifts = centre_b[:, 0] - np.einsum("bij,bj->bi", rotations, centre_a[:, 0])
        for (k, i), d, rotation, shift in zip(same, rmsd, rotations, shifts, strict=True):
            yield Match(k, i, float(d), rotation, shift)


def proper_rotations(a: Float, b: Float) -> Float:
    """(B, 3, 3): the rotation R, without reflection, that brings R a closest to b.

    Parameters
    ----------
    a, b : (B, n, 3) float64, Å
        Centred.
    """
    u, _, vt = np.linalg.svd(a.transpose(0, 2, 1) @ b)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    v: NDArray[np.float64] = vt.transpose(0, 2, 1).copy()
    v[:, :, 2] *= sign[:, None]
    return np.asarray(v @ u.transpose(0, 2, 1), np.float64)
