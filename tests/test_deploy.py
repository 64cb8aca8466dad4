"""cluster.yaml and deploy/ are valid for the installed Ray and keep their promises; no network is used."""

import copy
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.other_user import OTHER, needs_root

ROOT = Path(__file__).parents[1]
AWS, LOCAL, KUBERAY = "cluster.yaml", "deploy/local.yaml", "deploy/kuberay.yaml"
DOCKER = "deploy/Dockerfile"
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (AWS, LOCAL, KUBERAY, DOCKER)}
LAUNCHED = [AWS, LOCAL]
START_COMMANDS = ["head_start_ray_commands", "worker_start_ray_commands"]
NUM_GPUS = {"g5.12xlarge": 4, "g5.24xlarge": 4, "g5.48xlarge": 8, "g6.12xlarge": 4, "p4d.24xlarge": 8}
SECRETS = {
    "AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN",
    "hexadecimal token": r"\b[0-9a-fA-F]{32,}\b",
    "long random text": r"(?<![\w+/])(?=[\w+/]*[A-Z])(?=[\w+/]*[0-9])[A-Za-z0-9+/]{40,}(?![\w+/])",
    "assigned secret": (
        r"(?i)(secret(?!name:)|passw(or)?d|access_key|api_key|auth_token)\w*\s*[:=]\s*['\"]?[\w+/]"
    ),
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"opened a connection: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load(TEXTS[name])


@pytest.fixture
def config() -> dict[str, Any]:
    """The file for AWS as written."""
    return read(AWS)


@pytest.fixture
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The file with Ray's defaults filled in, as `ray up` uses it."""
    return prepare_config(config)


def worker_types(config: dict[str, Any]) -> dict[str, Any]:
    types = config["available_node_types"]
    return {name: value for name, value in types.items() if name != config["head_node_type"]}


def find_secrets(text: str) -> list[str]:
    return [name for name, pattern in SECRETS.items() if re.search(pattern, text)]


# Ray's own validation, and that it can fail


@pytest.mark.parametrize("name", LAUNCHED)
def test_validation_accepts_file(name: str) -> None:
    validate_config(prepare_config(read(name)))


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


def test_instance_profiles_are_ours_and_workers_have_another(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]["node_config"]["IamInstanceProfile"]
    workers = [worker["node_config"]["IamInstanceProfile"] for worker in worker_types(config).values()]
    assert all(set(profile) == {"Name"} for profile in [head, *workers])
    assert head not in workers


def test_local_cluster_starts_and_keeps_all_its_workers() -> None:
    node_type = prepare_config(read(LOCAL))["available_node_types"]["local.cluster.node"]
    addresses = read(LOCAL)["provider"]["worker_ips"]
    assert node_type["min_workers"] == node_type["max_workers"] == len(set(addresses)) >= 2
    assert read(LOCAL)["provider"]["head_ip"] not in addresses


def test_local_head_runs_no_trials_under_the_autoscaler_that_knows_its_workers() -> None:
    start = read(LOCAL)["head_start_ray_commands"][-1]
    assert "--num-cpus=0 --num-gpus=0" in start
    assert "export RAY_enable_autoscaler_v2=0" in start


def test_every_node_has_its_disk_image_and_security_group(config: dict[str, Any]) -> None:
    node_configs = [node_type["node_config"] for node_type in config["available_node_types"].values()]
    assert all(node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 150 for node in node_configs)
    assert len({node["ImageId"] for node in node_configs}) == 1
    assert all(node["SecurityGroupIds"] for node in node_configs)


def test_every_placeholder_is_marked_edit() -> None:
    lines = TEXTS[AWS].splitlines()
    placeholders = [i for i, line in enumerate(lines) if "0" * 12 in line]
    assert len(placeholders) == 2
    for i in placeholders:
        assert "EDIT" in "".join(lines[max(0, i - 8) : i + 1]), lines[i]


def test_policies_of_the_guide_let_workers_use_one_bucket_and_nothing_else() -> None:
    guide = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    storage, head = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", guide, flags=re.DOTALL))
    actions = [action for each in storage["Statement"] for action in np.atleast_1d(each["Action"])]
    assert set(actions) == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    assert {each["Resource"] for each in storage["Statement"]} == {
        "arn:aws:s3:::BUCKET",
        "arn:aws:s3:::BUCKET/PREFIX/*",
    }
    ends = [each for each in head["Statement"] if "ec2:TerminateInstances" in each["Action"]]
    name = read(AWS)["cluster_name"]
    assert [each["Condition"] for each in ends] == [
        {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": name}}
    ]


# Software


@pytest.mark.parametrize("name", LAUNCHED)
def test_nodes_install_what_is_pinned_and_nothing_else(name: str) -> None:
    config = prepare_config(read(name))
    commands = [command for key in config if key.endswith("_commands") for command in config[key]]
    installs = {command for command in commands if "pip" in command}
    venv = "~/lt_rebalance-cluster/venv/bin/pip"
    code = "~/lt_rebalance-cluster/code"
    assert installs == {f"{venv} install --quiet --require-hashes -r {code}/constraints.txt"}
    assert config["file_mounts"][code] == "."


def test_image_installs_what_is_pinned_on_the_installed_version_of_ray() -> None:
    lines = TEXTS[DOCKER].splitlines()
    installs = [line for line in lines if "pip" in line]
    assert len(installs) == 1 and "--require-hashes -r /home/ray/lt_rebalance/constraints.txt" in installs[0]
    assert f"FROM rayproject/ray:{version('ray')}-py311-gpu" in lines


def test_no_nightly_wheel_is_left_in_prepared_config(prepared: dict[str, Any]) -> None:
    text = yaml.safe_dump(prepared)
    for word in ["3.0.0.dev0", "cp310", "ray-wheels", "nightly", "anaconda3"]:
        assert word not in text


def test_nightly_wheel_appears_without_own_setup_commands(config: dict[str, Any]) -> None:
    del config["setup_commands"]
    assert "3.0.0.dev0" in yaml.safe_dump(prepare_config(config))


@pytest.mark.parametrize("name", LAUNCHED)
def test_nodes_find_the_project_and_its_data(name: str) -> None:
    config = read(name)
    setup = "\n".join(config["setup_commands"])
    assert "load_dataset('fashion_mnist', '../data', download=True)" in setup
    for key in START_COMMANDS:
        assert "LT_REBALANCE_DATA_DIR=$HOME/lt_rebalance-cluster/data " in config[key][-1]
        assert "PYTHONPATH=$HOME/lt_rebalance-cluster/code " in config[key][-1]


@pytest.mark.parametrize("name", LAUNCHED)
def test_rsync_leaves_out_bulk_but_not_package_data(name: str) -> None:
    config = read(name)
    assert {".git", ".venv", "__pycache__", "/data", "/results"} <= set(config["rsync_exclude"])
    assert config["rsync_filter"] == [".gitignore"]
    assert not {"data", "data/", "results", "results/"} & set(config["rsync_exclude"])


def list_commands() -> list[str]:
    configs = [read(name) for name in LAUNCHED]
    return [
        command
        for config in configs
        for key, value in config.items()
        if key.endswith("_commands")
        for command in value
    ]


@pytest.mark.parametrize("command", list_commands())
def test_command_is_valid_bash(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)


# Security


USER = f"test-{os.getpid()}"
PRIVATE = Path(f"/tmp/lt_rebalance-ray-{USER}")
STUBS = {
    "ray": 'echo "$* tmpdir=$RAY_TMPDIR mode=$RAY_AUTH_MODE utf8=$PYTHONUTF8 v2=$RAY_enable_autoscaler_v2"',
    "id": f"echo {USER}",
    "ip": 'echo "10.0.0.1 dev eth0 src 10.0.0.7 uid 0 \\    cache"',
}


@pytest.fixture
def _no_private_directory() -> Iterator[None]:
    """Remove the directory that the start commands make."""
    yield
    if PRIVATE.is_symlink():
        PRIVATE.unlink()
    elif PRIVATE.exists():
        PRIVATE.rmdir()


def run_start_command(config: dict[str, Any], key: str, home: Path, *, has_token: bool) -> str:
    """Run the commands that start Ray with a `ray` that prints its arguments; return what it printed."""
    for name, body in STUBS.items():
        stub = home / "lt_rebalance-cluster" / "venv" / "bin" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f"#!/bin/sh\n{body}\n")
        stub.chmod(0o755)
    (home / "ray_bootstrap_config.yaml").write_text('{"provider": {"head_ip": "10.0.0.1", "type": "local"}}')
    (home / ".ray").mkdir()
    if has_token:
        (home / ".ray" / "auth_token").write_text("0" * 64)
        (home / ".ray" / "auth_token").chmod(0o644)
    environment = {"HOME": str(home), "PATH": f"{stub.parent}:{os.defpath}", "RAY_HEAD_IP": "10.0.0.1"}
    starts = [command for command in config[key] if "ray start" in command]
    # As `ray up` prefixes it when it runs its second autoscaler.
    script = "export RAY_enable_autoscaler_v2=1; " + "\n".join(starts)
    result = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=10
    )
    assert len(starts) == 1
    return result.stdout


