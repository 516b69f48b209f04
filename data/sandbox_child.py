"""The helper behind `data.sandbox`: reads requests, forks a limited child for each, writes replies.

Run as `python -m data.sandbox_child`. Only the forked child touches a file, so a crash costs that file.
"""

import io
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import av.logging
import cv2
import numpy as np

from data.conform import conformed_image, conformed_video
from data.ingest import IngestConfig, ingest_source, probe_source
from data.probe import MediaLimits, open_untrusted
from data.sandbox import DISK_FULL
from model.errors import is_disk_full
from model.shapes import VideoShape

_PIPE_BYTES = 1 << 16


def main() -> None:
    """Serves requests until the parent closes our standard input."""
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print must not look like a reply
    while line := sys.stdin.buffer.readline():
        reply = serve(json.loads(line))
        try:
            replies.write(reply + b"\n")
            replies.flush()
        except BrokenPipeError:
            return


def serve(request: dict[str, Any]) -> bytes:
    """The reply to one request as JSON: what a forked child wrote, or how that child ended."""
    limits = MediaLimits.model_validate(request["limits"])
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _child(request, limits, write_end)
    os.close(write_end)
    content, timed_out = _read_all(read_end, time.monotonic() + limits.max_wall_s)
    if timed_out:
        os.kill(pid, signal.SIGKILL)
    os.close(read_end)
    _, status = os.waitpid(pid, 0)
    if timed_out:
        return _failure("TimeLimit", f"took longer than max_wall_s={limits.max_wall_s:g}")
    if os.WIFSIGNALED(status):
        return _ended_by_signal(os.WTERMSIG(status), limits)
    if os.WEXITSTATUS(status) or not content:
        return _failure("Crash", f"the reader exited with code {os.WEXITSTATUS(status)}")
    return content


def _read_all(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    """All bytes until the writer closes, and whether the deadline came first."""
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return b"", True
        chunk = os.read(descriptor, _PIPE_BYTES)
        if not chunk:
            return b"".join(chunks), False
        chunks.append(chunk)


def _ended_by_signal(number: int, limits: MediaLimits) -> bytes:
    if number == signal.SIGXCPU:
        return _failure("TimeLimit", f"used more than max_cpu_s={limits.max_cpu_s} of processor time")
    if number == signal.SIGXFSZ:
        return _failure("SizeLimit", f"wrote a file past max_written_bytes={limits.max_written_bytes}")
    return _failure("Crash", f"the reader was ended by {signal.Signals(number).name}")


def _failure(error_class: str, message: str) -> bytes:
    printable = message.encode("utf-8", "backslashreplace").decode()  # file names need not be UTF-8
    failure = {"stage": "ingest", "error_class": error_class, "message": printable}
    return json.dumps({"failure": failure}).encode()


def _child(request: dict[str, Any], limits: MediaLimits, write_end: int) -> NoReturn:
    """Does the task under limits, writes its reply, and leaves without running the helper's own clean-up."""
    # Made while there is memory to make it.
    no_memory = _failure("MemoryLimit", f"needs more than max_address_bytes={limits.max_address_bytes}")
    code = 1
    try:
        _set_limits(limits)
        try:
            content = _answer(request, limits)
        except MemoryError:
            content = no_memory
        while content:
            content = content[os.write(write_end, content) :]
        code = 0
    finally:
        os._exit(code)


def _set_limits(limits: MediaLimits) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, limits.max_address_bytes),
        (resource.RLIMIT_NOFILE, limits.max_open_files),
        (resource.RLIMIT_FSIZE, limits.max_written_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.max_cpu_s, limits.max_cpu_s + 1))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it by default
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())


def _answer(request: dict[str, Any], limits: MediaLimits) -> bytes:
    try:
        value = _TASKS[request["task"]](request["arguments"], limits)
        return json.dumps({"value": value}).encode()
    except MemoryError:
        raise
    except Exception as error:  # whatever a hostile file provokes is that file's failure; a full disk is ours
        is_full = is_disk_full(error)
        return _failure(DISK_FULL if is_full else type(error).__name__, str(error))


def _probe(arguments: dict[str, Any], limits: MediaLimits) -> dict[str, Any]:
    return probe_source(Path(arguments["path"]), limits).model_dump(mode="json")


def _ingest(arguments: dict[str, Any], limits: MediaLimits) -> dict[str, Any]:
    record = ingest_source(
        Path(arguments["path"]),
        arguments["source_id"],
        IngestConfig.model_validate(arguments["config"]),
        limits,
        Path(arguments["clips_dir"]),
    )
    return record.model_dump(mode="json")


def _conform(arguments: dict[str, Any], limits: MediaLimits) -> dict[str, Any]:
    """Writes the frames of a stranger's video or picture as a .npy file; gives their shape."""
    path, shapes = Path(arguments["path"]), [VideoShape(*shape) for shape in arguments["shapes"]]
    if arguments["kind"] == "image":
        frames = conformed_image(path, shapes, max_pixels=limits.max_pixels)
    else:
        frames = conformed_video(
            path, shapes, arguments["fps"], max_frames=arguments["max_frames"],
            max_decoded=limits.max_frames, opener=lambda path: open_untrusted(path, limits),
        )  # fmt: skip
    content = io.BytesIO()  # numpy, writing to a file by itself, does not say that the disk is full
    np.save(content, frames, allow_pickle=False)
    Path(arguments["out"]).write_bytes(content.getbuffer())
    return {"shape": list(frames.shape)}


_TASKS: dict[str, Callable[[dict[str, Any], MediaLimits], dict[str, Any]]] = {
    "probe": _probe,
    "ingest": _ingest,
    "conform": _conform,
}


if __name__ == "__main__":
    main()
