"""The laws that every potential obeys, one function a clause: each yields what is broken, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols

from alfw.core.errors import AlfwError, TrainingError
from alfw.core.frame import Float, Frame
from alfw.core.protocols import HasElectrostatics, HasFeatures, HasMembers
from alfw.core.records import Prediction
from alfw.testing.case import TURN, Case, Skip, of_frame, off, reordered

STEP_A = 0.01  # an atom's displacement along each axis, root mean square
STRAIN = 0.004
DIRECTIONS = 3  # random directions in which derivatives are taken
SLOPE = 5e-3  # relative error of a derivative that is let pass: float32 and the finite step cost less
STRANGERS = (54, 36, 18, 10, 2, 92, 86)  # elements that a model hardly knows
VACUUM_A = 20.0


def shapes(case: Case) -> Iterator[str]:
    """K rows, B frames, one (K, n, 3) a frame; float64, finite; stress of crystals only."""
    k, frames, said = case.potential.members, case.frames, case.said
    yield from _array("energy", said.energy, (k, len(frames)))
    if len(said.forces) != len(frames):
        yield f"forces: a list of {len(said.forces)} for {len(frames)} frames"
        return
    for frame, forces in zip(frames, said.forces, strict=True):
        yield from _array(f"forces on {frame.formula}", forces, (k, len(frame), 3))
    for i, frame in enumerate(frames):
        stress = of_frame(said, i)
        if stress is not None and not frame.periodic:
            yield f"stress of {frame.formula}, which is not periodic: it must be None"
        elif stress is not None:
            yield from _array(f"stress of {frame.formula}", stress, (k, 3, 3))
    if said.dipole is not None:
        yield from _array("dipole", said.dipole, (k, len(frames), 3))
    none: Prediction = case.potential.predict([])
    if none.energy.shape != (k, 0) or len(none.forces):
        yield f"no frames at all: energy of shape {none.energy.shape} instead of ({k}, 0)"


def _array(what: str, found: Float, shape: tuple[int, ...], dtype: type = np.float64) -> Iterator[str]:
    if getattr(found, "shape", None) != shape:
        yield f"{what}: shape {getattr(found, 'shape', None)} instead of {shape}"
    elif found.dtype != dtype:
        yield f"{what}: {found.dtype} instead of {np.dtype(dtype)}"
    elif not np.isfinite(found).all():
        yield f"{what}: not finite"


def names(case: Case) -> Iterator[str]:
    """`species`, `cutoff_A`, `members`: sorted atomic numbers that hold the frames' elements, a length, a count."""
    species, cutoff, members = case.potential.species, case.potential.cutoff_A, case.potential.members
    if list(species) != sorted(set(species)) or not all(isinstance(z, int) for z in species):
        yield f"species: {species!r} is not a sorted tuple of atomic numbers"
    missing = {z for frame in case.frames for z in frame.numbers.tolist()} - set(species)
    if missing:
        yield f"species: lacks {', '.join(chemical_symbols[z] for z in sorted(missing))}, which it predicts"
    if not (np.isfinite(cutoff) and cutoff >= 0):
        yield f"cutoff_A: {cutoff!r} is no length (0 means unknown)"
    if not isinstance(members, int) or members < 1:
        yield f"members: {members!r} is no count"


def untouched(case: Case) -> Iterator[str]:
    """Frames, their arrays and the list of them are as they were."""
    given = [replace(frame) for frame in case.frames]
    kept, before = list(given), [frame.id for frame in given]
    case.potential.predict(given)
    if len(given) != len(kept) or any(a is not b for a, b in zip(given, kept, strict=True)):
        yield "predict changed the list of frames"
    for frame, id_ in zip(kept, before, strict=True):
        if replace(frame).id != id_:
            yield f"predict changed {frame.formula}"
        if any(a.flags.writeable for a in (frame.positions, frame.cell, frame.numbers, frame.pbc)):
            yield f"predict made the arrays of {frame.formula} writeable"


def repeatable(case: Case) -> Iterator[str]:
    """Asked again, it says the same."""
    yield from case.same(case.frames, range(len(case.frames)))


def batch_is_single(case: Case) -> Iterator[str]:
    """A frame alone gets what it got among others."""
    for i, frame in enumerate(case.frames):
        yield from case.same([frame], [i])


def order(case: Case) -> Iterator[str]:
    """Results come in the order of the frames."""
    backwards = list(range(len(case.frames)))[::-1]
    yield from case.same([case.frames[i] for i in backwards], backwards)


