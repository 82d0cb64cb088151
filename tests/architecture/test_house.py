"""The house itself: what the wheel holds, which way imports go, what a light import costs, what no file may do."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {  # folder at the root -> package
    "nearward": "nearward",
    "tabular": "nearward.tabular",
    "retrieval": "nearward.retrieval",
    "synth": "nearward.synth",
    "evaluation": "nearward.evaluation",
}
SUBPACKAGES = [folder for folder in PACKAGES if folder != "nearward"]
SOURCES = [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]
HEAVY = ["torch", "faiss", "sklearn", "polars"]
TRAINER = [
    "ensemble.closed_form",
    "in_context.prior",
    "in_context.row_features",
    "in_context.episodes",
    "in_context.model",
    "in_context.pretrain",
]  # run where only numpy and torch are installed


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return run(sys.executable, "-c", code)


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[folder], *(part for part in rest if part != "__init__")])


def imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Every name imported anywhere in a module of ``package``: ``from a.b import c`` gives ``a.b.c``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(given.value) for given in node.args[:1] if isinstance(given, ast.Constant))


def imported_by(path: Path) -> set[str]:
    name = module_name(path)
    return set(imports(ast.parse(path.read_text()), name if path.stem == "__init__" else name.rpartition(".")[0]))


def within(name: str, packages: list[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def test_wheel_holds_every_file(tmp_path: Path) -> None:
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    files = [Path(name) for name in listed if name and (ROOT / name).is_file()]
    source = tmp_path / "source"
    for file in files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source, cwd=tmp_path)

    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = [file for file in files if file.parts[0] in PACKAGES]
    assert held == {"/".join([PACKAGES[file.parts[0]].replace(".", "/"), *file.parts[1:]]) for file in ours}


def test_no_module_loads_twice() -> None:
    code = f"""
import importlib, json, os, sys
for name in {[module_name(path) for path in SOURCES]}:
    importlib.import_module(name)
files = {{n: os.path.realpath(m.__file__) for n, m in sys.modules.items() if getattr(m, "__file__", None)}}
ours = {{file for n, file in files.items() if n.split(".")[0] == "nearward"}}
print(json.dumps([list(sys.modules), sorted((file, n) for n, file in files.items() if file in ours)]))
"""
    loaded, ours = json.loads(python(code))  # at the root, where `import tabular` would find something
    assert [file for file, _ in ours] == sorted(str(path) for path in SOURCES), ours
    assert not {*SUBPACKAGES} & {*loaded}
    assert not {*SUBPACKAGES} & {*sys.modules}, "call pytest, not python -m pytest"


@pytest.mark.parametrize("name", ["nearward", "nearward.cli.main"])
def test_front_door_is_light(name: str) -> None:
    assert python(f"import sys, {name}; print([m for m in {HEAVY} if m in sys.modules])").strip() == "[]"


def test_import_takes_less_than_half_a_second() -> None:
    code = "import time; begin = time.perf_counter(); import nearward; print(time.perf_counter() - begin)"
    assert min(float(python(code)) for _ in range(3)) < 0.5


def test_help() -> None:
    assert "Usage" in run(Path(sys.executable).with_name("nearward"), "--help")


@pytest.mark.parametrize("folder", SUBPACKAGES)
def test_arrows_point_towards_tabular(folder: str) -> None:
    allowed = ["nearward.tabular", f"nearward.{folder}"]
    for path in (ROOT / folder).rglob("*.py"):
        names = imported_by(path)
        banned = ["nearward", *SUBPACKAGES, *(["torch"] if folder == "evaluation" else [])]
        astray = [name for name in names if within(name, banned) and not within(name, allowed)]
        assert not astray, f"{short(path)} imports {astray}"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    called = {ast.unparse(call.func) for call in calls}
    assert not called & {"eval", "exec", "torch.load", "torch.save", "yaml.load"}
    assert not any(keyword.arg == "allow_pickle" for call in calls for keyword in call.keywords)
    banned = ["pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal", "torch.load", "torch.save", "yaml.load"]
    harmless = {"joblib.cpu_count"}
    assert not [name for name in imported_by(path) if within(name, banned) and name not in harmless]


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_no_private_module_of_another_library(path: Path) -> None:
    """It would pin the whole package to one minor version of that library."""
    assert not [name for name in imported_by(path) if not within(name, ["nearward", "__future__"]) and "._" in name]


@pytest.mark.parametrize("name", TRAINER)
def test_trainer_needs_numpy_and_torch_alone(name: str) -> None:
    absent = ["polars", "faiss", "sklearn", "scipy", "typer"]
    python(f"import sys; sys.modules.update(dict.fromkeys({absent})); import nearward.tabular.{name}")


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_size_of_files(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 350, "split it by idea"
    assert lines >= 20 or path.stem == "__init__", "put it where it is used"


def test_folders_hold_at_most_fifteen_modules() -> None:
    modules = Counter(path.parent for path in SOURCES if path.stem != "__init__")
    assert {short(folder): count for folder, count in modules.items() if count > 15} == {}


def arrows() -> dict[str, set[str]]:
    """Return the modules that each module imports, at its top or inside functions."""
    modules = {module_name(path) for path in SOURCES}
    owners = {path: {name if name in modules else name.rpartition(".")[0] for name in imported_by(path)} for path in SOURCES}
    return {module_name(path): (names & modules) - {module_name(path)} for path, names in owners.items()}


def test_no_circle_of_files() -> None:
    TopologicalSorter(arrows()).prepare()  # raises CycleError, which names the circle


def test_no_circle_of_subpackages() -> None:
    """A sub-package is one node; a module that lies beside sub-packages is a node of its own."""
    packages = {module_name(path) for path in SOURCES if path.stem == "__init__"}
    facades = {*PACKAGES.values()}

    def node(module: str) -> str:
        package = module if module in packages else module.rpartition(".")[0]
        return module if package in facades else package

    graph: dict[str, set[str]] = {}
    for module, targets in arrows().items():
        graph.setdefault(node(module), set()).update({node(target) for target in targets} - {node(module)})
    TopologicalSorter(graph).prepare()
