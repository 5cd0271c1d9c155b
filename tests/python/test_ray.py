"""The example of a Ray cluster, on a local one: an object store's zoo, and workers that are killed."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from catalog import MODELS, ROOT
from store import environment, proxy

MISSING = [f"module {name}" for name in ("ray",) if not importlib.util.find_spec(name)]
MISSING += [f"program {name}" for name in ("setpriv",) if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)}, which the example of Ray needs")

ZOO = [f"{folder}/{name}.onnx" for folder in ("text", "vision") for name in range(6)]
ORIGINAL = (MODELS / "digits_cnn.onnx").read_bytes()


@pytest.fixture
def zoo(server, prefix):
    for name in ZOO:
        server.write(f"{prefix}/in/{name}", ORIGINAL)


@pytest.fixture
def cluster(tool, tmp_path):
    """Runs the example, with a Ray of its own, and gives its exit code, its report, and what it said."""
    # Paths of Ray's sockets must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")

    def run(url, *command, options=("--parts", "4")):
        example = [sys.executable, ROOT / "examples" / "ray_zoo.py", *options, "--onnxseal", tool.binary]
        env = environment(url, tmp_path) | {"RAY_TMPDIR": folder, "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [*example, report, "--", *map(str, command)], env=env, capture_output=True, text=True, timeout=600
        )
        assert list(tmp_path.glob(".report.json*")) == []
        return done.returncode, json.loads(report.read_text()) if report.exists() else None, done.stderr

    yield run
    shutil.rmtree(folder)


def outcomes(report):
    return {name: n for name, n in report["totals"].items() if name in ("done", "skipped", "failed") and n}


def commands_at_work(word):
    """Processes of the command that have `word` among their arguments: (id, id of the parent)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if "--shard" in arguments and any(word in argument for argument in arguments):
            found.append((int(process.name), parent))
    return found


def kill_a_worker(word):
    """Kills the Ray worker above a command, and returns whether the command ends too."""
    command, worker = commands_at_work(word)[0]
    assert b"ray" in Path(f"/proc/{worker}/cmdline").read_bytes()
    os.kill(worker, signal.SIGKILL)
    for _ in range(50):
        if command not in (running for running, _ in commands_at_work(word)):
            return True
        time.sleep(0.1)
    return False


def test_a_part_whose_worker_is_killed_is_completed(zoo, cluster, tool, server, prefix, at, tmp_path):
    killed, first = [], threading.Lock()

    def judge(method, path):
        # Each model has two writes of its record and one of itself: this is in the midst of a part.
        # It reaches the store after the kill, maybe when the next try has looked there.
        if method == "PUT" and "/0.onnx" in path and ".onnxseal" not in path and first.acquire(blocking=False):
            killed.append(kill_a_worker(at("protected/")))
        return None

    protect = ["batch", "protect", at("in/"), "--out", at("protected/"), "-r", tool.recipient]
    with proxy(server, judge) as (url, _):
        code, report, said = cluster(url, *protect)
    assert code == 0, said
    assert killed == [True], "the command goes on without its worker"
    assert report["retries"] in (1, 2) and "worker was lost" in said
    assert report["operation"] == "protect" and not report["stopped"] and "lost_parts" not in report
    assert [row["source"] for row in report["models"]] == [at(f"in/{name}") for name in ZOO]
    assert sum(outcomes(report).values()) == len(ZOO) and "failed" not in outcomes(report)
    # Nothing is done again, in other parts either.
    code, report, said = cluster(server.url, *protect, options=("--parts", "3"))
    assert (code, outcomes(report), report["retries"]) == (0, {"skipped": len(ZOO)}, 0), said

    rotate = ["batch", "rotate", at("protected/"), "--out", at("rotated/")]
    code, report, said = cluster(server.url, *rotate, "-i", tool.identity_file, "-r", tool.recipient)
    assert (code, outcomes(report)) == (0, {"done": len(ZOO)}), said
    for number, name in enumerate(ZOO):
        (tmp_path / "rotated.onnx").write_bytes(server.read(f"{prefix}/rotated/{name}"))
        tool.unprotect(tmp_path / "rotated.onnx", tmp_path / f"{number}.onnx")
        assert (tmp_path / f"{number}.onnx").read_bytes() == ORIGINAL


def test_a_part_that_is_lost_every_time_is_given_up(zoo, cluster, tool, server, at):
    def judge(method, path):
        # It is read in each try; a write of the first one could arrive late, and be the last.
        if "/in/text/0.onnx" in path:
            kill_a_worker(at("protected/"))
            return "cut"
        return None

    protect = ["batch", "protect", at("in/"), "--out", at("protected/"), "-r", tool.recipient]
    with proxy(server, judge) as (url, _):
        code, report, said = cluster(url, *protect, options=("--parts", "1", "--tries", "2"))
    assert code == 1 and report["stopped"] and report["lost_parts"] == [0] and report["retries"] == 1, said


def test_models_that_fail_and_stores_that_fail_for_a_while(zoo, cluster, tool, server, prefix, at):
    server.write(f"{prefix}/in/bad.onnx", b"not a model")
    protect = ["batch", "protect", at("in/"), "--out", at("protected/"), "-r", tool.recipient]
    denied = []

    def judge(method, path):
        # Not tried again by the command itself.
        if method == "PUT" and "vision/3.onnx" in path and ".onnxseal" not in path and not denied:
            denied.append(path)
            return 403
        return None

    with proxy(server, judge) as (url, _):
        code, report, said = cluster(url, *protect)
    assert denied and code == 3, said
    assert report["retries"] == 1 and outcomes(report)["failed"] == 1
    (failed,) = (row for row in report["models"] if row["outcome"] == "failed")
    assert failed["source"] == at("in/bad.onnx") and failed["error"]["class"] == "malformed"


def test_what_the_command_refuses_ends_it_without_a_report(zoo, cluster, server, at):
    code, report, said = cluster(server.url, "batch", "protect", at("in/"), "--out", at("protected/"))
    assert code == 1 and report is None and "no recipient" in said


def test_assessing(zoo, cluster, server, at):
    data = ["--data", MODELS / "digits_test.csv", "--limit", "50", "--preset", "full", "--no-public-base"]
    code, report, said = cluster(server.url, "assess", at("in/vision/"), *data, options=("--parts", "2"))
    assert (code, outcomes(report)) == (0, {"done": 6}), said
    for row in report["models"]:
        (candidate,) = row["assessment"]["candidates"]
        assert row["assessment"]["model"] == row["source"] and candidate["name"] == "full"
