"""`onnxseal run` with programs of any kind: what they see, what others see, and what is left."""

import hashlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import digits
import numpy as np
import onnx
import pytest
from catalog import files_below
from onnx import helper, numpy_helper
from serving import (
    NOBODY,
    ORIGINALS,
    eventually,
    files_with,
    may,
    memory,
    mounts,
    namespaces_with,
)

FACTS = {"input": "nchw", "output": 0}

# Opens a model by path, and prints what it computes.
COMPUTE = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feed = numpy.array(json.load(open(sys.argv[2])), numpy.float32)
print(json.dumps(session.run(None, {session.get_inputs()[0].name: feed})[0].tolist()))
"""


@pytest.fixture
def compute(tmp_path):
    """A command that prints what a model computes."""
    feed = tmp_path / "feed.json"
    feed.write_text(json.dumps(digits.feed_of("nchw", digits.held_out()[0]).tolist()))
    return lambda path: [sys.executable, "-c", COMPUTE, path, feed]


def expected(original):
    return digits.outputs(original, FACTS)


@mounts
def test_a_program_in_any_language_opens_models_by_path(served):
    original = ORIGINALS["digits"].read_bytes()
    model = served.model("digits")
    programs = {
        "sh": ["cat", model],
        "python": [sys.executable, "-c", "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())", model],
        "node": ["node", "-e", "process.stdout.write(require('fs').readFileSync(process.argv[1]))", model],
    }
    for program in programs.values():
        if shutil.which(program[0]):
            command = ["sh", "-c", '"$@" | sha256sum', "sh", *program]
            assert served.output("-i", served.identity, command=command) == digest_of(original)
    served.leaves_nothing()


@mounts
@memory
def test_the_identity_may_come_from_a_command(served, tmp_path):
    """Which has ended when the program begins: the process has become the program."""
    original, model = ORIGINALS["digits"].read_bytes(), served.model("digits")
    command = shlex.join(["sh", "-c", 'echo $$ >"$0"; cat "$1"', str(tmp_path / "pid"), str(served.identity)])
    program = ["sh", "-c", 'test ! -e "/proc/$(cat "$0")" && sha256sum <"$1"', tmp_path / "pid"]
    assert served.output("--identity-command", command, command=[*program, model]) == digest_of(original)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        options = ["--identity-command", command, "--into", folder, "--allow-swap"]
        assert served.output(*options, models=[model], command=[*program, "{}"]) == digest_of(original)
    served.leaves_nothing()


@mounts
def test_a_model_alone_leaves_its_folder_as_it_is(served, compute, tmp_path):
    """Only its own files are others; what the program writes beside it stays."""
    model = served.model("external")
    command = ["sh", "-c", 'echo mine > "$1/note"; shift; exec "$@"', "sh", model.parent, *compute("{}")]
    found = json.loads(served.output("-i", served.identity, models=[model], command=command))
    assert np.array_equal(np.array(found, np.float32), expected(ORIGINALS["external"]))
    assert (model.parent / "note").read_text() == "mine\n"
    # By a relative name, from the folder itself.
    (data,) = external_of(ORIGINALS["external"])
    command = ["sh", "-c", f"sha256sum < {data.name}; ls"]
    found = served.output("-i", served.identity, models=["model.onnx"], command=command, cwd=model.parent)
    assert found == digest_of(data.read_bytes()) + "".join(f"{name}\n" for name in sorted(os.listdir(model.parent)))


@mounts
@pytest.mark.parametrize("as_folder", [True, False])
def test_external_data_keep_the_names_that_they_have(as_folder, served, compute):
    """Those that the original had may be others' by now."""
    model = served.model("renamed")
    model.parent.mkdir(parents=True)
    original = ORIGINALS["external"]
    names = [path.name for path in external_of(original)]
    served.tool.protect(original, model, "--external-data", "weights/other.bin")
    for name in names:
        (model.parent / name).write_bytes(b"of another model")
    models = [model.parent if as_folder else model]
    found = json.loads(served.output("-i", served.identity, models=models, command=compute(model)))
    assert np.array_equal(np.array(found, np.float32), expected(original))
    command = ["cat", *(model.parent / name for name in names)]
    assert served.output("-i", served.identity, models=models, command=command) == "of another model"
    # In a copy, too.
    command = compute("{}" if not as_folder else "{}/model.onnx")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        options = ["-i", served.identity, "--into", folder, "--allow-swap"]
        found = json.loads(served.output(*options, models=models, command=command))
        assert files_below(Path(folder)) == []
    assert np.array_equal(np.array(found, np.float32), expected(original))


