"""The layers of the library and its budgets, from one table; and that this test finds what it looks for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "alfw"
# A module imports what is lower, or its own folder; what shares a number does not know each other.
RANK = {
    **{"core": 0, "fw_templates": 0, "io": 1},
    **dict.fromkeys(("config", "models", "samplers", "selectors", "labelers", "store"), 2),
    **{"steps": 3, "workflow": 4, "firetasks": 5},
    **dict.fromkeys(("cli", "compat", "web"), 6),
    "testing": 7,
}
# Slow to import or optional: only at the top of modules whose name starts with "_", which are loaded when needed.
HEAVY = {
    *("jax", "jaxlib", "jax_md", "flax", "optax", "equinox", "jraph", "torch"),
    *("nequix", "e3nn_jax", "e3nn", "e3x", "pyscf", "tblite", "custodian", "pymatgen"),
}
# Packages that belong to some parts alone.
ONLY = {
    "fireworks": {"workflow", "firetasks", "web", "cli"},
    "pymongo": {"store"},
    "gridfs": {"store"},
    "bson": {"store"},
    "custodian": {"labelers"},
}
FILE_LINES, BODY_LINES = 300, 40
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def faults(root: Path) -> list[str]:
    """What is wrong in the package at `root`, one line each: ``path:line: what``."""
    files = sorted(root.rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    heavy = heavy_modules(root, trees)
    found = []
    for path, tree in trees.items():
        problems = [*layers(root, path, tree, heavy), *budgets(path, tree), *habits(tree)]
        found += [f"{path.relative_to(root.parent)}:{line}: {what}" for line, what in problems]
    return found


def layers(root: Path, path: Path, tree: ast.Module, heavy: set[str]) -> Iterator[tuple[int, str]]:
    """Imports that do not point down, and packages in the wrong place."""
    me, private = part(module_name(root, path)), is_private(path)
    if me and me not in RANK:
        yield 1, f"{me} has no layer"
        return
    top = {id(node) for node in tree.body}
    for node, name in imports(root, path, tree):
        package = name.partition(".")[0]
        if package == root.name:
            other = part(name)
            if other and other != me and me and RANK.get(other, 99) >= RANK[me]:
                yield node.lineno, f"{me} must not import {other}"
            if name in heavy and not private and not isinstance(node, ast.Call):
                yield node.lineno, f"{name} is heavy: load it through registry.private"
        if package in HEAVY and not (private and id(node) in top):
            yield node.lineno, f"{package} only at the top of a module whose name starts with _"
        if package in ONLY and me not in ONLY[package] | {"testing"}:
            yield node.lineno, f"{package} only in {', '.join(sorted(ONLY[package]))}"


def imports(root: Path, path: Path, tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """All imports anywhere in a module as (node, full name); ``private("alfw.x._y", …)`` is one, too."""
    here = module_name(root, path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield node, full if exists(root, full) else module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function, name = ast.unparse(node.func).split(".")[-1], node.args[0].value
            if function in ("private", "import_module") and isinstance(name, str):
                yield node, name


def heavy_modules(root: Path, trees: dict[Path, ast.Module]) -> set[str]:
    """Private modules that load a heavy package, themselves or through another private module."""
    private = {module_name(root, path): path for path in trees if is_private(path)}
    loads = {
        name: {target for _, target in imports(root, path, trees[path])} for name, path in private.items()
    }
    heavy = {name for name, targets in loads.items() if any(t.partition(".")[0] in HEAVY for t in targets)}
    while more := {name for name, targets in loads.items() if targets & heavy} - heavy:
        heavy |= more
    return heavy


def budgets(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Files and functions that are too long; docstrings of functions do not count."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > FILE_LINES:
        yield lines, f"file of {lines} lines, at most {FILE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, FUNCTION):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if length > BODY_LINES:
                yield node.lineno, f"body of {node.name} has {length} lines, at most {BODY_LINES}"


def habits(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """print, assert, and public functions without docstring or types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert vanishes under python -O: raise an AlfwError"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "print in the library"
    if ast.get_docstring(tree) is None:
        yield 1, "module without docstring"
    for node in public(tree.body):
        if ast.get_docstring(node) is None:
            yield node.lineno, f"{node.name} has no docstring"
        if isinstance(node, FUNCTION) and not is_typed(node):
            yield node.lineno, f"{node.name} is not typed"


