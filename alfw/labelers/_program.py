"""How a code is run through files: deck, command, remedies, verdict; the same for all of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from alfw.core.errors import ExecutableError, LabelError, OutOfDiskError, WalltimeError
from alfw.core.frame import Frame
from alfw.core.records import Attempt, Label, Resources, Run, Theory
from alfw.labelers._common import about_mass_centre, load, refuse, refused
from alfw.labelers._deck import deck_hash, deck_text, frame_variables, rendered, worker_variables
from alfw.labelers._handlers import Ladder, judged
from alfw.labelers._judge import checked
from alfw.labelers._output import Reader, step_of

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Program:
    """How one code is run.

    Attributes
    ----------
    reader : Reader
        Of its outputs; `reader.main` is the main one's name, ``output.log`` where the code prints to stdout.
    decks : {input file: template}
        The templates in ``fw_templates/qm``.
    outputs, checkpoints : tuple of str
        Further files that the reader needs; files from which a later attempt may restart.
    ladders : tuple of Ladder
        Their steps set deck variables, which are None before.
    mpi : bool
        Whether the code spreads over MPI, so that OpenMP and BLAS get one thread.
    total_energy : bool
        As in `checked`.
    unset : tuple of str
        Environment variables that the program does not get.
    """

    reader: Reader
    decks: Mapping[str, str]
    outputs: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    ladders: tuple[Ladder, ...] = ()
    mpi: bool = False
    total_energy: bool = True
    more_handlers: Callable[[Path], Any] | None = field(default=None)
    unset: tuple[str, ...] = ()


def theory(program: Program, labeler: Any, **more: Any) -> Theory:
    """All options but those of execution, and the hash of each deck without its execution blocks.

    A permission to change the theory (`allow_theory_changes`) makes another theory, too: what it allows may differ
    from frame to frame.
    """
    left_out = {"kind", "decks", "allow_theory_changes", *labeler.execution_only}
    settings = {key: value for key, value in labeler.model_dump(mode="json").items() if key not in left_out}
    settings["decks"] = {
        name: deck_hash(deck_text(template, labeler.decks)) for name, template in program.decks.items()
    }
    if getattr(labeler, "allow_theory_changes", False):
        settings["allowed_changes"] = [dict(step) for ladder in program.ladders for step in ladder.changes]
    return Theory(labeler.kind, settings | more)


def inputs(
    program: Program, labeler: BaseModel, frame: Frame, resources: Resources, settings: Mapping[str, Any]
) -> dict[str, bytes]:
    """The rendered decks, with these deck variables beside those of frame and labeler.

    Raises
    ------
    DeckError
        A template uses an unknown variable.
    """
    variables = remedies(program) | labeler.model_dump() | frame_variables(frame)
    variables |= worker_variables(resources, Attempt()) | dict(settings)
    own = getattr(labeler, "decks", None)
    return {name: rendered(deck_text(deck, own), variables) for name, deck in program.decks.items()}


def remedies(program: Program) -> dict[str, None]:
    """Every deck variable that a remedy sets, as it is before one is tried; a labeler's field of that name wins."""
    steps = [step for ladder in program.ladders for step in (*ladder.steps, *ladder.changes)]
    return dict.fromkeys(key for step in steps for key in step)


def run(
    program: Program,
    labeler: Any,
    frame: Frame,
    workdir: Path,
    resources: Resources,
    attempt: Attempt,
    *,
    command: str,
    more: Mapping[str, Any] | None = None,
    files: Files | None = None,
) -> Run:
    """The raw output, after whatever remedies it took; nothing is started for a frame that is refused anyway.

    Parameters
    ----------
    command : str
        With ``{threads}`` where the number of processes belongs.
    more : mapping, optional
        Deck variables of this code.
    files : {name: bytes}, optional
        Further input files.

    Raises
    ------
    LabelError
        Of policy ``pause``: every other frame would end so, too. OutOfDiskError and WalltimeError.
    """
    if refused(labeler.check, frame):
        return Run(files={})
    engine = load("alfw.labelers._run", labeler.kind)
    attempt = _restartable(program, attempt)
    base = worker_variables(resources, attempt) | dict(more or {})
    extra = {**(files or {}), **attempt.restart}

    def render(settings: Mapping[str, Any]) -> dict[str, bytes]:
        return {**extra, **inputs(program, labeler, frame, resources, settings)}

    try:
        result: Run = engine.run_child(
            shlex.split(command.replace("{threads}", str(resources.threads))),
            render,
            (program.reader.main, *program.outputs),
            base,
            [ladder.allowing(getattr(labeler, "allow_theory_changes", False)) for ladder in program.ladders],
            workdir,
            resources,
            checkpoints=program.checkpoints,
            threads=1 if program.mpi else None,
            more_handlers=program.more_handlers,
            out_of_time=judged(program.reader.output, WalltimeError),
            unset=program.unset,
        )
    except WalltimeError as stopped:
        stopped.partial = _without(stopped.partial, files or {})
        raise
    result = _without(result, extra)
    problem = verdict(program, result)
    if problem is not None and (problem.policy == "pause" or isinstance(problem, OutOfDiskError)):
        error = type(problem)(f"{problem} (on {result.host}: {result.command})", problem.signature)
        error.partial = result
        raise error
    if problem is None:
        _check_version(program, labeler, result)
    return result


def _without(result: Run, names: Container[str]) -> Run:
    """The run without these files: pseudopotentials and what it started from are kept elsewhere."""
    return replace(result, files={name: data for name, data in result.files.items() if name not in names})


def _restartable(program: Program, attempt: Attempt) -> Attempt:
    """The attempt with checkpoint files alone; where there are any, they are the first guess."""
    kept = {name: data for name, data in attempt.restart.items() if name in program.checkpoints}
    return Attempt(other_guess=attempt.other_guess and not kept, restart=kept)


def _check_version(program: Program, labeler: Any, result: Run) -> None:
    """Raise ExecutableError when the program is of another version than the campaign states."""
    wanted = getattr(labeler, "version", None)
    found = "" if wanted is None else program.reader.output(result.files).version
    if wanted is not None and not (found.rpartition(" ")[2] + ".").startswith(wanted + "."):
        what = f"{found} on {result.host} ({result.command}), but the campaign states version {wanted}"
        raise ExecutableError(f"{what}: correct the command of the labeler, or `version`")


def verdict(program: Program, result: Run) -> LabelError | None:
    """What is wrong with an output; None where nothing is."""
    try:
        program.reader.output(result.files)
    except LabelError as error:
        return error
    return None


def parse(program: Program, labeler: Any, frame: Frame, result: Run) -> Label:
    """The label of the step that is the frame; raises a LabelError subclass when there is none."""
    refuse(labeler.check, frame)
    try:
        output = program.reader.output(result.files)
        step = step_of(frame, output)
    except LabelError as error:
        tried = sum(1 for correction in result.corrections if correction["actions"])
        after = f" after {tried} remedies" if tried else ""
        raise type(error)(f"frame {frame.id[:12]}{after}: {error}", error.signature) from error
    dipole = about_mass_centre(step.dipole, frame) if step.dipole is not None and not frame.periodic else None
    return checked(
        frame,
        replace(result, version=output.version),
        total_energy=program.total_energy,
        energy=step.energy,
        forces=step.forces,
        stress=step.stress if frame.periodic else None,
        dipole=dipole,
        charges=step.charges,
        s_squared=step.s_squared,
        esp=step.esp,
        esp_points=step.esp_points,
    )
