"""Registers the pipeline in MLflow: a logged model and a version per checkpoint; `champion` only through the gate."""

import json
import logging
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from data.stage import StageResult
from data.workspace import Workspace
from model.facts import PipelineFacts
from model.weights import FACTS_FILE
from training.config import RegistryConfig
from training.tracking import RUN_FILE, experiment_id, open_client

log = logging.getLogger(__name__)
CANDIDATE, CHAMPION = "candidate", "champion"


def register_model(config: RegistryConfig, workspace: Workspace) -> StageResult:
    """Make the pipeline a version with the alias `candidate`, and `champion` too if it passes the gate."""
    client = open_client(workspace)
    facts = PipelineFacts.model_validate_json((workspace.pipeline / FACTS_FILE).read_text())
    version = registered_version(client, config.name, facts.weights_digest) or new_version(
        client, config, workspace, facts
    )
    client.set_registered_model_alias(config.name, CANDIDATE, version)
    missed = failed_gates(config, workspace)
    if missed:
        log.warning("version %s of %s stays candidate: %s", version, config.name, "; ".join(missed))
    else:
        client.set_registered_model_alias(config.name, CHAMPION, version)
    return StageResult(
        digest=facts.weights_digest,
        outputs=[workspace.mlflow / "mlflow.db"],
        took={"weights_digest": facts.weights_digest[:12]},
        gave={
            "model": config.name,
            "version": version,
            "alias": CANDIDATE if missed else CHAMPION,
            "gate_missed": "; ".join(missed),
        },
    )


def registered_version(client: MlflowClient, name: str, weights_digest: str) -> str | None:
    """The version that holds these very weights, if there is one."""
    found = client.search_model_versions(f"name = '{name}'")
    return next(
        (str(version.version) for version in found if version.tags.get("weights_digest") == weights_digest), None
    )


def new_version(client: MlflowClient, config: RegistryConfig, workspace: Workspace, facts: PipelineFacts) -> str:
    """Log the pipeline folder as a model of the training's run and register it; returns the version."""
    run_id = (workspace.transformer / RUN_FILE).read_text().strip()
    return log_version(client, config.name, workspace.pipeline, facts, experiment_id(client, workspace), run_id)


def register_starter(name: str, folder: Path, workspace: Workspace) -> str:
    """Make a folder of weights that no run here trained the champion of a workspace of its own; returns the version.

    A folder that is registered already is not registered twice.
    """
    client = open_client(workspace)
    facts = PipelineFacts.model_validate_json((folder / FACTS_FILE).read_text())
    version = registered_version(client, name, facts.weights_digest) or log_version(
        client, name, folder, facts, experiment_id(client, workspace)
    )
    client.set_registered_model_alias(name, CHAMPION, version)
    return version


def log_version(
    client: MlflowClient, name: str, folder: Path, facts: PipelineFacts, experiment: str, run_id: str | None = None
) -> str:
    """Log a folder as a model and make it a version of the registered name; returns the version."""
    tags = {"weights_digest": facts.weights_digest, "dataset_id": facts.dataset_id}
    model = client.create_logged_model(
        experiment, name=name, source_run_id=run_id, model_type="video-diffusion", tags=tags
    )
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, source=model.artifact_location, run_id=run_id, tags=tags)
    return str(version.version)


def failed_gates(config: RegistryConfig, workspace: Workspace) -> list[str]:
    """What keeps the model from being champion: each attribute below its minimum, in words."""
    path = workspace.evaluation / "results.json"
    adherence = json.loads(path.read_text())["adherence"] if path.is_file() else {}
    missed = []
    for name, least in config.minimum.items():
        value = adherence.get(name, {}).get("generated", 0.0)
        if value < least:
            missed.append(f"{name} {value:.2f} is below {least:.2f}")
    return missed


def promote(name: str, version: str, workspace: Workspace) -> None:
    """Move the alias `champion` to a version by hand."""
    open_client(workspace).set_registered_model_alias(name, CHAMPION, version)
