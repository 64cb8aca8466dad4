"""cluster.yaml is valid for the installed Ray and keeps its promises; checked without network or AWS."""

import copy
import os
import re
import socket
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
START_COMMANDS = ["head_start_ray_commands", "worker_start_ray_commands"]
NUM_GPUS = {"g5.12xlarge": 4, "g5.24xlarge": 4, "g5.48xlarge": 8, "g6.12xlarge": 4, "p4d.24xlarge": 8}
SECRETS = {
    "AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN",
    "hexadecimal token": r"\b[0-9a-fA-F]{32,}\b",
    "long random text": r"(?<![\w+/])(?=[\w+/]*[A-Z])(?=[\w+/]*[0-9])[A-Za-z0-9+/]{40,}(?![\w+/])",
    "assigned secret": r"(?i)(secret|passw(or)?d|access_key|api_key|auth_token)\w*\s*[:=]\s*['\"]?[\w+/]",
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"opened a connection: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def config() -> dict[str, Any]:
    """The file as written."""
    return yaml.safe_load(TEXT)


@pytest.fixture
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The file with Ray's defaults filled in, as `ray up` uses it."""
    return prepare_config(config)


def worker_types(config: dict[str, Any]) -> dict[str, Any]:
    types = config["available_node_types"]
    return {name: value for name, value in types.items() if name != config["head_node_type"]}


def find_secrets(text: str) -> list[str]:
    return [name for name, pattern in SECRETS.items() if re.search(pattern, text)]


def find_pins(config: dict[str, Any]) -> dict[str, Requirement]:
    """Return what every `pip install` asks for; a requirement that is not one exact version is an error."""
    pins = {}
    for command in config["setup_commands"] + config["head_setup_commands"]:
        if command.startswith("pip install"):
            editable_removed = re.sub(r"-e \S+", "", command.removeprefix("pip install"))
            for word in editable_removed.replace("--quiet", "").split():
                requirement = Requirement(word.strip("'\""))
                if [specifier.operator for specifier in requirement.specifier] != ["=="]:
                    raise ValueError(f"not pinned: {word}")
                pins[requirement.name] = requirement
    return pins


def pinned_version(requirement: Requirement) -> str:
    return next(iter(requirement.specifier)).version


# Ray's own validation, and that it can fail


def test_validation_accepts_cluster_yaml(prepared: dict[str, Any]) -> None:
    validate_config(prepared)


def test_validation_rejects_unknown_top_level_key(config: dict[str, Any]) -> None:
    config["idle_timeout"] = 15
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(config))


def test_validation_rejects_missing_head_node_type(config: dict[str, Any]) -> None:
    config["head_node_type"] = "head_that_is_not_there"
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(config))


def test_validation_rejects_more_min_workers_than_max_workers(config: dict[str, Any]) -> None:
    config["available_node_types"]["gpu_spot"]["min_workers"] = config["max_workers"] + 1
    with pytest.raises(ValueError, match="max_workers"):
        validate_config(prepare_config(config))


def test_validation_rejects_node_type_without_resources(config: dict[str, Any]) -> None:
    del config["available_node_types"]["gpu_spot"]["resources"]
    with pytest.raises(jsonschema.ValidationError, match="resources"):
        validate_config(prepare_config(config))


def test_network_guard_refuses_a_connection() -> None:
    with pytest.raises(AssertionError, match="opened a connection"):
        socket.create_connection(("127.0.0.1", 9))


# Nodes