def public(body: list[ast.stmt]) -> Iterator[FUNCTION | ast.ClassDef]:
    """Public functions, classes and methods; what is inside functions is nobody else's."""
    for node in body:
        if isinstance(node, FUNCTION | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def is_typed(node: FUNCTION) -> bool:
    """Whether all arguments but self and cls, and the result, have a type."""
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    missing = [
        a.arg for a in arguments if a is not None and a.annotation is None and a.arg not in ("self", "cls")
    ]
    return node.returns is not None and not missing


def module_name(root: Path, path: Path) -> str:
    """``alfw.core.frame`` of ``…/alfw/core/frame.py``."""
    names = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def part(name: str) -> str:
    """``core`` of ``alfw.core.frame``; nothing for alfw itself."""
    return (name.split(".") + [""])[1]


def is_private(path: Path) -> bool:
    """Whether a module's name starts with one underscore."""
    return path.name.startswith("_") and path.name != "__init__.py"


def exists(root: Path, name: str) -> bool:
    """Whether this full name is a module or package of the library."""
    path = root.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def test_the_library_keeps_its_layers_and_budgets() -> None:
    assert not faults(LIBRARY), "\n".join(faults(LIBRARY))


GOOD = '''"""Module."""


def f(x: int) -> int:
    """Next."""
    return x + 1
'''
PLANTED = {
    "heavy package in a public module": ("models/m.py", "import jax", "jax only at the top"),
    "heavy package inside a function": (
        "models/m.py",
        "def _f():\n    import torch",
        "torch only at the top",
    ),
    "heavy package inside a private function": (
        "models/_m.py",
        "def _f():\n    import jax",
        "jax only at the top",
    ),
    "heavy module imported directly": ("models/m.py", "from alfw.models import _heavy", "_heavy is heavy"),
    "heavy module, second hand": ("models/m.py", "from alfw.models._second import f", "_second is heavy"),
    "sampler knows a model": (
        "samplers/s.py",
        "from alfw.models.good import f",
        "samplers must not import models",
    ),
    "relative import of a sibling": (
        "samplers/s.py",
        "from ..models import good",
        "samplers must not import models",
    ),
    "sibling by private": (
        "samplers/s.py",
        'M = private("alfw.models._heavy", "m")',
        "samplers must not import models",
    ),
    "step imports a Firetask": ("steps/s.py", "import alfw.firetasks", "steps must not import firetasks"),
    "core imports io": ("core/c.py", "from alfw.io import good", "core must not import io"),
    "pymongo outside the store": ("steps/s.py", "from pymongo import MongoClient", "pymongo only in store"),
    "gridfs outside the store": ("cli/c.py", "import gridfs", "gridfs only in store"),
    "fireworks in a step": ("steps/s.py", "from fireworks import LaunchPad", "fireworks only in"),
    "fireworks in the store": ("store/s.py", "import fireworks", "fireworks only in"),
    "custodian in a sampler": ("samplers/_s.py", "import custodian", "custodian only in labelers"),
    "custodian in a public labeler": ("labelers/o.py", "import custodian", "custodian only at the top"),
    "part without a layer": ("extras/e.py", "X = 1", "extras has no layer"),
    "print": ("io/i.py", "print(1)", "print in the library"),
    "assert": ("io/i.py", "assert 1", "assert vanishes"),
    "long file": ("io/i.py", "X = 1\n" * 301, "file of"),
    "long function": ("io/i.py", "def _f():\n" + "    x = 1\n" * 41, "body of _f has 41 lines"),
    "no docstring": ("io/i.py", "def f() -> None:\n    pass", "f has no docstring"),
    "method without docstring": (
        "io/i.py",
        'class A:\n    """A."""\n\n    def f(self) -> None:\n        pass',
        "f has no docstring",
    ),
    "argument without type": ("io/i.py", 'def f(x) -> None:\n    """F."""', "f is not typed"),
    "result without type": ("io/i.py", 'def f(x: int):\n    """F."""', "f is not typed"),
}
TREE = {
    "__init__.py": '"""Package."""',
    "core/good.py": GOOD,
    "io/good.py": GOOD + "\n\nfrom alfw.core.good import f as g\n",
    "models/good.py": GOOD + '\n\nM = private("alfw.models._heavy", "m")\n',
    "models/_heavy.py": GOOD + "\n\nimport jax\n",
    "models/_second.py": GOOD + "\n\nfrom alfw.models._heavy import f as g\n",
    "labelers/_run.py": GOOD + "\n\nimport custodian\n",
    "store/good.py": GOOD + "\n\nimport pymongo\n",
    "steps/good.py": GOOD + "\n\nfrom alfw.models.good import f as g\nfrom alfw.store import good\n",
    "workflow.py": GOOD + "\n\nfrom alfw import steps\n\nimport fireworks\n",
    "firetasks.py": GOOD + "\n\nfrom alfw.workflow import f as g\n",
    "testing.py": GOOD + "\n\nfrom alfw.firetasks import f as g\nimport pymongo\n",
}


def plant(folder: Path, files: dict[str, str]) -> Path:
    """A package with these files."""
    for name, text in files.items():
        path = folder / "alfw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "alfw"


def test_a_good_tree_has_no_faults(tmp_path: Path) -> None:
    long_docstring = '"""Module."""\n\n\ndef f() -> None:\n    """F.\n' + "    word\n" * 60 + '    """\n'
    assert faults(plant(tmp_path, TREE | {"io/long.py": long_docstring})) == []


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_fault_is_found(tmp_path: Path, case: str) -> None:
    path, text, expected = PLANTED[case]
    found = faults(plant(tmp_path, TREE | {path: f'"""Module."""\n\n{text}\n'}))
    assert any(line.startswith(f"alfw/{path}:") and expected in line for line in found), found
    assert all(line.startswith(f"alfw/{path}:") for line in found), found
