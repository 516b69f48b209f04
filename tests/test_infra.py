"""The deployments of infra/: no password stands in them, each is asked of who starts them."""

import re
from pathlib import Path

import pytest
import yaml

INFRA = Path(__file__).resolve().parents[1] / "infra"
FILES = sorted(INFRA.glob("*.yaml"))
SECRETS = re.compile(r"PASSWORD|TOKEN|SECRET|AUTH_STRING|LOGIN")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_password_stands_in_a_file(path: Path) -> None:
    text = path.read_text()
    assert yaml.safe_load(text), "it is YAML"
    in_addresses = re.findall(r"://[^\s/@:]+:([^\s@]*)@", text)
    assert [found for found in in_addresses if not re.fullmatch(r"\$\{\w+\}", found)] == []


def test_each_secret_of_the_containers_is_required() -> None:
    text = (INFRA / "compose.yaml").read_text()
    used, required = set(re.findall(r"\$\{(\w+)", text)), set(re.findall(r"\$\{(\w+):\?", text))
    assert used == required
    assert len(required) == 5
    assert re.findall(r"\$\{\w+:?[-+=]", text) == [], "no default takes the place of a secret"
    environments = [service.get("environment", {}) for service in yaml.safe_load(text)["services"].values()]
    secrets = {name: value for each in environments for name, value in each.items() if SECRETS.search(name)}
    assert {name for name, value in secrets.items() if not value.startswith("${")} == set()
    assert {"RAY_AUTH_TOKEN", "MLFLOW_AUTH_ADMIN_PASSWORD", "PREFECT_SERVER_API_AUTH_STRING"} <= secrets.keys()


def test_services_of_the_containers_ask_who_calls() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    assert services["mlflow"]["entrypoint"][-2:] == ["--app-name", "basic-auth"]
    for name in ("ray", "worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
