"""What a Gaussian output says of its molecule, of its level of theory and of the links it went through."""

from __future__ import annotations

import re

from alfw.core.errors import UnknownLabelError

ROUTE = re.compile(r"^ -{2,} *\n ( *#[^\n]*(?:\n (?!-{2,}).*)*)\n -{2,} *$", re.MULTILINE)
METHOD = re.compile(r"^ SCF Done: +E\(([UR](?!O)[^)]+)\)", re.MULTILINE)
STATE = re.compile(r"^ Charge = +(-?\d+) Multiplicity = +(\d+) *(.*)$", re.MULTILINE)
FROZEN = re.compile(r"^ [A-Z][a-z]?\S* +-\d+(?: +-?\d+\.\d+){3} *$", re.MULTILINE)
# A route is listed as overlay/options/links: what may find the energy that forces belong to is the SCF (overlay 5)
# and second order (l906), not CASSCF (l510), coupled cluster (l913) or excited states (l914).
LINKS = re.compile(r"^ ([59])/[^/\n]*/([\d,]+)(?:\(-?\d+\))?;", re.MULTILINE)
KNOWN_LINKS = {"5": {"2", "3", "6", "8"}, "9": {"6"}}
PASSAGE = re.compile(
    r"^ (?:\(Enter .*?l(\d+)\.exe\)|Leave Link +(\d+) at |Step number +(\d+) out of a maximum of ).*",
    re.MULTILINE,
)
# Words of a route that say nothing of the level of theory; lower case, up to "=" or "(".
NO_THEORY = {
    *("force", "opt", "freq", "sp", "irc", "bomd", "admp", "scan", "polar", "test"),
    *("guess", "geom", "scf", "nosymm", "nosymmetry", "symmetry", "symm", "pop", "population", "density"),
    *("gfinput", "gfprint", "gfoldprint", "formcheck", "maxdisk", "output", "units", "genchk"),
}


def state(text: str) -> tuple[int, int]:
    """Charge and multiplicity, where there is one of each, for all atoms."""
    found = {match.groups(): match[0].strip() for match in STATE.finditer(text)}
    partial = [line for (_, _, rest), line in found.items() if rest]
    if partial or len(found) != 1:
        what = (partial or ["; ".join(found.values())])[0] or "no line with charge and multiplicity"
        raise UnknownLabelError(f"ONIOM, fragments or several charges are not read: {what}", what)
    frozen = FROZEN.search(text)
    if frozen is not None:
        what = frozen[0].strip()
        raise UnknownLabelError(f"frozen atoms are not read: {what}", what)
    ((charge, multiplicity, _),) = found
    return int(charge), int(multiplicity)


def theory(text: str) -> str:
    """What the first route says of the level of theory: method/basis first, without R and U, in lower case."""
    route, method = ROUTE.search(text), METHOD.search(text)
    line = route[1].replace("\n ", "").lower() if route else ""
    line = re.sub(r"^ *#(?:[pnt](?= ))?", "", re.sub(r" *([=,(/]) *", r"\1", line))
    words = re.findall(r"(?:[^\s()]|\((?:[^()]|\([^()]*\))*\))+", line)
    words = [word for word in words if re.split(r"[=(]", word)[0] not in NO_THEORY]
    if method is not None:  # RB3LYP, UB3LYP: B3LYP of a singlet and of a doublet are one level of theory
        words = [word[1:] if word.startswith(method[1].lower()) else word for word in words]
    return " ".join(sorted(words, key=lambda word: ("/" not in word or word.startswith("iop"), word)))


def foreign(text: str) -> str:
    """The line of a job's route with a link whose energy is not read; empty without any."""
    listed = LINKS.finditer(text)
    return next(
        (line[0].strip() for line in listed if not set(line[2].split(",")) <= KNOWN_LINKS[line[1]]), ""
    )


def check_gaps(text: str) -> None:
    """Raise UnknownLabelError for a job that leaves a link it has not entered, or an optimisation without a step."""
    route = ROUTE.search(text)
    restarted = route is not None and "restart" in route[0].lower()
    inside, last = "", 0
    for match in PASSAGE.finditer(text):
        entered, left, step = match.groups()
        wrong_link = left is not None and inside not in ("", left)
        wrong_step = step is not None and int(step) not in (1, last + 1)
        if wrong_link or (wrong_step and not (restarted and last == 0)):
            what = match[0].strip()
            raise UnknownLabelError(f"lines are missing before: {what}", what)
        inside, last = entered or inside, int(step or last)