@pytest.mark.usefixtures("_no_private_directory")
@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("key", START_COMMANDS)
def test_ray_starts_with_token_authentication_and_a_private_token(
    tmp_path: Path, name: str, key: str
) -> None:
    output = run_start_command(read(name), key, tmp_path, has_token=True)
    assert output.startswith("start ") and " mode=token utf8=1" in output
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("_no_private_directory")
@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("key", START_COMMANDS)
def test_ray_does_not_start_without_a_token(tmp_path: Path, name: str, key: str) -> None:
    assert run_start_command(read(name), key, tmp_path, has_token=False) == ""


@pytest.mark.usefixtures("_no_private_directory")
@pytest.mark.parametrize(("key", "address"), list(zip(START_COMMANDS, ["10.0.0.1", "10.0.0.7"], strict=True)))
def test_machine_of_ones_own_takes_the_address_that_the_others_see(
    tmp_path: Path, key: str, address: str
) -> None:
    output = run_start_command(read(LOCAL), key, tmp_path, has_token=True)
    assert f"--node-ip-address={address} " in output
    assert output.endswith("v2=0\n") == (key == "head_start_ray_commands")


@pytest.mark.usefixtures("_no_private_directory")
@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("key", START_COMMANDS)
@pytest.mark.parametrize("is_there", [False, True])
def test_files_of_ray_lie_in_a_directory_of_mode_0700(
    tmp_path: Path, name: str, key: str, is_there: bool
) -> None:
    if is_there:
        PRIVATE.mkdir()
        PRIVATE.chmod(0o777)
    output = run_start_command(read(name), key, tmp_path, has_token=True)
    assert f"--temp-dir={PRIVATE}/ray" in output and f" tmpdir={PRIVATE} " in output
    assert PRIVATE.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("_no_private_directory")
