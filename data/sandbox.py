"""A helper process for untrusted media: it loads its libraries once and forks, with limits, per file."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from data.probe import MediaLimits
from data.records import Failure, SourceFacts
from model.errors import CapacityError, DecodeError, DiskFullError

logger = logging.getLogger(__name__)

DISK_FULL = "DiskFull"
"""The failure that is no fault of the file; its name in a reply of the helper."""


class Reply(NamedTuple):
    """What came back for one file: a value, or why there is none."""

    value: dict[str, Any] | None
    failure: Failure | None


class Sandbox:
    """Runs media tasks in forked children under `limits`; use it as a context manager, from one thread."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        # One thread per library: the helper forks, and parallelism is across files.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        rooms = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "data.sandbox_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, **rooms},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the helper process."""
        for pipe in (self._process.stdin, self._process.stdout):
            # A request that a dead helper never read is flushed here once more.
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, task: str, **arguments: Any) -> Reply:
        """The reply to one task (`probe`, `ingest`, `conform`) with JSON arguments; a bad file is a failure.

        Raises:
            CapacityError: the helper process itself is gone.
            DiskFullError: there is no space for what the task writes.
        """
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        request = {"task": task, "limits": self._limits.model_dump(mode="json"), "arguments": arguments}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = b""
        if not line:
            raise CapacityError(f"the media helper ended with code {self._process.poll()}; is memory short?")
        reply = json.loads(line)
        failure = reply.get("failure")
        if failure is not None and failure["error_class"] == DISK_FULL:
            raise DiskFullError(f"no space is left on the disk ({failure['message']}); free some and try again")
        return Reply(reply.get("value"), None if failure is None else Failure.model_validate(failure))


def probe_file(path: Path, limits: MediaLimits | None = None) -> SourceFacts:
    """The facts of one untrusted file, read in a child process under limits.

    Raises:
        DecodeError: the file cannot be used, or breaks a limit.
    """
    with Sandbox(limits or MediaLimits()) as sandbox:
        reply = sandbox.run("probe", path=str(path))
    if reply.failure is not None:
        raise DecodeError(reply.failure.message)
    return SourceFacts.model_validate(reply.value)
