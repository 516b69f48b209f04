"""The rules that hold the rooms apart, where a linter cannot see them."""

import ast
import importlib.util
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("model", "data", "training", "serving", "flows")
HEAVY = ("torch", "ray", "mlflow", "transformers", "diffusers", "mujoco")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_this_repository_s(room):
    spec = importlib.util.find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / room / "__init__.py"


def test_no_other_distribution_owns_a_room_s_name():
    owners = packages_distributions()
    assert {room: set(owners.get(room, ["skyloom"])) for room in ROOMS} == {room: {"skyloom"} for room in ROOMS}


def test_no_module_is_named_like_a_room_a_dependency_or_the_standard_library():
    taken = set(sys.stdlib_module_names) | set(packages_distributions()) | set(ROOMS)
    # a module inside a room cannot hide a top-level one as long as no room's folder is on sys.path, but a reader trips
    clashes = [str(path.relative_to(ROOT)) for path in MODULES if path.parent.name in ROOMS and path.stem in taken]
    assert clashes == []


def test_tests_are_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_git_ignores_no_room():
    paths = [f"{room}/__init__.py" for room in ROOMS]
    found = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == "", "Ray leaves out of its working_dir what git ignores"


def test_flow_files_hold_no_ray_tasks():
    guilty = [
        path.name
        for path in MODULES
        if path.is_relative_to(ROOT / "flows")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or node.names[0].name]
        if name.split(".")[0] == "ray"
    ]
    assert guilty == []


@pytest.mark.parametrize(
    "module", ["flows.cli", "flows.recipes", "flows.runner", "flows.receipts", "flows.line", "flows.encode"]
)
def test_flows_load_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_needs_no_orchestrator():
    code = "import sys, flows.cli; flows.cli.main(['--help']); print('prefect' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.rstrip().endswith("False")


def test_files_and_functions_stay_short():
    long_files = {
        str(path.relative_to(ROOT)): size for path in MODULES if (size := len(path.read_text().splitlines())) > 300
    }
    long_functions = {
        f"{path.relative_to(ROOT)}:{node.name}": size
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or node.lineno) - node.lineno + 1) > 60
    }
    assert (long_files, long_functions) == ({}, {})


def test_prefect_entry_points_are_module_paths():
    lines = (ROOT / "prefect.yaml").read_text().splitlines()
    entries = [line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("entrypoint:")]
    assert entries
    for entry in entries:
        module, _, name = entry.partition(":")
        assert ".py" not in entry
        assert importlib.util.find_spec(module) is not None
        assert name in (ROOT / f"{module.replace('.', '/')}.py").read_text()