@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("key", START_COMMANDS)
def test_ray_does_not_start_in_a_directory_that_a_link_leads_to(tmp_path: Path, name: str, key: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    PRIVATE.symlink_to(tmp_path / "elsewhere")
    assert run_start_command(read(name), key, tmp_path, has_token=True) == ""


@needs_root
@pytest.mark.usefixtures("_no_private_directory")
@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("key", START_COMMANDS)
def test_ray_does_not_start_in_a_directory_of_somebody_else(tmp_path: Path, name: str, key: str) -> None:
    PRIVATE.mkdir(mode=0o700)
    os.chown(PRIVATE, OTHER, OTHER)
    assert run_start_command(read(name), key, tmp_path, has_token=True) == ""
    assert PRIVATE.stat().st_uid == OTHER


@pytest.mark.parametrize("name", LAUNCHED)
def test_token_file_reaches_every_node(name: str) -> None:
    assert read(name)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", LAUNCHED)
def test_dashboard_listens_on_loopback_only(name: str) -> None:
    text = yaml.safe_dump(prepare_config(read(name)), width=1000)
    assert re.findall(r"--dashboard-host[= ](\S+)", text) == ["127.0.0.1"]


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_names_the_address_of_all_interfaces(name: str) -> None:
    assert not re.search(r"0\.0\.0\.0|\[::\]|(?<![\w:])::(?![\w:])", TEXTS[name])


def test_dashboard_is_open_in_the_defaults(config: dict[str, Any]) -> None:
    del config["head_start_ray_commands"]
    assert "--dashboard-host=0.0.0.0" in yaml.safe_dump(prepare_config(config), width=1000)


@pytest.mark.parametrize("name", TEXTS)
def test_file_holds_no_secret(name: str) -> None:
    assert find_secrets(TEXTS[name]) == []


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
    assert name in find_secrets(TEXTS[AWS] + text)


def test_prepare_config_does_not_depend_on_earlier_calls(config: dict[str, Any]) -> None:
    first = prepare_config(copy.deepcopy(config))
    assert prepare_config(copy.deepcopy(config)) == first


# Kubernetes


def read_manifests() -> tuple[dict[str, Any], dict[str, Any]]:
    job, policy = yaml.safe_load_all(TEXTS[KUBERAY])
    return job, policy


def pod_specs(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_rayjob_has_only_fields_that_kuberay_knows() -> None:
    # As read in the definition of the resource, KubeRay 1.5.1; a field of another name is dropped or refused.
    job, _ = read_manifests()
    cluster = job["spec"]["rayClusterSpec"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    expected = {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "rayClusterSpec": dict,
    }
    assert {name: type(value) for name, value in job["spec"].items()} == expected
    expected = {
        "rayVersion": str,
        "authOptions": dict,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": dict,
        "headGroupSpec": dict,
        "workerGroupSpecs": list,
    }
    assert {name: type(value) for name, value in cluster.items()} == expected
    assert set(cluster["autoscalerOptions"]) == {"idleTimeoutSeconds", "securityContext", "volumeMounts"}
    assert set(head) == {"rayStartParams", "template"}
    names = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert all(set(worker) == names for worker in workers)
    parameters = [value for group in (head, *workers) for value in group["rayStartParams"].values()]
    assert all(isinstance(value, str) for value in parameters)


def test_rayjob_authenticates_with_a_token_that_kuberay_makes() -> None:
    cluster = read_manifests()[0]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}


def test_rayjob_ends_its_cluster_and_starts_another_when_it_is_lost() -> None:
    spec = read_manifests()[0]["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 1


def test_kubernetes_head_runs_no_trials_and_workers_scale_from_zero() -> None:
    cluster = read_manifests()[0]["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (worker,) = cluster["workerGroupSpecs"]
    assert worker["minReplicas"] == worker["replicas"] == 0
    assert f"--max-concurrent {worker['maxReplicas']} " in read_manifests()[0]["spec"]["entrypoint"]


def test_kubernetes_workers_ask_for_as_many_gpus_as_they_may_use() -> None:
    head, worker = (spec["containers"][0]["resources"] for spec in pod_specs(read_manifests()[0]))
    assert worker["requests"]["nvidia.com/gpu"] == worker["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in head["requests"] | head["limits"]
    assert all(each["requests"]["memory"] == each["limits"]["memory"] for each in (head, worker))


def test_kubernetes_runs_the_version_of_ray_that_is_installed_and_pinned() -> None:
    job, _ = read_manifests()
    images = {spec["containers"][0]["image"] for spec in pod_specs(job)}
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
    assert images == {f"REGISTRY/lt_rebalance:{version('ray')}-py311-gpu"}


def test_no_container_runs_as_root_or_may_become_root() -> None:
    job, _ = read_manifests()
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for spec in pod_specs(job):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        assert [container["securityContext"] for container in spec["containers"]] == [locked]
    assert job["spec"]["rayClusterSpec"]["autoscalerOptions"]["securityContext"] == locked
    assert "USER 1000" in TEXTS[DOCKER].splitlines()


def test_trials_on_kubernetes_hold_no_credentials_of_the_cluster() -> None:
    _, worker = pod_specs(read_manifests()[0])
    assert worker["automountServiceAccountToken"] is False


def test_no_container_has_credentials_in_its_environment() -> None:
    job, _ = read_manifests()
    specs = pod_specs(job)
    for spec in specs:
        (container,) = spec["containers"]
        assert "envFrom" not in container
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "credentials"]
        values = {variable["name"]: variable["value"] for variable in container["env"]}
        assert values == {
            "AWS_SHARED_CREDENTIALS_FILE": f"{mount['mountPath']}/credentials",
            "AWS_CONFIG_FILE": f"{mount['mountPath']}/config",
        }
        (volume,) = [each for each in spec["volumes"] if each["name"] == "credentials"]
        assert volume["secret"] == {"secretName": "lt-rebalance-s3", "defaultMode": 0o440}
        assert (
            spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"] and mount["readOnly"]
        )


def test_files_of_ray_on_kubernetes_lie_in_a_directory_of_mode_0700() -> None:
    assert re.search(r"^RUN mkdir -m 700 /home/ray/private$", TEXTS[DOCKER], re.MULTILINE)
    assert re.search(r"^ENV RAY_TMPDIR=/home/ray/private \\$", TEXTS[DOCKER], re.MULTILINE)
    cluster = read_manifests()[0]["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    shared = {
        "name": "ray-files",
        "mountPath": "/home/ray/private/ray",
    }  # with the autoscaler beside the head
    assert cluster["autoscalerOptions"]["volumeMounts"] == [shared]
    assert shared in head["containers"][0]["volumeMounts"]
    assert {"name": "ray-files", "emptyDir": {}} in head["volumes"]
    assert "temp-dir" not in TEXTS[KUBERAY]


def test_network_policy_covers_every_node() -> None:
    job, policy = read_manifests()
    cluster = job["spec"]["rayClusterSpec"]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"] == selected
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    own, operator = policy["spec"]["ingress"]
    assert own == {"from": [{"podSelector": {}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
