"""A model that paints a colour per seed, and the server's parts around it; only the networks are missing."""

import io
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from model.errors import RegistryError
from model.plan import Piece, Task
from model.sampling_options import SamplingOptions
from model.shapes import Compression, VideoShape
from model.tasks import Generate, Image
from model.tiny import save_tiny_pipeline
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.engine import LoadedModel
from serving.limits import ModelFacts
from serving.registry import RegisteredModel
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.worker import Worker


class Step(NamedTuple):
    """Progress of the painter."""

    step: int
    num_steps: int


class Painter:
    """Fills the frames with a colour that the seed decides; calls `on_step` after each step."""

    fps = 8.0
    compression = Compression()

    def __init__(self) -> None:
        self.on_step: Callable[[int], None] = lambda step: None
        self.prompts: list[str] = []
        self.batches: list[int] = []

    def stream(self, task: Task, *, seeds: Sequence[int], options: SamplingOptions) -> Iterator[Step | Piece]:
        """Yields after each step, then the frames in pieces of four."""
        assert isinstance(task, Generate | Image)
        shape = task.shape if isinstance(task, Generate) else (1, task.height, task.width)
        self.prompts.append(task.prompt)
        num_steps = options.num_steps or 3
        for step in range(1, num_steps + 1):
            self.on_step(step)
            yield Step(step, num_steps)
        videos = self._paint(shape, seeds)
        for begin in range(0, len(videos[0]), 4):
            yield Piece([video[begin : begin + 4] for video in videos])

    def generate(
        self, prompts: Sequence[str], shape: VideoShape, *, seeds: Sequence[int], options: SamplingOptions
    ) -> Generator[Step, None, list[np.ndarray]]:
        """As `stream`, in one batch and one piece."""
        self.prompts += prompts
        self.batches.append(len(prompts))
        num_steps = options.num_steps or 3
        for step in range(1, num_steps + 1):
            self.on_step(step)
            yield Step(step, num_steps)
        return self._paint(shape, seeds)

    def _paint(self, shape: tuple[int, ...], seeds: Sequence[int]) -> list[np.ndarray]:
        colours = [np.random.default_rng(seed).integers(0, 256, 3) for seed in seeds]
        return [np.broadcast_to(colour, (*shape, 3)).astype(np.uint8) for colour in colours]


class Shelf:
    """A registry of one model; tests move its alias by setting `version`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version: str | None = "1"
        self.fetched: list[str] = []

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The version on the shelf."""
        if self.version is None:
            raise RegistryError(f"no version has the alias {alias}")
        return RegisteredModel(name, self.version, f"digest-{self.version}", "dataset")

    def versions(self, name: str) -> Sequence[RegisteredModel]:
        """None that could be named: the shelf has no files."""
        return ()

    def fetch(self, model: RegisteredModel, part: str = "") -> Path:
        """Any folder: the painter needs none."""
        self.fetched.append(model.name)
        return self.folder / part

    def clear(self, model: RegisteredModel) -> None:
        """Nothing was copied."""


