"""Start a cluster with the shipped file, run a study on it, break two of its hosts, and note what is seen.

A program that runs in a sandbox: it judges nothing, and leaves facts.json, the store of the cluster and that
of one machine alone in the work directory.
"""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import patient_network
import yaml
from hosts import DESK_ADDRESS, HERE, Host, make_hosts
from lookout import BUCKET, PREFIX, PROMPT_S, Nodes, Story, Work
from sandbox import HOME, LAB, PATH, ROOT

CHECKOUT = HOME / "lt_rebalance"
CLUSTER_FILE = HOME / "local.yaml"
PORT = 5000
LIMIT_S = 1200.0
STORAGE = f"s3://{BUCKET}/{PREFIX}".rstrip("/")
STUDY = shlex.split(
    "--preset quick --name drill --c 1/2 --methods none oversample cgan --generators small_mlp_cgan_leaky "
    "--seeds 2 --steps 600 --generator-steps 200 --device cpu --precision float32 "
    f"--set classifier.architecture={patient_network.NAME}"
)
DASHBOARD = "http://127.0.0.1:8265"
INTRUDER = "/tmp/intruder"


# Who starts the cluster


def run_at_desk(name: str, command: list[str], **environment: str) -> int:
    """Run a command where the cluster is started from, with its output in a file; return its exit status."""
    process = start_at_desk(name, command, **environment)
    try:
        return process.wait(timeout=LIMIT_S)
    finally:
        process.kill()