@mounts
def test_several_models_and_folders(served, compute, tmp_path):
    one = shutil.copytree(served.model("digits").parent, tmp_path / "one")
    two = shutil.copytree(served.model("external").parent, tmp_path / "two")
    models = [one, two / "model.onnx", served.repository, served.model("digits")]
    command = ["sh", "-c", "sha256sum " + " ".join(f"'{path}/model.onnx'" for path in (one, two))]
    found = served.output("-i", served.identity, models=models, command=command)
    assert len({line.split()[0] for line in found.splitlines()}) == 2
    for path, original in [(one, ORIGINALS["digits"]), (two, ORIGINALS["external"])]:
        command = compute(path / "model.onnx")
        found = json.loads(served.output("-i", served.identity, models=models, command=command))
        assert np.array_equal(np.array(found, np.float32), expected(original))
    served.fails_with(2, "-i", served.identity, models=models, command=["echo", "{}"])


@mounts
def test_braces_stand_for_the_path(served):
    command = ["printf", "%s\\n", "{}", "--a={}/b:{}", "{", "}", "{ }"]
    found = served.output("-i", served.identity, models=["models"], command=command, cwd=served.repository.parent)
    path = str(served.repository)
    assert found.splitlines() == [path, f"--a={path}/b:{path}", "{", "}", "{ }"]
    # The folder that the program starts in is the one with opened models.
    found = served.output("-i", served.identity, command=digest("digits/1/model.onnx"), cwd=served.repository)
    assert found == digest_of(ORIGINALS["digits"].read_bytes())
    # Only in arguments: the program is what it is.
    assert "{}" in served.fails_with(127, "-i", served.identity, command=["{}"])