def members_alone(case: Case) -> Iterator[str]:
    """A member asked alone says what it says among the others."""
    if not isinstance(case.potential, HasMembers):
        raise Skip("its members cannot be asked alone")
    for k in range(case.potential.members):
        alone = case.potential.member(k)
        if alone.members != 1:
            yield f"member {k} alone has {alone.members} members"
            continue
        said = alone.predict(case.frames)
        for i, frame in enumerate(case.frames):
            of, forces = f"{frame.formula}, member {k}", case.said.forces[i][k : k + 1]
            energy = case.said.energy[k : k + 1, i]
            yield from off(f"energy of {of}", said.energy[:, i], energy, case.energy_allowed(i), "eV")
            yield from off(f"forces on {of}", said.forces[i], forces, case.force_allowed(i), "eV/Å")


def permutation(case: Case) -> Iterator[str]:
    """Atoms in another order have their forces in that order."""
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(frame)) for frame in case.frames]
    mixed = [reordered(frame, o) for frame, o in zip(case.frames, orders, strict=True)]
    yield from case.same(mixed, range(len(mixed)), order=lambda i: orders[i])


def translation(case: Case) -> Iterator[str]:
    """Nothing changes when all atoms are moved."""
    moved = [frame.moved(frame.positions + [3.0, -5.0, 7.0]) for frame in case.frames]
    yield from case.same(moved, range(len(moved)))


def rotation(case: Case) -> Iterator[str]:
    """Forces, stress and dipole turn with the frame; the energy does not change."""
    turned = [frame.moved(frame.positions @ TURN.T, frame.cell @ TURN.T) for frame in case.frames]
    yield from case.same(turned, range(len(turned)), lambda v: v @ TURN.T, lambda s: TURN @ s @ TURN.T)


def mirror(case: Case) -> Iterator[str]:
    """The mirror image of a frame has its energy, and mirrored forces."""
    mirrored = [frame.moved(-frame.positions, -frame.cell) for frame in case.frames]
    yield from case.same(mirrored, range(len(mirrored)), lambda v: -v)


def images(case: Case) -> Iterator[str]:
    """In a crystal, any image of an atom stands for it."""
    rng, chosen = np.random.default_rng(2), case.crystals()
    frames = [case.frames[i] for i in chosen]
    shifts = [rng.integers(-2, 3, size=(len(frame), 3)) for frame in frames]
    moved = [f.moved(f.positions + s @ f.cell) for f, s in zip(frames, shifts, strict=True)]
    yield from case.same(moved, chosen)


def supercell(case: Case) -> Iterator[str]:
    """Two cells of a crystal have twice its energy, its forces and its stress."""
    for i in case.crystals()[:1]:
        frame, said = case.frames[i], case.said
        both = np.concatenate([frame.positions, frame.positions + frame.cell[0]])
        cell = frame.cell * np.array([[2], [1], [1]])
        two = Frame(np.tile(frame.numbers, 2), both, cell, frame.pbc)
        new, doubled = case.potential.predict([two]), np.tile(said.forces[i], (1, 2, 1))
        allowed = 2 * case.energy_allowed(i)
        yield from off("energy of two cells", new.energy[:, 0], 2 * said.energy[:, i], allowed, "eV")
        yield from off("forces in two cells", new.forces[0], doubled, case.force_allowed(i), "eV/Å")


def forces(case: Case) -> Iterator[str]:
    """Forces are −dE/dx: energies along random displacements of all atoms fall as the forces say."""
    rng = np.random.default_rng(3)
    for i, frame in enumerate(case.frames):
        ways = np.round(STEP_A * rng.standard_normal((DIRECTIONS, len(frame), 3)), 6)
        stencil = [frame.moved(frame.positions + s * way) for way in ways for s in (1, -1, 2, -2)]
        rise = _rise(case, stencil)
        said = -np.einsum("kac,dac->kd", case.said.forces[i], ways)
        size = np.linalg.norm(case.said.forces[i], axis=(1, 2)).max() * STEP_A  # of F·way, root mean square
        allowed = SLOPE * size + case.energy_allowed(i)
        yield from off(f"{frame.formula}: dE along a displacement against −F·dx", rise, said, allowed, "eV")


def stress(case: Case) -> Iterator[str]:
    """Stress is (1/V) dE/dε, tension positive, symmetric."""
    rng, any_ = np.random.default_rng(4), False
    for i in case.crystals():
        frame, found = case.frames[i], of_frame(case.said, i)
        if found is None:
            continue
        any_, volume = True, abs(np.linalg.det(frame.cell))
        ways = STRAIN * rng.standard_normal((DIRECTIONS, 3, 3))
        ways = (ways + ways.transpose(0, 2, 1)) / 2
        maps = [np.eye(3) + s * way for way in ways for s in (1, -1, 2, -2)]
        rise = _rise(case, [frame.moved(frame.positions @ m, frame.cell @ m) for m in maps])
        said = volume * np.einsum("kij,dij->kd", found, ways)
        size = volume * np.linalg.norm(found, axis=(1, 2)).max() * STRAIN
        allowed = SLOPE * size + case.energy_allowed(i)
        yield from off(f"{frame.formula}: dE along a strain against V σ:ε", rise, said, allowed, "eV")
        yield from off(f"{frame.formula}: stress and its transpose", found, found.transpose(0, 2, 1), 1e-6)
    if not any_:
        raise Skip("the model has no stress")