def start_at_desk(name: str, command: list[str], **environment: str) -> "subprocess.Popen[bytes]":
    """Start a command there. Its output goes to a file: ssh's masters would hold a pipe open."""
    variables = {
        "HOME": str(HOME),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{PATH}",
        "LC_ALL": "C.UTF-8",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with (LAB / f"{name}.log").open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=variables | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def copy_checkout() -> None:
    """Make the clean checkout that `ray up` asks for."""
    left_out = ("--filter=:- .gitignore", "--exclude=.git", "--exclude=.venv")
    subprocess.run(["rsync", "-a", *left_out, f"{ROOT}/", f"{CHECKOUT}/"], check=True)


def write_cluster_file(hosts: Mapping[str, Host]) -> None:
    """Write the shipped file with addresses and user of this place, without what needs the internet."""
    cluster = yaml.safe_load((ROOT / "deploy/local.yaml").read_text(encoding="utf-8"))
    cluster["provider"]["head_ip"] = hosts["h0"].address
    cluster["provider"]["worker_ips"] = [hosts["h1"].address, hosts["h2"].address]
    cluster["auth"]["ssh_user"] = "root"
    needs_internet = [
        each for each in cluster["setup_commands"] if "pip install" in each or "download=" in each
    ]
    assert len(needs_internet) == 2, "the cluster file has changed: look at its setup commands again"
    cluster["setup_commands"] = [each for each in cluster["setup_commands"] if each not in needs_internet]
    CLUSTER_FILE.write_text(yaml.safe_dump(cluster, sort_keys=False, width=1000))


def furnish(host: Host) -> None:
    """Give a host what the dropped commands would have installed, and the address of the S3 server."""
    programs = host.directory / "root/lt_rebalance-cluster/venv/bin"
    programs.mkdir(parents=True)
    shield = (HERE / "ray_shield.sh").read_text(encoding="utf-8")
    environment = Path(sys.prefix) / "bin"
    for name, text in {
        "python": f'#!/bin/sh\nexec {environment / "python"} "$@"\n',
        "ray": shield.replace("REAL_RAY", str(environment / "ray")),
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    write_aws_files(host.directory / "root")


def write_aws_files(home: Path) -> None:
    """Write what leads boto3 to the S3 server."""
    (home / ".aws").mkdir(mode=0o700)
    (home / ".aws/config").write_text(
        f"[default]\nregion = us-east-1\nendpoint_url = http://{DESK_ADDRESS}:{PORT}\n"
    )
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
    )


def ask(path: str, token: str | None, body: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """Return status and text of the dashboard's answer; status 0 if it gave none, three times."""
    answers = (ask_once(path, token, body) for _ in range(3))
    return next((answer for answer in answers if answer[0]), (0, "no answer"))


def ask_once(path: str, token: str | None, body: Mapping[str, Any] | None) -> tuple[int, str]:
    """Return status and text of the dashboard's answer; status 0 if it gave none."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(DASHBOARD + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


# The acts


@contextlib.contextmanager
def serve_s3() -> Iterator[None]:
    """Run a server of the S3 protocol that all hosts can reach, with a bucket in it."""
    command = [sys.executable, "-m", "moto.server", "-H", DESK_ADDRESS, "-p", str(PORT)]
    with (LAB / "s3.log").open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        write_aws_files(HOME)
        client = boto3.client("s3")
        while server.poll() is None:
            try:
                client.create_bucket(Bucket=BUCKET)
                break
            except botocore.exceptions.EndpointConnectionError:  # not up yet
                time.sleep(0.2)
        assert server.poll() is None, "the S3 server did not start"
        yield
    finally:
        server.kill()


def start_cluster(story: Story, hosts: Mapping[str, Host]) -> Nodes:
    """Run what the head of the cluster file says."""
    write_cluster_file(hosts)
    for host in hosts.values():
        furnish(host)
    run_at_desk("token", ["ray", "get-auth-token", "--generate"])
    (HOME / ".ray/auth_token").chmod(0o600)
    story.tell("ray up begins")
    status = run_at_desk("up", ["ray", "up", "-y", str(CLUSTER_FILE)])
    story.facts["up_status"] = status
    story.tell(f"ray up has ended with {status}")
    nodes = Nodes(hosts["h0"])
    story.wait("all three nodes are alive", lambda: all(map(nodes.has, hosts.values())))
    return nodes


def open_tunnel(story: Story) -> "subprocess.Popen[bytes]":
    """Forward the dashboard, as the head of the cluster file says."""
    tunnel = start_at_desk("dashboard", ["ray", "dashboard", str(CLUSTER_FILE)])
    story.wait("the dashboard answers through the tunnel", lambda: ask("/api/version", None)[0] > 0)
    return tunnel


def knock(story: Story, head: Host, token: str) -> None:
    """Try to submit a job without the token, with a wrong one and past the tunnel."""
    job = {"entrypoint": f"touch {INTRUDER}"}
    story.facts["post_without_token"], _ = ask("/api/jobs/", None, job)
    story.facts["post_with_wrong_token"], _ = ask("/api/jobs/", "0" * len(token), job)
    story.facts["get_without_token"], _ = ask("/api/jobs/", None)
    story.facts["get_with_token"], jobs = ask("/api/jobs/", token)
    story.facts["jobs_before"] = json.loads(jobs)
    direct = urllib.request.Request(f"http://{head.address}:8265/api/version")
    try:
        with urllib.request.urlopen(direct, timeout=5):
            story.facts["dashboard_past_tunnel"] = "answers"
    except OSError as error:
        story.facts["dashboard_past_tunnel"] = str(error)
    story.tell(f"a job without a token is answered with {story.facts['post_without_token']}")


def submit(name: str, storage: str) -> None:
    """Start the study as a job, as the head of the cluster file says."""
    address = ["--address", DASHBOARD, "--working-dir", ".", "--no-wait", "--submission-id", name]
    sweep = ["python", "sweeps/full_grid.py", "--address", "auto", "--storage", storage, *STUDY]
    command = ["ray", "job", "submit", *address, "--", *sweep]
    status = run_at_desk("submit", command, RAY_AUTH_MODE="token")
    assert status == 0, f"ray job submit has ended with {status}"


def read_state(name: str, token: str) -> str:
    """Return what Ray says of a job."""
    status, text = ask(f"/api/jobs/{name}", token)
    return str(json.loads(text)["status"]) if status == 200 else f"HTTP {status}"


def wait_for_job(story: Story, name: str, token: str, timeout_s: float) -> str:
    """Wait until a job has ended, keep its log and return how it ended."""
    states = [""]

    def has_ended() -> bool:
        states.append(read_state(name, token))
        return states[-1] in ("SUCCEEDED", "FAILED", "STOPPED")

    story.wait(f"{name} has ended", has_ended, timeout_s)
    keep_log(name, token)
    return states[-1]


def keep_log(name: str, token: str) -> None:
    """Write the log of a job into a file."""
    _, text = ask(f"/api/jobs/{name}/logs", token)
    (LAB / f"{name}.log").write_text(str(json.loads(text)["logs"]) if text.startswith("{") else text)


def try_disk_of_head(story: Story, token: str) -> None:
    """Run the study with a store on the disk of the head, which no worker sees."""
    submit("local", str(HOME / "results"))
    story.facts["local_job"] = wait_for_job(story, "local", token, PROMPT_S)


def break_hosts(story: Story, hosts: Mapping[str, Host], nodes: Nodes, work: Work) -> None:
    """Kill the Ray of one host. When it is back, cut the link of another host, and restore it later."""
    killed, cut = hosts["h1"], hosts["h2"]
    for host in (killed, cut):
        host.hold()
    story.wait("h1 and h2 are in the midst of a stage", lambda: all(map(work.list_midway, (killed, cut))))
    lost = work.list_midway(killed)
    at_s = story.tell("h1: every process of Ray is killed")
    killed.kill_ray()
    facts = story.facts["kill"] = {"stages": lost}
    facts["death_found_s"] = story.wait("h1 is found dead", lambda: not nodes.has(killed))
    facts["alive_again_s"] = story.wait("h1 is alive again", lambda: nodes.has(killed))
    back_s = time.time()
    facts["at_work_again_s"] = story.wait("h1 is at work again", lambda: work.has_worked(killed, back_s))
    facts["at_s"] = at_s

    story.wait("h1 and h2 are in the midst of a stage", lambda: all(map(work.list_midway, (killed, cut))))
    lost = work.list_midway(cut)
    at_s = story.tell("h2: its link is cut")
    cut.cut()
    for host in (killed, cut):
        host.release()
    facts = story.facts["cut"] = {"stages": lost, "at_s": at_s}
    facts["death_found_s"] = story.wait("h2 is found dead", lambda: not nodes.has(cut))
    done = len(work.done)
    story.wait("another stage is done without h2", lambda: len(work.done) > done)
    cut.mend()
    story.tell("h2: its link is restored")
    facts["alive_again_s"] = story.wait("h2 is alive again", lambda: nodes.has(cut))


def account(story: Story, work: Work) -> None:
    """Note when what a broken host was at was taken up, and by whom."""
    for fault in (story.facts["kill"], story.facts["cut"]):
        fault["taken_up"] = {}
        for key in fault["stages"]:
            before = [at for at in work.seen[key] if at["seen_s"] < fault["at_s"]]
            old = {(at["host"], at["pid"]) for at in before}  # hosts count their processes each for itself
            later = [at for at in work.seen[key][len(before) :] if (at["host"], at["pid"]) not in old]
            fault["taken_up"][key[:8]] = [
                {"host": at["host"], "round": at["round"], "after_s": round(at["seen_s"] - fault["at_s"], 1)}
                for at in later[:1]
            ]


def run_study(story: Story, hosts: Mapping[str, Host], nodes: Nodes, token: str) -> None:
    """Run the study on the cluster, from its submission to its end."""
    work = Work()
    submit("study", STORAGE)
    story.tell("the study is submitted")
    try:
        break_hosts(story, hosts, nodes, work)
        story.facts["job"] = wait_for_job(story, "study", token, 300)
    finally:
        work.stop()
        keep_log("study", token)
        (LAB / "seen.json").write_text(json.dumps(work.seen, indent=1))
    story.facts["intruder"] = (hosts["h0"].directory / INTRUDER.lstrip("/")).exists()
    account(story, work)


def start_alone() -> "subprocess.Popen[bytes]":
    """Start the study on this machine alone, without a cluster: it gives the tables to compare with."""
    command = ["nice", "python", "sweeps/full_grid.py", *STUDY, "--storage", str(LAB / "alone")]
    return start_at_desk("alone", command, PYTHONPATH=str(CHECKOUT), RAY_worker_niceness="0")


def download_store() -> None:
    """Copy the store out of the bucket, which ends with the sandbox."""
    client = boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX):
        for each in page.get("Contents", ()):
            path = LAB / "cluster" / each["Key"].removeprefix(PREFIX)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read())


def main() -> None:
    """Play all acts."""
    os.environ["HOME"] = str(HOME)
    story = Story()
    try:
        hosts = make_hosts()
        story.tell("three hosts answer over ssh")
        copy_checkout()
        alone = start_alone()  # most of what follows at first waits for hosts that start
        with serve_s3():
            nodes = start_cluster(story, hosts)
            tunnel = open_tunnel(story)
            token = (HOME / ".ray/auth_token").read_text().strip()
            knock(story, hosts["h0"], token)
            try_disk_of_head(story, token)
            run_study(story, hosts, nodes, token)
            download_store()
            tunnel.kill()
            story.facts["down_status"] = run_at_desk("down", ["ray", "down", "-y", str(CLUSTER_FILE)])
            story.facts["ray_on_head_after_down"] = len(hosts["h0"].list_ray())
            story.tell("ray down has ended")
            for host in hosts.values():
                host.kill_ray()
            story.facts["alone_status"] = alone.wait(timeout=LIMIT_S)
            story.tell("one machine alone has run the study")
    finally:
        (LAB / "facts.json").write_text(json.dumps(story.facts, indent=1))


if __name__ == "__main__":
    main()
