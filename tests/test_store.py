"""The store on a real MongoDB: what goes in comes out, the first insert wins, errors are one line."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from alfw.core.errors import StoreError
from alfw.core.frame import Frame
from alfw.core.records import Label, Run, Theory
from alfw.store import Store, check_connection, connect, run_id

PBE = Theory("toy", {"method": "PBE", "cutoff_eV": 500.0, "k_points": [2, 2, 2]})
CONTEXT = multiprocessing.get_context("spawn")  # a MongoClient does not survive a fork


def ethanol(shift: float = 0.0) -> Frame:
    frame = Frame.from_atoms(molecule("CH3CH2OH"))
    return frame.moved(frame.positions + shift)


def label_of(frame: Frame, energy: float = -1.0, **fields: Any) -> Label:
    return Label(energy=energy, forces=np.full((len(frame), 3), 0.1), **fields)


def rich_frame() -> Frame:
    silicon = bulk("Si", cubic=True)
    return Frame(
        numbers=silicon.numbers,
        positions=silicon.positions + 1e-7,
        cell=np.array(silicon.cell),
        pbc=[True, True, False],
        charge=-1,
        multiplicity=2,
        fixed=np.arange(8) < 3,
        moments=np.linspace(-1, 1, 8),
        masses=np.full(8, 28.5),
    )


def test_frames_come_back_with_the_same_id_and_bits(store: Store) -> None:
    frames = [ethanol(), rich_frame(), ethanol(0.123456789)]
    ids = store.put_frames([*frames, frames[0]])
    assert ids == [frames[0].id, frames[1].id, frames[2].id, frames[0].id]
    for frame, back in zip(frames, store.get_frames(ids[:3]), strict=True):
        assert back.id == frame.id
        for name in ("numbers", "positions", "cell", "pbc", "fixed", "moments", "masses"):
            one, other = getattr(frame, name), getattr(back, name)
            assert (one is None and other is None) or (
                one.dtype == other.dtype and one.tobytes() == other.tobytes()
            )
        assert (back.charge, back.multiplicity) == (frame.charge, frame.multiplicity)
    assert [frame.id for frame in store.get_frames(ids[::-1])] == ids[::-1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    positions=st.lists(st.tuples(*[st.floats(-1e4, 1e4, allow_nan=False)] * 3), min_size=1, max_size=4),
    charge=st.integers(-3, 3),
)
def test_any_frame_keeps_its_id(store: Store, positions: list[tuple[float, ...]], charge: int) -> None:
    frame = Frame(numbers=np.ones(len(positions), int), positions=np.array(positions), charge=charge)
    [key] = store.put_frames([frame])
    assert store.get_frames([key])[0].id == frame.id == key


def test_big_arrays_become_blobs(store: Store) -> None:
    n = 8000
    frame = Frame(numbers=np.full(n, 14), positions=np.random.default_rng(0).normal(size=(n, 3)))
    [key] = store.put_frames([frame])
    document = store.database.alfw_frames.find_one({"_id": key})
    assert set(document["arrays"]) == {"blob"}
    assert store.get_frames([key])[0].id == frame.id
    store.put_label(key, PBE, label_of(frame))
    assert store.get_labels([key], PBE.id)[key][1].forces.shape == (n, 3)


def test_missing_frames_are_named(store: Store) -> None:
    [key] = store.put_frames([ethanol()])
    with pytest.raises(StoreError, match="2 frame.s. not in the database: abc, def"):
        store.get_frames([key, "abc", "def"])


def test_the_first_label_stays(store: Store) -> None:
    [key] = store.put_frames([ethanol()])
    corrections = ({"errors": ["scf"], "actions": [{"level": 2}]},)
    label = label_of(
        ethanol(), -1.0, dipole=np.arange(3.0), corrections=corrections, version="1.2", wall_s=3.5
    )
    assert store.put_label(key, PBE, label) == store.put_label(key, PBE, label_of(ethanol(), -2.0))
    [(_, back)] = store.get_labels([key, "other"], PBE.id).values()
    assert back.energy == -1.0 and back.version == "1.2" and back.wall_s == 3.5 and back.stress is None
    assert back.corrections[0]["actions"] == [{"level": 2}]
    assert np.array_equal(back.dipole, np.arange(3.0))
    assert store.labelled([key, "other"], PBE.id) == {key}
    assert store.labelled([key], "other theory") == set()
    assert store.get_theory(PBE.id).id == PBE.id


def test_a_label_with_everything_and_one_of_an_older_version(store: Store) -> None:
    frames = [ethanol(), ethanol(0.1), ethanol(0.2)]
    keys = store.put_frames(frames)
    changes = {"smearing_eV": 0.1, "scf": {"eps.scf": 1e-5, "none": None, "list": [1, 2.5]}}
    rich = label_of(
        frames[0],
        s_squared=0.7512,
        esp=np.arange(2.0),
        esp_points=np.ones((2, 3)),
        changes=changes,
        confirmed=True,
    )
    store.put_labels(
        PBE, {keys[0]: rich, keys[1]: label_of(frames[1])}, compositions={keys[0]: "x", keys[1]: "x"}
    )
    store.put_label(keys[2], PBE, label_of(frames[2], -3.0))
    back = {key: label for key, (_, label) in store.get_labels(keys, PBE.id).items()}
    assert (back[keys[0]].s_squared, back[keys[0]].confirmed) == (0.7512, True)
    assert back[keys[0]].changes == changes
    assert np.array_equal(back[keys[0]].esp, rich.esp) and back[keys[0]].esp_points.shape == (2, 3)
    assert (back[keys[1]].s_squared, back[keys[1]].changes, back[keys[1]].confirmed) == (None, {}, False)
    assert back[keys[1]].esp is None
    records = store.database.alfw_labels
    for name in (
        "changes",
        "confirmed",
        "surface",
        "composition",
    ):  # as a database of an older version has it
        records.update_one({"frame": keys[1]}, {"$unset": {name: ""}})
    assert store.get_labels([keys[1]], PBE.id)[keys[1]][1].changes == {}
    surface = records.find_one({"frame": keys[0]})["surface"]
    assert surface != PBE.id and store.get_theory(surface).settings == {**PBE.settings, **changes}
    assert records.find_one({"frame": keys[2]})["surface"] == PBE.id
    assert store.label_energies(PBE.id, "x") == [-1.0] and store.label_energies(PBE.id, "y") == []
    run = Run({"a": b"b"}, changes=changes)
    store.put_run("f", PBE.id, 1, run)
    assert store.get_run(run_id("f", PBE.id, 1)).changes == changes
    store.database.alfw_runs.update_one({}, {"$unset": {"changes": "", "partial": ""}})
    assert store.get_runs(["f"], PBE.id)["f"][1].changes == {}


def test_partial_runs_are_kept_and_never_judged(store: Store) -> None:
    store.put_run("f", PBE.id, 1, Run({"out": b"good"}))
    store.put_run("f", PBE.id, 2, Run({"out": b"cut off", "chk": b"orbitals"}), partial=True)
    store.put_run("g", PBE.id, 1, Run({"out": b"cut off"}), partial=True)
    assert store.attempts(["f", "g", "h"], PBE.id) == {"f": (2, 1), "g": (1, None)}
    assert {frame: attempt for frame, (attempt, _) in store.get_runs(["f", "g"], PBE.id).items()} == {"f": 1}
    assert store.get_run(run_id("f", PBE.id, 2)).files["chk"] == b"orbitals"
    with pytest.raises(StoreError, match="run not in the database"):
        store.get_run("nothing")


def test_labels_are_per_theory_and_come_with_their_frames(store: Store) -> None:
    frames = [ethanol(), rich_frame()]
    keys = store.put_frames(frames)
    other = Theory("toy", {"method": "HF"})
    hf = store.put_labels(other, {key: label_of(f, -5.0) for key, f in zip(keys, frames, strict=True)})
    pbe = store.put_labels(PBE, {keys[0]: label_of(frames[0], -6.0)})
    both = store.get_labeled([pbe[keys[0]], hf[keys[1]], hf[keys[0]]])
    assert [item.label.energy for item in both] == [-6.0, -5.0, -5.0]
    assert [item.frame.id for item in both] == [keys[0], keys[1], keys[0]]
    with pytest.raises(StoreError, match="label"):
        store.get_labeled(["nothing"])


def test_runs_keep_the_first_output_of_each_attempt(store: Store) -> None:
    output = {"out.txt": b"energy\n" * 9, "empty": b""}
    big = {"big.bin": np.random.default_rng(0).bytes(400_000)}
    assert store.put_run("f", PBE.id, 0, Run(output, wall_s=1.0, host="h")) == run_id("f", PBE.id, 0)
    store.put_run("f", PBE.id, 0, Run({"out.txt": b"later"}))
    attempt, run = store.get_runs(["f"], PBE.id)["f"]
    assert (attempt, dict(run.files), run.host) == (0, output, "h")
    store.put_runs(PBE.id, {"f": (1, Run(big)), "g": (0, Run(output))})
    runs = store.get_runs(["f", "g", "nothing"], PBE.id)
    assert {frame: attempt for frame, (attempt, _) in runs.items()} == {"f": 1, "g": 0}
    assert dict(runs["f"][1].files) == big
    assert store.attempts(["f", "g", "nothing"], PBE.id) == {"f": (1, 1), "g": (0, 0)}
    assert set(store.database.alfw_runs.find_one({"frame": "f", "attempt": 1})["output"]) == {"blob"}


def test_failures_bind_their_campaign_only(store: Store) -> None:
    what = {"theory_id": PBE.id, "signature": "SCF NOT CONVERGED", "corrections": [], "message": "m"}
    store.put_failure("a", "f", attempt=1, failure_class="WALLTIME", final=False, **what)
    store.put_failure("a", "f", attempt=2, failure_class="SCF_NOT_CONVERGED", final=True, **what)
    store.put_failure(
        "a", "f", attempt=2, failure_class="OTHER", final=True, **what
    )  # a rerun of the same attempt
    assert store.final_failures("a", ["f", "g"], PBE.id)["f"]["class"] == "SCF_NOT_CONVERGED"
    assert store.final_failures("b", ["f"], PBE.id) == {}
    assert [one["attempt"] for one in store.failures("a", ["f"], PBE.id)] == [1, 2]
    assert store.failure_counts("a") == {"SCF_NOT_CONVERGED": 1, "WALLTIME": 1}
    assert store.failure_counts("a", final=True) == {"SCF_NOT_CONVERGED": 1}
    [final] = store.all_final_failures("a")
    assert store.reopen_failures({final["_id"]: 3}) == 1
    assert store.reopen_failures({final["_id"]: 5}) == 0  # once
    assert store.final_failures("a", ["f"], PBE.id) == {} and store.all_final_failures("a") == []
    assert [one["reopened"]["claimed"] for one in store.all_final_failures("a", reopened=True)] == [3]
    assert store.failure_counts("a", final=True) == {}
    newest = {"newest": final["_id"]}
    assert store.failure_table("a")["SCF_NOT_CONVERGED"] == {"final": 0, "retried": 0, "reopened": 1} | newest
    assert store.failure_table("a")["WALLTIME"]["retried"] == 1 and store.failure_table("b") == {}


def test_the_first_result_wins_whatever_the_loser_brings(store: Store) -> None:
    def commit(i: int) -> dict[str, Any]:
        return store.commit_result(
            "c", 3, "train", part=1, outputs={"blob": f"sha{i}"}, metrics={"rmse": np.float64(i)}
        )

    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(commit, range(16)))
    assert len({document["outputs"]["blob"] for document in documents}) == 1
    assert store.get_result("c", 3, "train", 1)["outputs"] == documents[0]["outputs"]
    assert store.get_result("c", 3, "train", 0) is None
    store.commit_result("c", 3, "train", part=0)
    assert [result["part"] for result in store.get_results("c", 3, "train")] == [0, 1]


def test_what_cannot_be_stored_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"outputs\.a\[1\]\.b is a object"):
        store.commit_result("c", 0, "start", outputs={"a": [1, {"b": object()}]})
    assert store.get_results("c") == []
    document = store.commit_result(
        "c", 0, "start", outputs={"path": Path("/x"), "n": np.int64(3), "t": (1, 2)}
    )
    assert document["outputs"] == {"path": "/x", "n": 3, "t": [1, 2]}


def test_campaigns_rounds_and_their_states(store: Store) -> None:
    document, new = store.insert_campaign("c", {"seed": 1}, "id1", {"alfw": "0"})
    assert new and document["state"] == "running"
    document, new = store.insert_campaign("c", {"seed": 2}, "id2", {"alfw": "0"})
    assert not new and document["revisions"][0]["config"] == {"seed": 1}
    assert store.set_state("c", "paused", "licence")["reason"] == "licence"
    with pytest.raises(StoreError, match="unknown state 'asleep'"):
        store.set_state("c", "asleep")
    with pytest.raises(StoreError, match="no campaign 'd' in the database; known: c"):
        store.get_campaign("d")
    assert len(store.add_revision("c", 2, {"seed": 3}, "id3", {})["revisions"]) == 2
    with pytest.raises(StoreError, match="at revision 2, not 1"):
        store.add_revision("c", 2, {"seed": 4}, "id4", {})
    assert store.open_round("c", 0, revision=1, claimed_by=7)["claimed_by"] == 7
    assert store.open_round("c", 0, revision=2, claimed_by=8)["claimed_by"] == 7
    assert store.register_workflow("c", 0, expected=None, token="x")
    assert not store.register_workflow("c", 0, expected=None, token="y")
    assert store.register_workflow("c", 0, expected="x", token="y")
    assert store.close_round("c", 0, {"continue": True})["decision"] == {"continue": True}
    assert store.close_round("c", 0, {"continue": False})["decision"] == {"continue": True}
    assert [one["number"] for one in store.rounds("c")] == [0]
    assert store.get_round("c", 1) is None


def test_candidates_datasets_and_ensembles(store: Store) -> None:
    rows = [{"frame": "f", "source": "jaxmd", "step": 5}, {"frame": "g", "source": "audit", "step": 6}]
    assert store.put_candidates("c", 1, rows) == store.put_candidates(
        "c", 1, [{**row, "step": 0} for row in rows]
    )
    store.set_candidate_states("c", 1, {"f": ("labeled", ""), "g": ("failed", "SCF")})
    assert [(one["step"], one["why"]) for one in store.get_candidates("c", 1, "failed")] == [(6, "SCF")]
    first = store.put_dataset(None, {"l1": {"side": "train"}, "l2": {"side": "test", "region": "hot"}})
    second = store.put_dataset(first, {"l3": {"side": "valid"}, "l1": {"side": "test"}})
    assert store.get_dataset(second)["version"] == 2
    entries = store.dataset_entries(second)
    assert {key: entry["side"] for key, entry in entries.items()} == {
        "l1": "train",
        "l2": "test",
        "l3": "valid",
    }
    store.put_ensemble("e", {"seeds": [1, 2]})
    assert store.put_ensemble("e", {"seeds": [3]})["seeds"] == [1, 2] == store.get_ensemble("e")["seeds"]
    store.put_member("e", 1, {"blob": "b1"})
    store.put_member("e", 0, {"blob": "b0"})
    assert store.put_member("e", 0, {"blob": "late"})["blob"] == "b0"
    assert [member["blob"] for member in store.get_members("e")] == ["b0", "b1"]
    store.put_checkpoint("e", 0, "new", step=20)
    store.put_checkpoint("e", 0, "old", step=10)
    assert store.get_checkpoint("e", 0) == ("new", 20)
    assert store.get_checkpoint("e", 1) is None


def test_a_record_is_found_by_the_start_of_its_id(store: Store) -> None:
    [key] = store.put_frames([ethanol()])
    assert [kind for kind, _ in store.lookup(key[:10])] == ["frame"]
    assert store.lookup(".*") == []


def _put_label(uri: str, name: str, energy: float) -> str:
    store = connect(uri, name)
    [key] = store.put_frames([ethanol()])
    return store.put_label(key, PBE, label_of(ethanol(), energy))


def test_processes_that_race_end_with_one_label(store: Store, mongodb_uri: str) -> None:
    with CONTEXT.Pool(2) as pool:
        ids = pool.starmap(_put_label, [(mongodb_uri, store.database.name, float(i)) for i in range(6)])
    assert len(set(ids)) == 1
    assert (
        store.database.alfw_labels.count_documents({}) == store.database.alfw_frames.count_documents({}) == 1
    )


def test_indexes_are_made_once(database: Database[dict[str, Any]]) -> None:
    store = Store(database)
    for _ in range(2):
        store.ensure_indexes()
    assert "theory_1_frame_1" in database.alfw_labels.index_information()


def test_one_client_for_each_uri(mongodb_uri: str) -> None:
    one, other = connect(mongodb_uri, "alfw_test_a"), connect(mongodb_uri, "alfw_test_b")
    assert one.database.client is other.database.client
    check_connection(one)


def test_an_unreachable_database_is_named_without_its_password() -> None:
    store = connect("mongodb://user:secret@127.0.0.1:1/name", timeout_s=0.2)
    for action in (lambda: store.get_blob("x"), lambda: check_connection(store, 0.2)):
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/name.*alfw db start") as caught:
            action()
        assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    store.database.client.close()


@pytest.mark.parametrize("uri", ["nonsense", "mongodb://127.0.0.1:1"])
def test_a_uri_without_a_database_is_refused(uri: str) -> None:
    with pytest.raises(StoreError, match="MongoDB URI"):
        connect(uri)


def test_the_store_of_a_launchpad_survives_its_reset(launchpad: Any) -> None:
    store = Store.from_launchpad(launchpad)
    sha = store.put_blob(b"kept")
    launchpad.reset("", require_password=False, max_reset_wo_password=10**6)
    assert store.get_blob(sha) == b"kept"
