"""examples/triton/serve.sh on memory that it is given, as in containers that may not mount."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from catalog import ROOT, files_below
from serving import ORIGINALS, SCRIPT, SERVER, answers, eventually, files_with, may, memory, mounts
from store import wait_for


@memory
def test_given_memory(served, shm):
    process = served.serve("-i", served.identity, "--given", "--allow-swap", folder=shm)
    served.is_right()
    assert shm / "onnxseal-opened/digits/1/model.onnx" in files_with(served.secret, shm)
    assert (shm / "onnxseal-opened").stat().st_mode & 0o077 == 0
    assert files_with(served.secret, served.repository.parent) == []
    _, error = served.start("-i", served.identity, "--given", "--allow-swap", folder=shm).communicate(timeout=60)
    assert "in use by another" in error
    served.is_right()
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert files_below(shm) == []


@memory
def test_given_memory_after_a_kill_is_emptied_by_the_next(served, shm):
    """Nothing can remove files when it is killed. The server ends with the script, though."""
    first = served.serve("-i", served.identity, "--given", "--allow-swap", folder=shm)
    first.kill()
    first.wait(timeout=60)
    url = f"http://127.0.0.1:{served.port}/v2/health/ready"
    eventually(lambda: not answers(url))
    left = shm / "onnxseal-opened" / "gone" / "model.onnx"
    left.parent.mkdir()
    left.write_text("of a model that the repository no longer has")

    second = served.serve("-i", served.identity, "--given", "--allow-swap", folder=shm)
    served.is_right()
    assert not left.exists()
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=60) == 128 + signal.SIGTERM
    assert files_below(shm) == []


@memory
def test_given_memory_is_left_filled_if_asked_for(served, shm):
    demand = ["-i", served.identity, "--given", "--allow-swap"]
    for _ in range(2):
        done = served.start(*demand, "--open-only", folder=shm, command=[])
        assert done.wait(timeout=60) == 0, done.stderr.read()
        opened = shm / "onnxseal-opened"
        assert (opened / "digits/1/model.onnx").read_bytes() == ORIGINALS["digits"].read_bytes()
    changed = bytearray(served.model("external").read_bytes())
    changed[5_000] ^= 1
    served.model("external").write_bytes(changed)
    assert served.start(*demand, "--open-only", folder=shm, command=[]).wait(timeout=60) != 0
    assert files_below(shm) == [], "plaintext is left where the next one failed"


@memory
def test_the_pod_of_the_documentation(served, shm):
    """The commands of its containers, one after the other as Kubernetes runs them, on the folders that it mounts."""
    manifest = re.search(r"```yaml\n(apiVersion.*?)```", (ROOT / "docs" / "SERVING.md").read_text(), re.S)[1]
    pod = yaml.safe_load(manifest)["spec"]
    (init,), (container,) = pod["initContainers"], pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["opened"]["emptyDir"]["medium"] == "Memory"
    assert "identity" not in [mount["name"] for mount in container["volumeMounts"]]

    keys = served.repository.parent / "identity"
    keys.mkdir()
    shutil.copy(served.identity, keys / "key")
    folders = {"models": served.repository, "identity": keys, "opened": shm, "tmp": served.temporary}
    assert folders.keys() == volumes.keys()

    def here(of):
        command = of["command"]
        for mount in of["volumeMounts"]:
            path = re.compile(rf"(^|=){mount['mountPath']}\b")
            command = [path.sub(rf"\1{folders[mount['name']]}", part) for part in command]
        return command

    name, *arguments = here(init)
    assert name == "serve.sh"
    environment = os.environ | {"ONNXSEAL_BIN": str(served.tool.binary)}
    subprocess.run([SCRIPT, "--allow-swap", *arguments], env=environment, check=True, timeout=60)
    name, repository = here(container)
    assert name == "tritonserver"
    command = [sys.executable, SERVER, repository.removeprefix("--model-repository="), str(served.port)]
    server = subprocess.Popen(command)
    served.processes.append(server)
    wait_for(f"http://127.0.0.1:{served.port}/v2/health/ready", server)
    served.is_right()


SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
SWAP = {
    "none": "",
    "disk": "/dev/sda2                               partition\t8388604\t\t0\t\t-2\n",
    "encrypted": "/dev/dm-7                               partition\t8388604\t\t0\t\t-2\n",
    "both": "/dev/dm-7 partition 8388604 0 -2\n/swapfile file 8388604 0 -3\n",
}


@mounts
@memory
@pytest.mark.parametrize("swap, options, allowed", [
    ("none", [], True),
    ("disk", [], False),
    ("disk", ["--allow-swap"], True),
    ("encrypted", [], True),
    ("both", [], False),
])  # fmt: skip
def test_given_memory_that_may_be_swapped_out(swap, options, allowed, served, shm):
    """The kernel's list of swap devices is another one in the namespace that the script is started in."""
    swaps = served.repository.parent / "swaps"
    swaps.write_text(SWAPS + SWAP[swap])
    device = f"""
        mount --bind {swaps} /proc/swaps
        mount -t tmpfs none /sys/class/block && mkdir -p /sys/class/block/dm-7/dm /sys/class/block/sda2
        echo CRYPT-PLAIN-swap > /sys/class/block/dm-7/dm/uuid
        exec "$@"
    """
    before = ["unshare", "--mount", "sh", "-ec", device, "sh"]
    options = ["-i", served.identity, "--given", *options]
    if allowed:
        served.serve(*options, folder=shm, before=before)
        served.is_right()
    else:
        assert "may be swapped out" in served.fails(2, *options, folder=shm, before=before)
    assert allowed or files_below(shm) == []


def test_folders_on_a_disk_are_refused(served):
    if may("sh", "-c", f"test $(stat -f -c %T {served.folder}) = tmpfs"):
        pytest.skip(f"{served.folder} is in memory")
    assert "is not in memory" in served.fails(2, "-i", served.identity, "--given")