@mounts
def test_exit_codes_and_signals_are_the_program_s(served):
    for code in (0, 1, 42, 255):
        served.output("-i", served.identity, command=["sh", "-c", f"exit {code}"], code=code)
    served.output("-i", served.identity, command=["sh", "-c", "kill -USR1 $$"], code=-signal.SIGUSR1)
    assert "No such file" in served.fails_with(127, "-i", served.identity, command=["no-such-program"])
    served.fails_with(127, "-i", served.identity, command=["./no-such-program"])
    not_executable = served.model("digits")
    not_executable.chmod(0o644)
    assert "Permission" in served.fails_with(126, "-i", served.identity, command=[not_executable])
    # It is looked for before anything is opened, and before it is asked what opens the models.
    served.fails_with(127, command=["no-such-program"])
    # The program itself is asked to end.
    script = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    process = served.start("-i", served.identity, command=["sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(timeout=60) == 9


@memory
def test_exit_codes_and_signals_of_a_program_that_is_watched(served, shm):
    demand = ["-i", served.identity, "--into", shm, "--allow-swap"]
    for code in (0, 42):
        served.output(*demand, command=["sh", "-c", f"exit {code}"], code=code)
    served.output(*demand, command=["sh", "-c", "kill -KILL $$"], code=128 + signal.SIGKILL)
    served.fails_with(127, *demand, command=["no-such-program"])
    script = 'trap "exit 9" USR1; echo ready; while :; do sleep 0.05; done'
    process = served.start(*demand, command=["sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 9
    assert files_below(shm) == []


@mounts
def test_the_program_gets_what_the_command_got(served):
    """Nothing of what the command needed for itself shows in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reading, writing = os.pipe()
    os.write(writing, served.identity.read_bytes())
    os.close(writing)

    def prepare():
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        os.umask(0o027)

    script = "ulimit -n; umask; pwd; ls /proc/self/fd | wc -l; tr '\\0' '\\n' < /proc/self/environ; cat"
    found = served.output(
        command=["sh", "-c", script],
        preexec_fn=prepare,
        cwd=served.repository,
        environment={"ONNXSEAL_IDENTITY": f"fd:{reading}", "OTHER": "stays"},
        pass_fds=[reading],
    )
    os.close(reading)
    limit, umask, folder, n_descriptors, *environment = found.splitlines()
    assert (limit, umask, folder) == (str(min(soft, 512)), "0027", str(served.repository))
    # Those of the standard, and of the folder that is listed.
    assert int(n_descriptors) == 4
    assert "OTHER=stays" in environment and not any("ONNXSEAL_IDENTITY" in line for line in environment)


@mounts
def test_folders_are_as_opened_whatever_happens_to_them(served):
    """Changes to the folder do not reach the program."""
    process = served.serve("-i", served.identity)
    inside = Path(f"/proc/{process.pid}/root{served.repository}")
    before = {path: (inside / path).read_bytes() for path in files_below(inside)}
    new = served.repository / "new"
    shutil.copytree(served.repository / "digits", new)
    os.replace(new / "1" / "model.onnx", served.model("digits"))
    served.model("external").unlink()
    (served.repository / "digits" / "config.pbtxt").unlink()
    assert {path: (inside / path).read_bytes() for path in files_below(inside)} == before
    served.is_right()


@mounts
def test_the_program_cannot_write_among_the_models(served):
    """So no optimised model gets to the disk there, and none of its children changes a model."""
    models = served.model("digits").parent
    model = models / "model.onnx"
    for command in (["touch", models / "new"], ["sh", "-c", f"echo > {model}"], ["rm", model]):
        error = served.fails_with(None, "-i", served.identity, command=command)
        assert "Read-only file system" in error or "Device or resource busy" in error, error
    # Other folders stay what they are.
    other = served.repository / "other"
    other.mkdir()
    served.output("-i", served.identity, command=["touch", other / "new"])
    assert (other / "new").exists()


@mounts
def test_paths_of_any_kind(served, tmp_path):
    odd = os.fsdecode(b"a\xff\n \\134 \xf0\x9f\x94\x91")
    folder = tmp_path / odd
    shutil.copytree(served.model("external").parent, folder / odd)
    model = folder / odd / "model.onnx"
    right = digest_of(ORIGINALS["external"].read_bytes())
    for models in [folder], [model]:
        assert served.output("-i", served.identity, models=models, command=digest(model)) == right
    assert served.output("-i", served.identity, models=[model], command=digest("{}")) == right
    command = ["sh", "-c", 'test "$1" = "$2"', "sh", "{}", os.fsencode(folder)]
    served.output("-i", served.identity, models=[folder], command=command)


@mounts
def test_links_to_models(served, tmp_path):
    """A cache has models in one folder, and names for them in another."""
    blobs, names = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "main"
    blobs.mkdir(parents=True)
    names.mkdir(parents=True)
    shutil.copy(served.model("digits"), blobs / "1")
    (names / "model.onnx").symlink_to("../../blobs/1")
    (names / "again.onnx").symlink_to("model.onnx")
    (names / "hard.onnx").hardlink_to(blobs / "1")
    (tmp_path / "link").symlink_to("cache/snapshots")
    right = digest_of(ORIGINALS["digits"].read_bytes())
    sources = [names, tmp_path / "cache", names.parent, tmp_path / "link", names / "again.onnx", blobs / "1"]
    for source in sources:
        for name in names / "model.onnx", names / "again.onnx", blobs / "1":
            assert served.output("-i", served.identity, models=[source], command=digest(name)) == right, (source, name)
    models = [names, names / "model.onnx", blobs]
    assert served.output("-i", served.identity, models=models, command=digest(names / "hard.onnx")) == right
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        options = ["-i", served.identity, "--into", folder, "--allow-swap"]
        for name in "model.onnx", "again.onnx", "hard.onnx":
            assert served.output(*options, models=[names], command=digest(f"{{}}/{name}")) == right
    # Two models with one file of external data: of which should it be?
    model = served.model("external")
    model.with_name("hard.onnx").hardlink_to(model)
    assert "two models have the file" in served.fails_with(2, "-i", served.identity)


def external_of(original):
    return sorted(original.parent.glob(f"{original.name}.data"))


def digest(path):
    return ["sh", "-c", 'sha256sum < "$1"', "sh", path]


def digest_of(content):
    return f"{hashlib.sha256(content).hexdigest()}  -\n"


@mounts
@pytest.mark.parametrize("name", ["/proc/thread-self/fd/{}", "/dev//fd/{}", "identity"])
def test_no_descriptor_of_the_identity_file_is_left(name, served):
    file = os.open(served.identity, os.O_RDONLY)
    identity = served.identity if name == "identity" else name.format(file)
    command = ["sh", "-c", f"cat /proc/self/fd/{file} 2>/dev/null | wc -c"]
    assert served.output("-i", identity, command=command, pass_fds=[file]) == "0\n"
    os.close(file)


@mounts
def test_a_program_is_found_without_the_variable(served):
    assert served.output("-i", served.identity, command=["echo", "here"], before=["env", "-u", "PATH"]) == "here\n"


@mounts
@pytest.mark.skipif(os.geteuid() != 0 or not os.path.isdir("/mnt"), reason="mounts over /mnt")
def test_links_lead_to_folders_that_others_mount(served):
    model = served.model("digits")
    link = model.with_name("link.onnx")
    link.symlink_to("/mnt/model.onnx")
    mounted = 'mount -t tmpfs none /mnt && cp "$0" /mnt/model.onnx && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", mounted, model]
    found = served.output("-i", served.identity, command=digest(link), before=before)
    assert found == digest_of(ORIGINALS["digits"].read_bytes())


@mounts
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
@pytest.mark.parametrize("what", ["model", "folder"])
def test_what_is_replaced_by_a_link_meanwhile_leads_nowhere(what, served, tmp_path):
    folder = shutil.copytree(served.model("digits").parent, tmp_path / "repository" / "folder")
    other = tmp_path / "other" / "model.onnx"
    other.parent.mkdir()
    other.write_text("another's")
    # The second of these calls hides the identity, when all models are opened.
    delay = {"model": "linkat:delay_exit=2000000", "folder": "mount:delay_exit=2000000:when=3"}[what]
    trace = ["strace", "-qq", "-f", "-o", tmp_path / "trace", "-e", "trace=mount,linkat", "-e", f"inject={delay}"]
    run = [served.tool.binary, "run", "-q", "-i", served.identity, folder.parent, "--", "cat", other]
    process = subprocess.Popen(trace + run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    swapped, target = {"model": (folder / "model.onnx", other), "folder": (folder, other.parent)}[what]
    swapped.rename(tmp_path / "taken")
    swapped.symlink_to(target)
    output, error = process.communicate()
    assert process.returncode != 0 and "replaced" in error, (output, error)


@mounts
def test_a_child_that_stays_keeps_the_memory_and_nobody_else(served):
    script = "sleep 1000 >/dev/null 2>&1 & echo $!"
    child = int(served.output("-i", served.identity, command=["sh", "-c", script]))
    try:
        assert namespaces_with(served.repository) == [child]
        inside = Path(f"/proc/{child}/root{served.repository}")
        assert files_with(served.secret, inside) and files_with(served.secret, served.repository.parent) == []
    finally:
        os.kill(child, signal.SIGKILL)
    served.leaves_nothing()


# --- users --------------------------------------------------------------------------------------------


@pytest.fixture
def public(served):
    """A copy of the models for all users, and an identity for the user `nobody` alone."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        shutil.copytree(served.repository, folder / "models")
        identity = Path(shutil.copy(served.identity, folder / "nobody.txt"))
        shutil.chown(identity, "nobody")
        yield folder
        eventually(lambda: not namespaces_with(folder))


needs_nobody = pytest.mark.skipif(
    not may(*NOBODY, "unshare", "--user", "--mount", "true"), reason="nobody may not make a user namespace"
)


@needs_nobody
def test_without_rights_in_a_user_namespace_of_its_own(served, public):
    """The program has the ids that it would have without, and no rights at all."""
    shutil.copy(served.tool.binary, public / "onnxseal")
    identity, model = public / "nobody.txt", public / "models/digits/1/model.onnx"

    def found(*command):
        process = subprocess.run(
            [*NOBODY, public / "onnxseal", "run", "-i", identity, public / "models", "--", *command],
            capture_output=True, timeout=60, text=True, cwd="/",
        )  # fmt: skip
        return process

    assert found(*digest(model)).stdout == digest_of(ORIGINALS["digits"].read_bytes())
    assert found("id", "-nu").stdout == "nobody\n" and found("id", "-ng").stdout == "nogroup\n"
    assert found("sh", "-c", "exit 42").returncode == 42
    status = found("cat", "/proc/self/status").stdout
    for line in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{line}:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    # The identity is hidden, and what hides it cannot be taken away, nor can it be passed by.
    assert found("cat", identity).stdout == ""
    for attempt in (
        f"umount {identity}",
        f"unshare --user --map-root-user --mount sh -c 'umount -l {identity}; cat {identity}'",
        "nsenter -t $$ -U -m true",
    ):
        done = found("sh", "-c", attempt)
        assert "AGE-SECRET-KEY" not in done.stdout and done.stderr
    other = subprocess.Popen([*NOBODY, "sleep", "1000"])
    try:
        looked = found("cat", f"/proc/{other.pid}/root{identity}")
        assert looked.returncode != 0 and "Permission denied" in looked.stderr
    finally:
        other.kill()
        other.wait()


@needs_nobody
def test_root_without_the_right_to_mount_gets_none_from_it(served):
    """It is root in its user namespace, and so are the programs that it starts, without rights."""
    deprived = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    if not may(*deprived, "true"):
        pytest.skip("no right to give up rights (CAP_SETPCAP)")
    status = served.output("-i", served.identity, before=deprived, command=["cat", "/proc/self/status"])
    assert "CapEff:\t0000000000000000" in status and "Uid:\t0\t" in status
    script = f"cat {served.identity}; umount {served.identity} && cat {served.identity}"
    process = served.start("-i", served.identity, before=deprived, command=["sh", "-c", script], stdout=subprocess.PIPE)
    output, error = process.communicate(timeout=60)
    assert output == "" and "umount" in error
    found = served.output("-i", served.identity, before=deprived, command=digest(served.model("digits")))
    assert found == digest_of(ORIGINALS["digits"].read_bytes())


@mounts
def test_what_other_users_see(served, public):
    """The protected models, and the identity if it is theirs."""
    model = public / "models/digits/1/model.onnx"
    command = ["sh", "-c", "echo ready; exec sleep 1000"]
    process = served.start(
        "-i", served.identity, models=[public / "models"], command=command, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == "ready\n"
    for path in (f"/proc/{process.pid}/root{model}", f"/proc/{process.pid}/cwd", f"/proc/{process.pid}/mem"):
        assert not may(*NOBODY, "head", "-c", "1", path)
    seen = subprocess.run([*NOBODY, "cat", model], capture_output=True, check=True).stdout
    assert seen == model.read_bytes() and served.secret not in seen
    process.kill()
    process.wait(timeout=60)


@mounts
def test_a_user_for_the_program(served, public):
    identity = public / "root.txt"
    shutil.copy(served.identity, identity)
    identity.chmod(0o600)
    model = public / "models/digits/1/model.onnx"
    options = ["-i", identity, "--user", "nobody"]
    right = digest_of(ORIGINALS["digits"].read_bytes())
    assert served.output(*options, models=[public / "models"], command=digest(model)) == right
    assert served.output(*options, models=[model], command=digest("{}")) == right
    groups = served.output(*options, models=[model], command=["id", "-G", "-n"])
    assert groups == "nogroup\n"
    attempt = f"cat {identity} /proc/1/root{identity}; unshare -Um umount {identity}; cat {identity}"
    process = served.start(*options, models=[model], command=["sh", "-c", attempt], stdout=subprocess.PIPE)
    output, error = process.communicate(timeout=60)
    assert output == "" and process.returncode != 0, error
    assert "no user" in served.fails_with(2, "-i", identity, "--user", "nobody-at-all")
    denied = subprocess.run(
        [*NOBODY, served.tool.binary, "run", "-i", identity, "--user", "root", model, "--", "true"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert denied.returncode != 0


# --- the moment of a kill -----------------------------------------------------------------------------


@pytest.fixture
def large(served):
    """A model that takes a while to open, in a folder of its own."""
    weights = np.random.default_rng(7).standard_normal((4096, 4096), np.float32)
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(3)]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4096])],
        [helper.make_tensor_value_info(f"y{i}", onnx.TensorProto.FLOAT, [1, 4096]) for i in range(3)],
        [numpy_helper.from_array(weights + i, f"w{i}") for i in range(3)],
    )
    folder = served.repository.parent / "large"
    folder.mkdir()
    plain = served.repository.parent / "plain.onnx"
    onnx.save(helper.make_model(graph), plain)
    served.tool.protect(plain, folder / "model.onnx")
    served.secret = weights.tobytes()[:32]
    plain.unlink()
    return folder


@mounts
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_by_a_kill_at_any_moment(number, served, large):
    dice = random.Random(int(number))
    mark = served.temporary / "started"
    n_before = 0
    for _ in range(12):
        command = ["sh", "-c", f"touch {mark}; exec sleep 1000"]
        process = served.start("-i", served.identity, models=[large], command=command)
        time.sleep(dice.uniform(0, 0.5))
        n_before += not mark.exists()
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
        mark.unlink(missing_ok=True)
        assert files_with(served.secret, served.repository.parent, "/dev/shm", served.temporary) == []
        eventually(lambda: not namespaces_with(served.repository.parent))
    assert n_before > 0, "every kill came too late"


@memory
def test_given_memory_after_a_signal_at_any_moment(served, large, shm):
    """A signal that can be caught leaves nothing; after a kill the next run removes what is there."""
    dice = random.Random(1)
    options = ["-i", served.identity, "--into", shm, "--allow-swap"]
    for i in range(12):
        number = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL][i % 4]
        process = served.start(*options, models=[large], command=["sleep", "1000"])
        time.sleep(dice.uniform(0.02, 0.5))
        process.send_signal(number)
        code = process.wait(timeout=60)
        if number == signal.SIGKILL:
            assert code == -number
            assert served.output(*options, models=[large], command=["ls", "{}"]) == "model.onnx\n"
        else:
            # Before it watches, it has written nothing.
            assert code in (128 + number, -number)
        assert files_below(shm) == []
