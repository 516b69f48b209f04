"""Where the files of finished videos lie: a folder per job, in it one per attempt, named by the attempt's fence."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

from serving.store.tables import Job

Variant: TypeAlias = Literal["video", "thumbnail", "spritesheet"]
FILE_NAMES: dict[Variant, str] = {
    "video": "video.mp4",
    "thumbnail": "thumbnail.webp",
    "spritesheet": "spritesheet.jpg",
}
MEDIA_TYPES: dict[Variant, str] = {"video": "video/mp4", "thumbnail": "image/webp", "spritesheet": "image/jpeg"}


class VideoStorage:
    """The result files below one folder; every path comes from a row of the job table, never from a request."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def attempt_folder(self, job: Job, fence: int) -> Path:
        """Where the attempt with this fence writes: no other attempt writes there."""
        return self._root / job.id / str(fence)

    def path(self, job: Job, variant: Variant) -> Path:
        """A file of a completed job."""
        return self.attempt_folder(job, job.fence) / FILE_NAMES[variant]

    def discard_attempt(self, job: Job, fence: int) -> None:
        """Removes what one attempt wrote; fine when it wrote nothing."""
        shutil.rmtree(self.attempt_folder(job, fence), ignore_errors=True)
        with suppress(OSError):  # not there, or holding what another attempt wrote
            (self._root / job.id).rmdir()

    def keep_only(self, job: Job, fence: int) -> None:
        """Removes what other attempts of the job left."""
        for folder in self._attempts(job):
            if folder.name != str(fence):
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self, job: Job) -> None:
        """Removes every file of the job."""
        shutil.rmtree(self._root / job.id, ignore_errors=True)

    def _attempts(self, job: Job) -> list[Path]:
        folder = self._root / job.id
        return list(folder.iterdir()) if folder.is_dir() else []
