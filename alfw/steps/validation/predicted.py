"""What an ensemble says of the frames of a test set, all of it predicted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alfw.core.frame import Float
from alfw.core.protocols import HasElectrostatics, Potential
from alfw.core.records import Labeled
from alfw.core.uncertainty import force_std
from alfw.steps.validation.testset import Reference

BATCH = 1024  # frames predicted at once, so that memory stays bounded
GRID = 512  # ESP points are filled up to a multiple: each new number is compiled anew
# Where a dipole or a potential comes from, by name in reports.
ATOMIC, DISTRIBUTED, MODEL = "physnet (atomic charges)", "dcmnet (distributed charges)", "model"


@dataclass(frozen=True, eq=False)
class Predicted:
    """Labels of B frames and what K members say of them.

    Attributes
    ----------
    references : list of B Reference
    energy : (K, B) float64, eV
    forces : B × (K, n, 3) float64, eV/Å
    stress : B × ((3, 3) float64 or None), eV/Å^3
        Mean of the members.
    dipoles : {source: B × ((3,) float64 or None)}, e·Å
        Mean of the members; None where the label has none.
    esp : {source: B × ((G,) float64 or None)}, V
        At the points of the label.
    """

    references: list[Reference]
    energy: Float
    forces: list[Float]
    stress: list[Float | None]
    dipoles: dict[str, list[Float | None]]
    esp: dict[str, list[Float | None]]

    @cached_property
    def items(self) -> list[Labeled]:
        """The labelled frames alone."""
        return [reference.item for reference in self.references]

    @property
    def members(self) -> int:
        """K."""
        return len(self.energy)

    @cached_property
    def mean_forces(self) -> list[Float]:
        """B × (n, 3) float64, eV/Å."""
        return [forces.mean(0) for forces in self.forces]

    @cached_property
    def force_std(self) -> list[Float]:
        """B × (n_free,) float64, eV/Å: `force_std` of the atoms that may move."""
        pairs = zip(self.items, self.forces, strict=True)
        return [force_std(forces)[item.frame.free] for item, forces in pairs]

    def region(self, name: str) -> Predicted:
        """The part in this region."""
        rows = [i for i, reference in enumerate(self.references) if reference.region == name]
        return Predicted(
            [self.references[i] for i in rows],
            self.energy[:, rows],
            [self.forces[i] for i in rows],
            [self.stress[i] for i in rows],
            {source: [values[i] for i in rows] for source, values in self.dipoles.items()},
            {source: [values[i] for i in rows] for source, values in self.esp.items()},
        )


def predict(
    potential: Potential,
    references: Sequence[Reference],
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """What the ensemble says of these frames; `progress` gets the number done, and all.

    Raises
    ------
    TrainingError
        An element that the model does not know, a periodic frame where it knows molecules only …
    """
    frames = [reference.item.frame for reference in references]
    energy: list[Float] = [np.empty((potential.members, 0))]
    forces: list[Float] = []
    stress: list[Float | None] = []
    dipole: list[Float | None] = []
    for first in range(0, len(frames), BATCH):
        said = potential.predict(frames[first : first + BATCH])
        energy.append(said.energy)
        forces += said.forces
        n = said.energy.shape[1]
        stress += (
            [None] * n if said.stress is None else [None if s is None else s.mean(0) for s in said.stress]
        )
        dipole += [None] * n if said.dipole is None else list(said.dipole.mean(0))
        if progress is not None:
            progress(len(forces), len(frames))
    dipoles, esp = _electrostatics(potential, references, dipole)
    return Predicted(list(references), np.concatenate(energy, 1), forces, stress, dipoles, esp)


Values = dict[str, list[Float | None]]


def _electrostatics(
    potential: Potential, references: Sequence[Reference], dipole: Sequence[Float | None]
) -> tuple[Values, Values]:
    """Dipoles and potentials by source, where labels have them."""
    labels = [reference.item.label for reference in references]
    known = [i for i, label in enumerate(labels) if label.dipole is not None]
    if not isinstance(potential, HasElectrostatics):
        found = [
            value if label.dipole is not None else None for value, label in zip(dipole, labels, strict=True)
        ]
        return ({MODEL: found} if any(value is not None for value in found) else {}), {}
    dipoles: Values = {source: [None] * len(labels) for source in (ATOMIC, DISTRIBUTED)} if known else {}
    said = potential.dipoles([references[i].item.frame for i in known]) if known else ()
    for source, values in zip(dipoles, said, strict=True):
        for i, value in zip(known, values.mean(0), strict=True):
            dipoles[source][i] = value
    with_esp = [i for i, label in enumerate(labels) if label.esp is not None]
    esp: Values = {source: [None] * len(labels) for source in (ATOMIC, DISTRIBUTED)} if with_esp else {}
    for i in with_esp:
        for source, value in zip(esp, _esp(potential, references[i]), strict=True):
            esp[source][i] = value
    return dipoles, esp


def _esp(potential: HasElectrostatics, reference: Reference) -> tuple[Float, Float]:
    """(G,) V at the points of the label: of atomic and of distributed charges."""
    points = np.asarray(reference.item.label.esp_points)
    filled = np.concatenate([points, np.repeat(points[-1:], -len(points) % GRID, axis=0)])
    atomic, distributed = potential.esp(reference.item.frame, filled)
    return atomic.mean(0)[: len(points)], distributed.mean(0)[: len(points)]