class Store:
    """A real MLflow store in a folder; making one takes seconds, so tests share it under names of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = f"sqlite:///{root / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self._experiment = self.client.create_experiment("serving", artifact_location=(root / "artifacts").as_uri())
        self._names: set[str] = set()

    def register(self, name: str, *, seed: int = 0, digest: str | None = None) -> str:
        """The version of a newly registered tiny model, which is champion now."""
        if name not in self._names:
            self._names.add(name)
            self.client.create_registered_model(name)
        folder = self.root / f"pipeline-{seed}"
        saved = save_tiny_pipeline(folder, seed)
        tags = {"weights_digest": digest or saved, "dataset_id": "d"}
        logged = self.client.create_logged_model(self._experiment, name=name)
        self.client.log_model_artifacts(logged.model_id, str(folder))
        self.client.finalize_logged_model(logged.model_id, "READY")
        made = self.client.create_model_version(name, source=logged.artifact_location, tags=tags)
        self.client.set_registered_model_alias(name, "champion", made.version)
        return str(made.version)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """A real PostgreSQL server, reached through a socket file: each call makes a new database and gives its URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL here: bash infra/debian.sh postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    is_root = os.geteuid() == 0  # as root it does not run at all
    if is_root:
        shutil.chown(folder, "postgres")
    user = ["runuser", "-u", "postgres", "--"] if is_root else []

    def run(name: str, *words: str) -> None:
        subprocess.run([*user, programs[-1] / name, *words], check=True, capture_output=True, cwd=folder)

    data = str(folder / "data")
    run("initdb", "--no-sync", "--auth=trust", "--username=skyloom", "-D", data)
    settings = f"-c listen_addresses= -c unix_socket_directories={folder}"
    run("pg_ctl", "start", "--wait", "-D", data, "-l", str(folder / "log"), "-o", settings)
    numbers = itertools.count()

    def new_database() -> str:
        name = f"jobs{next(numbers)}"
        run("createdb", "-h", str(folder), "-U", "skyloom", name)
        return f"postgresql+psycopg://skyloom@/{name}?host={folder}"

    yield new_database
    run("pg_ctl", "stop", "-m", "immediate", "-D", data)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("mlflow"))


def facts_of(version: str = "1", name: str = "skyloom") -> ModelFacts:
    """The painter's facts."""
    return ModelFacts(
        name=name,
        version=version,
        weights_digest=f"digest-{version}",
        fps=8,
        frame_step=4,
        width_step=16,
        height_step=16,
        trained_buckets=("64x64x16", "80x48x16"),
        num_steps=3,
        window_frames=16,
    )


def packets_of(content: bytes) -> list[bytes]:
    """The encoded pictures of an MP4: equal seeds give equal ones, while no signature comes out the same twice."""
    with av.open(io.BytesIO(content)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


@pytest.fixture
def packets() -> Callable[[bytes], list[bytes]]:
    return packets_of


@pytest.fixture
def facts() -> ModelFacts:
    return facts_of()


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> ServeConfig:
    """Of a small server; with `SKYLOOM_TEST_DATABASE=postgresql` every test that uses it runs on PostgreSQL."""
    made = ServeConfig.at(
        tmp_path / "serve", tracking_uri="unused", alias_poll_s=0.01, poll_interval_s=0.01, frame_check="off"
    )
    if os.environ.get("SKYLOOM_TEST_DATABASE") != "postgresql":
        return made
    return made.model_copy(update={"database_url": request.getfixturevalue("postgres")()})


@pytest.fixture
def jobs(config: ServeConfig) -> Iterator[JobTable]:
    config.storage.mkdir(parents=True)
    database = Database(config.database_url)
    yield JobTable(database)
    database.close()


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


Hire = Callable[[ServeConfig, JobTable], Worker]


@pytest.fixture
def hire(painter: Painter, shelf: Shelf) -> Iterator[Hire]:
    """Makes workers whose threads are not started: tests run one job at a time."""
    hired: list[Worker] = []

    def take_on(config: ServeConfig, jobs: JobTable) -> Worker:
        made = Worker(
            config,
            name="tester",
            jobs=jobs,
            registry=shelf,
            load=lambda model, folder: LoadedModel(painter, facts_of(model.version, model.name)),
        )
        hired.append(made)
        made.follow_aliases()
        return made

    yield take_on
    for made in hired:
        made.stop()


@pytest.fixture
def worker(config: ServeConfig, jobs: JobTable, hire: Hire) -> Worker:
    return hire(config, jobs)


@pytest.fixture
def client(config: ServeConfig, worker: Worker) -> Iterator[TestClient]:
    """The API over the same table and folder as `worker`."""
    with TestClient(create_app(config), base_url="http://127.0.0.1", raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def working(worker: Worker) -> Iterator[None]:
    """The worker works while the client waits."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            if not worker.run_one():
                stop.wait(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()
