"""MLflow: one experiment, one run per training, resumed runs go on in the same one."""

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from data.atomic import replacing
from data.workspace import Workspace

EXPERIMENT = "skyloom"
RUN_FILE = "mlflow_run.txt"


def open_client(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's own tracking store, made at first use."""
    workspace.mlflow.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=workspace.tracking_uri)


def experiment_id(client: MlflowClient, workspace: Workspace) -> str:
    """The id of the experiment, created at first use with its artifacts inside the workspace."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return str(
        client.create_experiment(EXPERIMENT, artifact_location=(workspace.mlflow / "artifacts").resolve().as_uri())
    )


def open_run(client: MlflowClient, workspace: Workspace, folder: Path, name: str, params: dict[str, Any]) -> str:
    """The id of the run that this folder's training began, or of a new one with these parameters."""
    record = folder / RUN_FILE
    if record.is_file():
        return record.read_text().strip()
    run = client.create_run(experiment_id(client, workspace), run_name=name)
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in flattened(params).items()])
    with replacing(record) as partial:
        partial.write_text(run.info.run_id)
    return str(run.info.run_id)


def log_metrics(client: MlflowClient, run_id: str, step: int, time_s: float, figures: dict[str, float]) -> None:
    """Record figures of one step."""
    client.log_batch(run_id, metrics=[Metric(name, value, int(time_s * 1000), step) for name, value in figures.items()])


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `outer.inner` names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
