"""Plane-wave density functional theory of crystals through CASTEP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from alfw.core.errors import InputError, MPIAbortError, NotConvergedError
from alfw.core.frame import Frame
from alfw.core.protocols import FIRST
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers import _program
from alfw.labelers._common import check_electrons, check_periodicity, refused
from alfw.labelers._deck import with_decks
from alfw.labelers._handlers import Ladder, judged
from alfw.labelers._kpoints import KPoints
from alfw.labelers._program import Program
from alfw.labelers._pseudos import Element, Pseudopotentials, check_pseudos, pinned, stated, verified
from alfw.labelers.readers.castep import READER

Keyword = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Value = Annotated[str, Field(pattern=r"^[^\n]+$")] | bool | int | float
OTHER_GUESS = 2.0  # times the moments
LADDERS = (
    Ladder(
        "SCF_NOT_CONVERGED",
        judged(READER.output, NotConvergedError),
        steps=(
            {"more_cycles": 200},
            {"mix_charge_amp": 0.2},
            {"mix_charge_amp": None, "metals_method": "EDFT"},
        ),
    ),
    Ladder("MPI_ABORT", judged(READER.output, MPIAbortError), ({"again": 1},)),
)
PROGRAM = Program(
    reader=READER,
    decks={"castep.cell": "castep.cell.j2", "castep.param": "castep.param.j2"},
    outputs=("castep.0001.err",),
    ladders=LADDERS,
    mpi=True,
)


class CASTEPLabeler(BaseModel):
    """Energy, forces and stress of crystals; the energy is the free one where there is smearing, with dispersion.

    Forces have 5 decimals in eV/Å, stress 6 in GPa, as CASTEP prints them.

    Attributes
    ----------
    xc_functional : str
        CASTEP's name: PBE, PBESOL, RSCAN, LDA …
    cut_off_energy_eV : float
    kpoints : KPoints
        ``{spacing: 0.25}`` (1/Å, 2π included) or ``{grid: [4, 4, 4]}``.
    otfg_library : str
        Of pseudopotentials generated on the fly, for elements without an own entry: C19, NCP19, C9 …
    otfg : {element: str}
        Own strings for pseudopotentials generated on the fly, e.g. ``2|1.1|15|18|20|20:21(qc=7)``.
    pseudopotentials : {element: file}
        In `pseudo_dir`; pinned by sha256 when the campaign is added.
    smearing_width_eV : float or None
        None: fixed occupations, for insulators.
    smearing_scheme : str
    elec_energy_tol_eV : float
        For each atom.
    dispersion : str or None
        CASTEP's SEDC_SCHEME: D3-BJ, D4, TS, MBD* …
    spin : bool or None
        Whether spin-polarised; None: frames with magnetic moments or a multiplicity > 1. The latter fixes the spin.
    param_keywords, cell_keywords : mapping
        Further lines of the .param and .cell files.
    version : str or None
        Major version; another one pauses the campaign.
    decks : folder, optional
        With an own ``castep.cell.j2`` or ``castep.param.j2``.
    max_scf_cycles : int
        Before the first remedy.
    pseudo_dir : str
        Where the files of `pseudopotentials` are on a worker; may be ``>>pseudo_dir<<``.
    command : str
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    in_process: ClassVar[bool] = False
    periodic: ClassVar[bool | None] = True
    execution_only: ClassVar[frozenset[str]] = frozenset({"command", "pseudo_dir", "max_scf_cycles"})

    kind: Literal["castep"] = "castep"
    xc_functional: Annotated[str, Field(min_length=1)]
    cut_off_energy_eV: Annotated[float, Field(gt=0.0)]
    kpoints: KPoints
    otfg_library: Annotated[str, Field(min_length=1)] | None = "C19"
    otfg: dict[Element, Value] = Field(default_factory=dict)
    pseudopotentials: Pseudopotentials = Field(default_factory=dict)
    smearing_width_eV: Annotated[float, Field(gt=0.0)] | None = 0.2
    smearing_scheme: str = "GAUSSIAN"
    elec_energy_tol_eV: Annotated[float, Field(gt=0.0)] = 1e-6
    dispersion: str | None = None
    spin: bool | None = None
    param_keywords: dict[Keyword, Value] = Field(default_factory=dict)
    cell_keywords: dict[Keyword, Value] = Field(default_factory=dict)
    version: str | None = None
    decks: dict[str, str] | str | None = None
    max_scf_cycles: PositiveInt = 60
    pseudo_dir: str | None = None
    command: Annotated[str, Field(min_length=1)] = "mpirun -np {threads} castep.mpi castep"

    @classmethod
    def with_files(cls, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
        """The options with the user's decks read in and the pseudopotential files pinned by sha256."""
        return pinned(with_decks(options, base, tuple(PROGRAM.decks.values())), base)

    def theory(self) -> Theory:
        """All options but those of execution, file and sha256 of pseudopotentials, and the hashes of the decks."""
        return _program.theory(
            PROGRAM,
            self,
            xc_functional=self.xc_functional.upper(),
            pseudopotentials=stated(self.pseudopotentials),
        )

    def check(self, frame: Frame) -> None:
        """Raise InputError for molecules, slabs, spins that are switched off; BasisError without pseudopotential."""
        check_periodicity(frame, self.kind, molecules=False)
        if self.otfg_library is None:
            check_pseudos(frame, self.otfg | self.pseudopotentials)
        if frame.multiplicity > 1:
            check_electrons(frame)
        if self.spin is False and (frame.multiplicity > 1 or frame.moments is not None):
            what = f"frame {frame.id[:12]} has multiplicity {frame.multiplicity} or moments"
            raise InputError(f"{what}, but `spin` is false")

    def inputs(self, frame: Frame, resources: Resources) -> dict[str, bytes]:
        """The .cell and the .param file, and pseudopotential files where `pseudo_dir` is here."""
        here = self.pseudo_dir is not None and Path(self.pseudo_dir).expanduser().is_dir()
        decks = _program.inputs(PROGRAM, self, frame, resources, self._variables(frame))
        return decks | (self._files(frame) if here else {})

    def run(self, frame: Frame, workdir: Path, resources: Resources, attempt: Attempt = FIRST) -> Run:
        """Decks, .castep file, error file and log, after more cycles, other mixing or ensemble DFT where needed."""
        if refused(self.check, frame):
            return Run(files={})
        more = self._variables(frame, OTHER_GUESS if attempt.other_guess else 1.0)
        files = self._files(frame)
        return _program.run(
            PROGRAM, self, frame, workdir, resources, attempt, command=self.command, more=more, files=files
        )

    def parse(self, frame: Frame, run: Run) -> Label:
        """The label in alfw's units; raises a LabelError subclass when there is none."""
        return _program.parse(PROGRAM, self, frame, run)

    def _files(self, frame: Frame) -> dict[str, bytes]:
        """The pseudopotential files of the frame's elements by their names in the .cell file."""
        elements = [e for e in _elements(frame) if e in self.pseudopotentials]
        found = verified(self.pseudopotentials, self.pseudo_dir, elements)
        return {_local(self.pseudopotentials[element].file): data for element, data in found.items()}

    def _variables(self, frame: Frame, factor: float = 1.0) -> dict[str, Any]:
        """What the decks need beside the options; initial moments are multiplied by `factor`."""
        mesh = self.kpoints.mesh(frame.cell)
        given = frame.multiplicity > 1 or frame.moments is not None
        polarised = given if self.spin is None else self.spin
        return {
            "mesh": mesh,
            "offset": [
                f"{_offset(n, shift, self.kpoints.gamma):.10g}"
                for n, shift in zip(mesh, self.kpoints.shift, strict=True)
            ],
            "atoms": _atoms(frame, factor if polarised else None),
            "potentials": "\n".join(self._potentials(frame)),
            "spin_polarised": polarised,
            "param_keywords": _keywords(self.param_keywords),
            "cell_keywords": _keywords(self.cell_keywords),
        }

    def _potentials(self, frame: Frame) -> list[str]:
        """The lines of SPECIES_POT."""
        named = {element: _local(pseudo.file) for element, pseudo in self.pseudopotentials.items()}
        own = {element: str(text) for element, text in self.otfg.items()} | named
        lines = [f"{element} {own[element]}" for element in _elements(frame) if element in own]
        return lines if self.otfg_library is None else [self.otfg_library, *lines]


def _elements(frame: Frame) -> list[str]:
    """Each element once."""
    return list(dict.fromkeys(chemical_symbols[z] for z in frame.numbers))


def _local(file: str) -> str:
    """The name that a pseudopotential file has in the folder of a calculation, unpacked."""
    return Path(file).name.removesuffix(".gz")


def _offset(points: int, shift: float, gamma: bool) -> float:
    """Of a mesh after Monkhorst and Pack along one axis, in units of the reciprocal vector.

    Without one, even meshes lie half a step beside Γ. Source: CASTEP's KPOINT_MP_OFFSET; H. J. Monkhorst, J. D. Pack,
    Phys. Rev. B 13, 5188 (1976), doi 10.1103/PhysRevB.13.5188.
    """
    return (shift + (0.5 if gamma and points % 2 == 0 else 0.0)) / points


def _atoms(frame: Frame, factor: float | None) -> str:
    """Lines of POSITIONS_ABS, with initial moments times `factor`, if any."""
    spread = (frame.multiplicity - 1) / len(frame) if frame.multiplicity > 1 else 1.0
    moments = [spread] * len(frame) if frame.moments is None else frame.moments.tolist()
    lines = []
    for z, position, moment in zip(frame.numbers, frame.positions, moments, strict=True):
        spin = "" if factor is None else f" SPIN={factor * moment:.6g}"
        lines.append(f"{chemical_symbols[z]} " + " ".join(f"{x:.10f}" for x in position) + spin)
    return "\n".join(lines)


def _keywords(given: Mapping[str, Any]) -> dict[str, str]:
    """Keywords as they stand in a file."""
    return {
        key.upper(): str(value).upper() if isinstance(value, bool) else str(value)
        for key, value in sorted(given.items())
    }
