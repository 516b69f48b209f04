"""The deployment files in infra/ say nothing that the code does not know."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serving.bounded_http import PROXY_ENVIRONMENT
from serving.config import ServeConfig
from serving.ingress import Ingress
from serving.scaling import replicas_of

INFRA = Path(__file__).parents[2] / "infra"


def deployed(name: str) -> dict[str, Any]:
    """What a file tells Serve."""
    content = yaml.safe_load((INFRA / name).read_text())
    if content.get("kind") == "RayService":
        content = yaml.safe_load(content["spec"]["serveConfigV2"])
    return content


@pytest.mark.parametrize("name", ["serve.yaml", "rayservice.yaml"])
def test_its_settings_are_ours(name: str) -> None:
    content = deployed(name)
    proxies = ServeDeploySchema.model_validate(content).controller_options
    assert proxies is not None
    assert proxies.runtime_env == {"env_vars": PROXY_ENVIRONMENT}
    (application,) = content["applications"]
    config = ServeConfig.model_validate(application["args"])
    assert config.keys == "required"
    assert application["import_path"] == "serving.app:build"
    assert {entry["name"] for entry in application["deployments"]} == {Ingress.name}  # a number would end the scaling
    assert (config.num_model_replicas, config.max_model_replicas) == (2, 8)
    assert "autoscaling_config" in replicas_of(config)