def _rise(case: Case, stencil: list[Frame]) -> Float:
    """(K, DIRECTIONS) eV: dE by the five-point rule, from frames at +1, −1, +2 and −2 steps in each direction."""
    energy = case.potential.predict(stencil).energy.reshape(case.potential.members, DIRECTIONS, 4)
    return (8 * (energy[..., 0] - energy[..., 1]) - (energy[..., 2] - energy[..., 3])) / 12


def far_apart(case: Case) -> Iterator[str]:
    """Two molecules beyond the cutoff have the sum of their energies, and their own forces."""
    cutoff, chosen = case.potential.cutoff_A, case.molecules()
    if cutoff <= 0:
        raise Skip("the cutoff is not known")
    a, b = case.frames[chosen[0]], case.frames[chosen[-1]]
    away = b.positions + [a.positions[:, 0].max() - b.positions[:, 0].min() + 1.5 * cutoff, 0.0, 0.0]
    pair = Frame(np.r_[a.numbers, b.numbers], np.r_[a.positions, away], charge=a.charge + b.charge)
    new, said = case.potential.predict([pair]), case.said
    allowed = case.energy_allowed(chosen[0]) + case.energy_allowed(chosen[-1])
    total = said.energy[:, chosen[0]] + said.energy[:, chosen[-1]]
    yield from off("energy of two molecules far apart", new.energy[:, 0], total, allowed, "eV")
    own = np.concatenate([said.forces[chosen[0]], said.forces[chosen[-1]]], axis=1)
    allowed = max(case.force_allowed(i) for i in chosen)
    yield from off("forces on two molecules far apart", new.forces[0], own, allowed, "eV/Å")


def unknown_element(case: Case) -> Iterator[str]:
    """An element that the model does not know is refused with a TrainingError that names it, in one line."""
    stranger = next((z for z in STRANGERS if z not in case.potential.species), None)
    if stranger is None:
        raise Skip("the model knows every element")
    frame = case.frames[0]
    other = replace(frame, numbers=np.r_[stranger, frame.numbers[1:]])
    symbol = chemical_symbols[stranger]
    try:
        case.potential.predict([frame, other])
    except TrainingError as error:
        if symbol not in str(error).replace(",", " ").split() or "\n" in str(error):
            yield f"the error must name {symbol} in one line; it says: {error}"
    except Exception as error:  # of whatever kind: that is the fault
        yield f"{type(error).__name__} instead of TrainingError: {error}"
    else:
        yield f"{symbol} is predicted although `species` does not have it"


def partly_periodic(case: Case) -> Iterator[str]:
    """A slab that is periodic in two directions is refused (AlfwError), or gets what it gets with vacuum."""
    bulk = case.frames[case.crystals()[0]]
    high = bulk.cell.copy()
    high[2] *= 1 + VACUUM_A / np.linalg.norm(high[2])
    slab = replace(bulk, cell=high, pbc=np.array([True, True, False]))
    try:
        said = case.potential.predict([slab])
    except AlfwError:
        return
    whole = case.potential.predict([replace(bulk, cell=high)])
    allowed = case.energy_allowed(case.frames.index(bulk))
    yield from off("energy of a slab, with and without vacuum", said.energy, whole.energy, allowed, "eV")
    yield from off("forces on a slab", said.forces[0], whole.forces[0], allowed, "eV/Å")


def features(case: Case) -> Iterator[str]:
    """(n, D) float32 a frame, the same D; the other clauses try whether they are invariant."""
    if not isinstance(case.potential, HasFeatures) or case.features is None:
        raise Skip("the potential has none")
    width = case.features[0].shape[-1]
    for frame, found in zip(case.frames, case.features, strict=True):
        yield from _array(f"features of {frame.formula}", found, (len(frame), width), np.float32)


def electrostatics(case: Case) -> Iterator[str]:
    """Atomic charges sum to the charge of the frame; dipoles, charges and potentials have K rows."""
    if not isinstance(case.potential, HasElectrostatics):
        raise Skip("the potential has none")
    k, chosen = case.potential.members, case.molecules()
    frames = [case.frames[i] for i in chosen]
    for frame, found in zip(frames, case.potential.charges(frames), strict=True):
        yield from _array(f"charges of {frame.formula}", found, (k, len(frame)))
        total = np.full(k, float(frame.charge))
        yield from off(f"sum of the charges of {frame.formula}", found.sum(1), total, 1e-5, "e")
    for found in case.potential.dipoles(frames):
        yield from _array("dipoles", found, (k, len(frames), 3))
    points = frames[0].positions[:1] + np.array([[0.0, 0.0, 4.0], [0.0, 5.0, 0.0]])
    for found in case.potential.esp(frames[0], points):
        yield from _array("esp", found, (k, 2))