def test_head_runs_no_trials_and_is_on_demand(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert (head["min_workers"], head["max_workers"]) == (0, 0)
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["node_config"]["InstanceType"] not in NUM_GPUS


def test_workers_are_multi_gpu_spot_and_scale_from_zero(config: dict[str, Any]) -> None:
    workers = worker_types(config)
    assert len(workers) >= 2
    assert len({worker["node_config"]["InstanceType"] for worker in workers.values()}) == len(workers)
    for worker in workers.values():
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert NUM_GPUS[worker["node_config"]["InstanceType"]] >= 2
        assert worker["min_workers"] == 0
        assert 1 <= worker["max_workers"] <= config["max_workers"]


def test_provider_has_several_zones_and_terminates_idle_nodes(prepared: dict[str, Any]) -> None:
    provider = prepared["provider"]
    zones = provider["availability_zone"].split(",")
    assert len(set(zones)) == len(zones) >= 2
    assert all(re.fullmatch(re.escape(provider["region"]) + "[a-z]", zone) for zone in zones)
    assert provider["cache_stopped_nodes"] is False
    assert prepared["idle_timeout_minutes"] == 15


def test_every_node_has_its_disk_image_and_security_group(config: dict[str, Any]) -> None:
    node_configs = [node_type["node_config"] for node_type in config["available_node_types"].values()]
    assert all(node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 150 for node in node_configs)
    assert len({node["ImageId"] for node in node_configs}) == 1
    assert all(node["SecurityGroupIds"] for node in node_configs)


def test_every_placeholder_is_marked_edit() -> None:
    lines = TEXT.splitlines()
    placeholders = [i for i, line in enumerate(lines) if "0" * 12 in line]
    assert len(placeholders) >= 4
    for i in placeholders:
        assert "EDIT" in "".join(lines[max(0, i - 8) : i + 1]), lines[i]


# Software


def test_pins_agree_with_installed_ray_and_pyproject() -> None:
    pins = find_pins(yaml.safe_load(TEXT))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    required = {r.name: r for r in map(Requirement, project["project"]["dependencies"])}
    developer = {r.name: r for r in map(Requirement, project["dependency-groups"]["dev"])}
    assert pinned_version(pins["ray"]) == version("ray")
    assert set(required) <= set(pins), "a dependency of pyproject.toml has no pin in cluster.yaml"
    assert set(pins) - set(required) == {"boto3"}
    for name, pin in pins.items():
        wanted = required.get(name) or developer[name]
        assert wanted.specifier.contains(pinned_version(pin)), f"{pin} is outside {wanted}"
        assert wanted.extras <= pin.extras


@pytest.mark.parametrize("requirement", ["'torch>=2.11'", "torch", "'torch>=2.11,==2.15.0'"])
def test_pins_reject_inexact_requirement(requirement: str) -> None:
    config = {"setup_commands": [f"pip install --quiet {requirement} -e ~/p"], "head_setup_commands": []}
    with pytest.raises(ValueError, match="not pinned"):
        find_pins(config)


def test_no_nightly_wheel_is_left_in_prepared_config(prepared: dict[str, Any]) -> None:
    text = yaml.safe_dump(prepared)
    for word in ["3.0.0.dev0", "cp310", "ray-wheels", "nightly", "anaconda3"]:
        assert word not in text


def test_nightly_wheel_appears_without_own_setup_commands(config: dict[str, Any]) -> None:
    del config["setup_commands"]
    assert "3.0.0.dev0" in yaml.safe_dump(prepare_config(config))


def test_project_is_mounted_installed_and_given_its_data(config: dict[str, Any]) -> None:
    setup = "\n".join(config["setup_commands"])
    assert config["file_mounts"]["~/lt_rebalance"] == "."
    assert "-e ~/lt_rebalance" in setup
    assert "LT_REBALANCE_DATA_DIR" in setup
    assert "load_dataset('fashion_mnist'" in setup
    assert "download=True" in setup


def test_rsync_leaves_out_bulk_but_not_package_data(config: dict[str, Any]) -> None:
    assert {".git", ".venv", "__pycache__", "/data", "/results"} <= set(config["rsync_exclude"])
    assert config["rsync_filter"] == [".gitignore"]
    assert not {"data", "data/", "results", "results/"} & set(config["rsync_exclude"])


def list_commands() -> list[str]:
    config = yaml.safe_load(TEXT)
    return [command for key, value in config.items() if key.endswith("_commands") for command in value]


@pytest.mark.parametrize("command", list_commands())
def test_command_is_valid_bash(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)


# Security


@pytest.mark.parametrize("key", START_COMMANDS)
@pytest.mark.parametrize("has_token", [True, False])
def test_ray_starts_with_token_authentication_or_not_at_all(
    config: dict[str, Any], tmp_path: Path, key: str, has_token: bool
) -> None:
    stub = tmp_path / "bin" / "ray"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\necho "$1 mode=$RAY_AUTH_MODE utf8=$PYTHONUTF8"\n')
    stub.chmod(0o755)
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    if has_token:
        token.write_text("0" * 64)
        token.chmod(0o644)
    starts = [command for command in config[key] if "ray start" in command]
    environment = {"HOME": str(tmp_path), "PATH": f"{stub.parent}:{os.defpath}", "RAY_HEAD_IP": "10.0.0.1"}
    result = subprocess.run(
        ["bash", "-c", "\n".join(starts)], env=environment, capture_output=True, text=True, timeout=10
    )
    assert len(starts) == 1
    assert result.stdout == ("start mode=token utf8=1\n" if has_token else "")
    assert not has_token or token.stat().st_mode & 0o777 == 0o600


def test_token_file_reaches_every_node(config: dict[str, Any]) -> None:
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_dashboard_listens_on_loopback_only(prepared: dict[str, Any]) -> None:
    text = yaml.safe_dump(prepared, width=1000)
    assert re.findall(r"--dashboard-host[= ](\S+)", text) == ["127.0.0.1"]


def test_dashboard_is_open_in_the_defaults(config: dict[str, Any]) -> None:
    del config["head_start_ray_commands"]
    assert "--dashboard-host=0.0.0.0" in yaml.safe_dump(prepare_config(config), width=1000)


def test_file_holds_no_secret() -> None:
    assert find_secrets(TEXT) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AWS access key", "key: AKIA" + "Z" * 16),
        ("private key", "-----BEGIN " + "OPENSSH PRIVATE KEY-----"),
        ("hexadecimal token", "echo " + "0a1b2c3d" * 8),
        ("long random text", "x: " + "aB3/" * 10),
        ("assigned secret", "AWS_SECRET_ACCESS_KEY=" + "abc"),
        ("assigned secret", "password: hunter2"),
    ],
)
def test_find_secrets_finds(name: str, text: str) -> None:
    assert name in find_secrets(TEXT + text)


def test_prepare_config_does_not_depend_on_earlier_calls(config: dict[str, Any]) -> None:
    first = prepare_config(copy.deepcopy(config))
    assert prepare_config(copy.deepcopy(config)) == first
