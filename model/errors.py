"""Every error that Skyloom raises on purpose: one base, leaves that also inherit the fitting builtin.

A message says what went wrong, the value, and what to do.
"""

import errno


class SkyloomError(Exception):
    """Base of all deliberate errors; catch it at entry points to print a message instead of a traceback."""


class ConfigError(SkyloomError, ValueError):
    """A setting is out of range or contradicts another."""


class SourceError(SkyloomError, ValueError):
    """A source folder or file cannot be used at all."""


class DecodeError(SkyloomError, ValueError):
    """A media file could not be opened or decoded within its limits."""


class ShardError(SkyloomError, ValueError):
    """A shard, manifest or latent does not match what its digest or header promises."""


class CheckpointError(SkyloomError, RuntimeError):
    """A checkpoint is missing, half-written or damaged."""


class RegistryError(SkyloomError, LookupError):
    """The model registry has no such model, version or alias."""


class RegistryAwayError(RegistryError):
    """The model registry, or the store of its weights, does not answer: the same may well succeed later."""


class CapacityError(SkyloomError, RuntimeError):
    """The machine lacks something that the work needs (memory, GL, a port, a tool)."""


class DiskFullError(CapacityError):
    """There is no space left where something had to be written."""


class StageError(SkyloomError, RuntimeError):
    """A stage of the line could not give a usable result."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, ours or the operating system's, says that no space (or quota) is left."""
    return isinstance(error, DiskFullError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
