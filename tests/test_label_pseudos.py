"""Pseudopotential files: pinned when the campaign is added, verified on the worker."""

import gzip
import hashlib

import pytest
from pydantic import BaseModel, ValidationError

from alfw.core.errors import BasisError, DataError, ExecutableError
from alfw.core.frame import Frame
from alfw.labelers._pseudos import Pseudopotentials, check_pseudos, pinned, stated, verified

SILICON, OXYGEN = b"silicon", b"oxygen"
DIGEST = hashlib.sha256(SILICON).hexdigest()


class Options(BaseModel):
    pseudopotentials: Pseudopotentials
    pseudo_dir: str | None = None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pseudo" / "O").mkdir(parents=True)
    (tmp_path / "pseudo" / "Si.upf").write_bytes(SILICON)
    (tmp_path / "pseudo" / "O" / "O.upf.gz").write_bytes(gzip.compress(OXYGEN))
    return tmp_path


def options(folder="pseudo", **entries):
    return {"kind": "espresso", "pseudo_dir": folder, "pseudopotentials": entries or {"Si": "Si.upf"}}


def parsed(raw):
    return Options.model_validate({k: v for k, v in raw.items() if k != "kind"})


def test_files_are_pinned_by_content_and_the_folder_becomes_absolute(folder):
    found = pinned(options(Si="Si.upf", O={"file": "O/O.upf.gz"}), folder)
    assert found["pseudopotentials"] == {
        "Si": {"file": "Si.upf", "sha256": DIGEST},
        "O": {"file": "O/O.upf.gz", "sha256": hashlib.sha256(OXYGEN).hexdigest()},
    }
    assert found["pseudo_dir"] == str(folder / "pseudo")
    assert found["kind"] == "espresso"
    assert pinned(found, folder / "elsewhere") == found  # once more changes nothing


def test_what_lies_on_workers_only_has_to_be_stated(folder):
    entry = {"file": "Si.upf", "sha256": DIGEST}
    for place in (">>pseudo_dir<<", "/not/here"):
        assert pinned(options(place, Si=entry), folder) == options(place, Si=entry)
        with pytest.raises(
            DataError, match=r"^pseudopotentials\.Si: .*state .file: Si\.upf, sha256"
        ) as caught:
            pinned(options(place, Si="Si.upf"), folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("C.upf", "cannot read .*C.upf: No such file"),
        ({"file": "Si.upf", "sha256": "0" * 64}, "has sha256 .*, stated is 000000000000"),
        ("Si.upf.gz", "Not a gzipped file"),
    ],
)
def test_a_file_that_is_missing_or_another_one_is_refused(folder, entry, message):
    (folder / "pseudo" / "Si.upf.gz").write_bytes(SILICON)
    with pytest.raises(DataError, match=message):
        pinned(options(Si=entry), folder)


@pytest.mark.parametrize(
    "entries", [{"Xx": "a"}, {"X": "a"}, {"Si": {"file": ""}}, {"Si": 3}, {"Si": {"name": "a"}}]
)
def test_wrong_entries_are_left_to_validation(folder, entries):
    with pytest.raises((ValidationError, DataError)):
        parsed(pinned(options(**entries), folder))
    with pytest.raises(ValidationError):
        parsed(options(**entries))


def test_the_theory_says_where_nothing_was_pinned(folder):
    assert stated(parsed(options()).pseudopotentials) == {"Si": {"file": "Si.upf", "sha256": "not stated"}}
    pins = stated(parsed(pinned(options(), folder)).pseudopotentials)
    assert pins == {"Si": {"file": "Si.upf", "sha256": DIGEST}}


def test_workers_get_the_pinned_content_wherever_they_have_it(folder):
    pins = parsed(pinned(options(Si="Si.upf", O="O/O.upf.gz"), folder)).pseudopotentials
    (folder / "pseudo").rename(folder / "moved")
    found = verified(pins, str(folder / "moved"), ["O", "Si", "O"])
    assert found == {"O": OXYGEN, "Si": SILICON}


def test_a_worker_with_other_files_pauses(folder):
    pins = parsed(pinned(options(), folder)).pseudopotentials
    place = folder / "pseudo"
    with pytest.raises(ExecutableError, match="cannot read .*correct `pseudo_dir`"):
        verified(pins, str(folder), ["Si"])
    (place / "Si.upf").write_bytes(b"Silicon")
    with pytest.raises(ExecutableError, match=f"the campaign wants {DIGEST[:12]}"):
        verified(pins, str(place), ["Si"])
    assert verified(parsed(options()).pseudopotentials, str(place), ["Si"]) == {
        "Si": b"Silicon"
    }  # not pinned


def test_an_element_without_one_is_refused(folder):
    pins = parsed(options()).pseudopotentials
    quartz = Frame(numbers=[14, 8, 8], positions=[[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    with pytest.raises(BasisError, match="for O: name its file"):
        check_pseudos(quartz, pins)
    with pytest.raises(BasisError, match="for O"):
        verified(pins, str(folder / "pseudo"), ["Si", "O"])
