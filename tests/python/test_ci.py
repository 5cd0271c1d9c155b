"""The tool as a step of CI: what it finds, SARIF against its schema, and the files that other systems read."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from catalog import EXIT_CODES, MODELS, ROOT, SEALED, files_below
from onnx import TensorProto, helper, numpy_helper

SCHEMAS = ROOT / "tests" / "python" / "schemas"


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def add_models():
    """y = x + w; the same without nodes: w is the output; and with nothing but x."""
    x, y, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xyw")
    w = numpy_helper.from_array(np.ones(2, np.float32), "w")
    opsets = [helper.make_opsetid("", 13)]
    full = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w])
    bare = helper.make_graph([], "g", [], [out], [w])
    through = helper.make_graph([], "g", [x], [x])
    return [helper.make_model(graph, opset_imports=opsets, ir_version=8) for graph in (full, bare, through)]


def encodings():
    """Ways to write a model, sound and not: `{name: bytes}`."""
    model, bare, through = add_models()
    plain, graph = model.SerializeToString(), model.graph.SerializeToString()
    ir, opset, whole = b"\x08\x08", field(8, model.opset_import[0].SerializeToString()), field(7, graph)
    given = model.graph.input[0].SerializeToString()
    weights, rest = onnx.GraphProto(initializer=model.graph.initializer), onnx.GraphProto()
    rest.CopyFrom(model.graph)
    del rest.initializer[:]
    return {
        "plain": plain,
        "no nodes": bare.SerializeToString(),
        "nothing inside": through.SerializeToString(),
        "an input and an empty node": ir + opset + field(7, field(11, given) + field(1, b"")),
        "graph first": whole + opset + ir,
        "graph in two parts": ir + field(7, weights.SerializeToString()) + opset + field(7, rest.SerializeToString()),
        "ir_version 0": b"\x08\x00" + whole + opset,
        "no opset_import": ir + whole,
        "no nodes, empty opset_import": ir + field(7, bare.graph.SerializeToString()) + field(8, b""),
        "no ir_version": whole + opset,
        "ir_version of 8 bytes": b"\x09" + bytes(8) + whole + opset,
        "ir_version also a string": ir + field(1, b"abc") + whole + opset,
        "ir_version with surplus bits": b"\x08\x88" + b"\x80" * 8 + b"\x7f" + whole + opset,
        "tag with surplus bits": b"\x88\x80\x80\x80\x10\x08" + whole + opset,
        "tag longer than needed": b"\x88\x80\x00\x08" + whole + opset,
        "tag of 6 bytes": b"\x88\x80\x80\x80\x80\x00\x08" + whole + opset,
        "producer_name not UTF-8": plain + field(2, b"\xff\xfe"),
        "unknown field": plain + field(90, b"\xff"),
        "unknown field in graph": ir + opset + field(7, graph + field(3, b"\xff")),
        "group": plain + b"\x83\x06\x08\x01\x84\x06",
        "group in group": plain + b"\x83\x06\x8b\x06\x0a\x01x\x8c\x06\x84\x06",
        "group with another end": plain + b"\x83\x06\x08\x01\x8c\x06",
        "trailing zero": plain + b"\x00",
        "trailing end of group": plain + b"\x0c",
        "field 0": plain + b"\x02\x00",
        "wire type 6": plain + b"\x0e",
        "broken opset_import": plain + field(8, b"\xff"),
        "broken metadata": plain + field(14, b"\xff"),
        "broken function": plain + field(25, b"\xff"),
        "cut": plain[:-1],
    }


# ONNX Runtime loads these, and a search passes over them: they are malformed, or begin as no writer of protobuf begins.
UNUSUAL = {
    "graph in two parts",
    "group",
    "group in group",
    "ir_version also a string",
    "ir_version with surplus bits",
    "tag longer than needed",
    "tag with surplus bits",
}


def finds(tool, folder):
    """Whether a folder with one file has a model by the tool's judgement."""
    done = tool.run("verify", folder, "--require-protected")
    if done.returncode == EXIT_CODES["usage"]:
        assert "nothing was checked" in done.stderr
        return False
    return True


@pytest.mark.parametrize("name", encodings())
def test_what_onnx_runtime_loads_is_found(name, tool, tmp_path):
    content = encodings()[name]
    (tmp_path / "file").write_bytes(content)
    try:
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        loads = True
    except Exception:  # ONNX Runtime raises a dozen types with no common base.
        loads = False
    assert finds(tool, tmp_path) == (loads and name not in UNUSUAL)
    if name in UNUSUAL:
        assert loads
        (tmp_path / "file").rename(tmp_path / "file.onnx")
        done = tool.run("verify", tmp_path, "--require-protected")
        assert done.returncode in (EXIT_CODES["malformed"], EXIT_CODES["policy"])


@pytest.mark.parametrize("model", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_models_without_their_suffix_are_found(model, tool, tmp_path):
    shutil.copy(model, tmp_path / "blob")
    assert finds(tool, tmp_path)


def test_other_files_are_not_found(tool, tmp_path):
    model = add_models()[0]
    # The third reads as a graph with a node.
    arrays = [np.arange(6), np.ones((2, 3), np.float32), np.int64([10, 4, 34, 2, 65, 66]), np.array(["a"])]
    for i, array in enumerate(arrays):
        for name in ["x", "input_0", "A_1"]:
            tensor = numpy_helper.from_array(array, name)
            (tmp_path / f"raw_{i}_{name}.pb").write_bytes(tensor.SerializeToString())
            if array.dtype == np.int64:
                tensor = helper.make_tensor(name, TensorProto.INT64, array.shape, array)
                (tmp_path / f"int64_{i}_{name}.pb").write_bytes(tensor.SerializeToString())
        np.save(tmp_path / f"{i}.npy", array)
        np.savez(tmp_path / f"{i}.npz", array)
    (tmp_path / "graph.pb").write_bytes(model.graph.SerializeToString())
    (tmp_path / "node.pb").write_bytes(model.graph.node[0].SerializeToString())
    (tmp_path / "type.pb").write_bytes(model.graph.input[0].SerializeToString())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", model.SerializeToString())
    (tmp_path / "checkpoint.pt").write_bytes(packed.getvalue())
    (tmp_path / "text.txt").write_text(str(model))
    assert not finds(tool, tmp_path)


@pytest.fixture
def zoo(tool, tmp_path):
    """A folder with models of all kinds, and names that URIs need to quote."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    tool.protect(MODELS / "digits_cnn.onnx", folder / "sealed 100 %.onnx", "--preset", "balanced")
    shutil.copy(MODELS / "tiny_int4.onnx", folder / "klar ü.bin")
    (folder / "not.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    sealed = bytearray((folder / "sealed 100 %.onnx").read_bytes())
    sealed[20_000] ^= 1
    (folder / "changed#1.onnx").write_bytes(sealed)
    return folder


def sarif(tool, code, *arguments):
    log = json.loads(tool("verify", *arguments, "--sarif", code=code).stdout)
    schema = json.loads((SCHEMAS / "sarif-2.1.0.json").read_text())
    jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    return log["runs"][0]


def test_sarif_is_valid(zoo, tool, stranger):
    run = sarif(tool, EXIT_CODES["authentication"], zoo, "-i", tool.identity_file, "--require-protected")
    assert {r["ruleId"][-3:] for r in run["results"]} == {"001", "003", "004"}
    uris = [a["location"]["uri"] for a in run["artifacts"]]
    assert [uri.rpartition("/")[2] for uri in uris] == [
        "changed%231.onnx", "klar%20%C3%BC.bin", "not.onnx", "sealed%20100%20%25.onnx"
    ]
    assert all(uri.startswith("file:///") for uri in uris)

    sealed = zoo / "sealed 100 %.onnx"
    run = sarif(tool, EXIT_CODES["policy"], sealed, "--preset", "full")
    assert [r["ruleId"] for r in run["results"]] == ["ONNXSEAL002"]
    other = zoo.parent / "other.txt"
    other.write_text(str(stranger))
    run = sarif(tool, EXIT_CODES["no_matching_key"], sealed, "-i", other)
    assert [r["ruleId"] for r in run["results"]] == ["ONNXSEAL005"]
    missing = SEALED / "invalid" / "external_missing"
    run = sarif(tool, EXIT_CODES["io"], missing)
    assert [r["ruleId"] for r in run["results"]] == ["ONNXSEAL006"]
    run = sarif(tool, 0, sealed)
    assert run["results"] == [] and len(run["artifacts"]) == 1


def schema_holds(name, file):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def documented(file_name):
    """The YAML in docs/CI.md that is to be put into a file of that name."""
    blocks = re.findall(r"```yaml\n(# (\S+)\n.*?)```", (ROOT / "docs" / "CI.md").read_text(), re.S)
    return next(text for text, name in blocks if name.endswith(file_name))


def test_no_text_names_a_registry_where_nothing_is():
    """Until there are packages, all is installed from a checkout."""
    texts = [ROOT / "README.md", ROOT / "action.yml", ROOT / "Dockerfile", ROOT / ".github" / "workflows" / "release.yml"]
    for folder, pattern in [("docs", "*.md"), ("examples", "**/*.md"), ("crates", "*/README.md"), ("src", "**/*.rs"), ("crates", "*/src/**/*.rs")]:
        texts += (ROOT / folder).glob(pattern)
    texts += (ROOT / "crates" / "python" / "python").glob("**/*.py*")
    assert len(texts) > 200
    named = re.compile(r"(?:cargo (?:install|add)|pip install|docker (?:pull|run))\b(?P<rest>[^`\n]*)")
    for text in texts:
        for found in named.finditer(text.read_text(errors="replace")):
            words = found["rest"].split("#")[0].split()
            is_local = any(word in words for word in ("--path", "--git", "run"))
            named_packages = [word for word in words if re.fullmatch(r"'?onnxseal(-\w+)?([=<>\[].*)?'?", word)]
            assert is_local or not named_packages or "docker run" in found[0], f"{text}: {found[0]}"


def test_what_other_systems_read_is_valid(tmp_path):
    schema_holds("github-actions", ROOT / "action.yml")
    workflows = sorted((ROOT / ".github" / "workflows").iterdir())
    assert [workflow.name for workflow in workflows] == ["ci.yml", "release.yml"]
    for workflow in workflows:
        schema_holds("github-workflows", workflow)
        assert "HAS NOT RUN YET" in workflow.read_text()
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir():
        schema_holds("github-issue-config" if form.name == "config.yml" else "github-issue-forms", form)
    for name, schema in [("models.yml", "github-workflows"), (".gitlab-ci.yml", "gitlab-ci")]:
        (tmp_path / name).write_text(documented(name))
        schema_holds(schema, tmp_path / name)
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    workflow = yaml.safe_load(documented("models.yml"))
    used = next(step for step in workflow["jobs"]["verify"]["steps"] if step["uses"].startswith("onnxseal/"))
    assert set(used["with"]) <= set(action["inputs"])
    hooks = tmp_path / ".pre-commit-config.yaml"
    hooks.write_text(documented(hooks.name))
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", hooks], check=True)


def test_docker_gets_what_the_build_needs(tmp_path):
    """All files but those that .dockerignore takes out: cargo must find whatever the manifests name."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    names = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules and all((ROOT / name).exists() for name in names)
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = ["cargo", "tree", "--locked", "--offline", "--edges", "normal,build", "--depth", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("onnxseal v"), done.stderr


def test_the_source_distribution_has_what_the_build_needs(tmp_path):
    """pip builds the package from it: cargo must find whatever the manifests name. It is not the whole repository."""
    command = ["maturin", "sdist", "--manifest-path", ROOT / "crates" / "python" / "Cargo.toml", "--out", tmp_path]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    (archive,) = tmp_path.glob("onnxseal-*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    root = tmp_path / archive.name.removesuffix(".tar.gz")
    command = ["cargo", "tree", "--offline", "--edges", "normal,build", "--depth", "0", "--package", "onnxseal-python"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("onnxseal-python v"), done.stderr
    source = ROOT / "crates" / "python" / "python"
    assert files_below(root / "python") == [n for n in files_below(source) if "__pycache__" not in n]
    assert not {"fixtures", "tests"} & {path.name for path in root.iterdir()}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The installed package as the wheel that it was installed from."""
    package = metadata.distribution("onnxseal")
    inside = [file for file in package.files if ".." not in file.parts and file.suffix != ".pyc"]
    inside = [file for file in inside if file.name not in ("INSTALLER", "REQUESTED", "direct_url.json")]
    (tag,) = re.findall("^Tag: (.*)$", package.read_text("WHEEL"), re.M)
    path = tmp_path_factory.mktemp("wheel") / f"onnxseal-{package.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in inside:
            archive.write(file.locate(), str(file))
    return path


class Action:
    """The steps of action.yml that are scripts, run as a runner does."""

    def __init__(self, folder, command):
        self.command = command
        steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
        self.scripts = {step.get("id", step["name"]): step for step in steps if "run" in step}
        self.temporary = folder / "runner"
        self.temporary.mkdir()
        self.workspace = folder / "workspace"
        self.workspace.mkdir()

    def __call__(self, step, **values):
        """Exit code, standard output and error, and the step's outputs."""
        script = self.scripts[step]
        # Values reach scripts by the environment alone: what is pasted into them could be anything.
        assert "${{" not in script["run"] and set(values) == set(script["env"])
        outputs = self.temporary / "outputs"
        outputs.write_text("")
        file = self.temporary / "step.sh"
        file.write_text(script["run"])
        environment = os.environ | values | {"GITHUB_OUTPUT": str(outputs)}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(file)]
        done = subprocess.run(command, cwd=self.workspace, env=environment, capture_output=True, text=True)
        return done, dict(line.split("=", 1) for line in outputs.read_text().splitlines())

    def install(self, package, built):
        """Installs `package`, or else the wheel in the folder `built`, and takes the command from there."""
        tool = str(self.temporary / "tool")
        values = {"PACKAGE": package, "PYTHON": sys.executable, "TOOL": tool, "WHEEL": str(built)}
        done, outputs = self("install", **values)
        assert done.returncode == 0, done.stderr
        self.command = outputs["command"]

    def verify(self, **values):
        names = ["PATHS", "REQUIRE_PROTECTED", "POLICY", "PRESET", "IDENTITY", "SARIF"]
        names += ["ALLOWED_SIGNERS", "SIGNER", "REQUIRE_CLAIMS"]
        inputs = {"PATHS": ".", "REQUIRE_PROTECTED": "true"} | values
        inputs = {name: inputs.get(name, "") for name in names}
        before = files_below(self.temporary)
        done, outputs = self("verify", COMMAND=str(self.command), TEMPORARY=str(self.temporary), **inputs)
        left = set(files_below(self.temporary)) - set(before)
        assert left <= {"outputs", "step.sh"}, "the identity, or the signers, are left behind"
        assert outputs["exit-code"] == str(done.returncode)
        return done, outputs


@pytest.fixture
def action(tool, tmp_path):
    return Action(tmp_path, tool.binary)


@pytest.mark.parametrize("given", ["built", "named"])
def test_action_installs_a_wheel(given, wheel, action, tool, zoo, tmp_path):
    """It stands for one that pip has built, or for one that the user names; what is installed needs nothing else."""
    package, built = ("", wheel.parent) if given == "built" else (str(wheel), tmp_path / "nothing")
    action.install(package, built)
    shutil.copy(zoo / "sealed 100 %.onnx", action.workspace / "sealed.onnx")
    done, _ = action.verify(IDENTITY=tool.identity_file.read_text())
    assert done.returncode == 0 and "every byte" in done.stdout
    shutil.copy(zoo / "klar ü.bin", action.workspace / "blob")
    done, _ = action.verify()
    assert done.returncode == EXIT_CODES["policy"]


def test_action_verifies(action, tool, zoo):
    models = action.workspace / "my models"
    models.mkdir()
    shutil.copy(zoo / "sealed 100 %.onnx", models / "sealed.onnx")
    identity = tool.identity_file.read_text()
    done, _ = action.verify()
    assert done.returncode == 0 and "contents not checked" in done.stdout
    done, outputs = action.verify(PATHS="\nmy models\n*/*.onnx\n", IDENTITY=identity, PRESET="balanced", SARIF="out.sarif")
    assert (done.returncode, outputs["sarif"]) == (0, "out.sarif"), done.stderr
    assert json.loads((action.workspace / "out.sarif").read_text())["runs"][0]["results"] == []
    done, _ = action.verify(PRESET="full")
    assert done.returncode == EXIT_CODES["policy"]

    shutil.copy(zoo / "klar ü.bin", models / "blob")
    done, outputs = action.verify(SARIF="out.sarif", IDENTITY=identity)
    assert (done.returncode, outputs["sarif"]) == (EXIT_CODES["policy"], "out.sarif")
    assert "my models/blob: FAILED, not protected" in done.stderr
    (result,) = json.loads((action.workspace / "out.sarif").read_text())["runs"][0]["results"]
    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "my%20models/blob", "uriBaseId": "%SRCROOT%"}
    done, _ = action.verify(REQUIRE_PROTECTED="false")
    assert done.returncode == 0


def test_action_demands_signatures_and_claims(action, tool):
    """Without a secret, as in pull requests from forks."""
    key = action.temporary.parent / "signing"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    except FileNotFoundError:
        pytest.skip("ssh-keygen is missing")
    line = "release@example.com " + key.with_suffix(".pub").read_text()
    (action.workspace / "signers of ours").write_text(line)
    made = ["--sign-key", key, "--claim", "customer=acme"]
    tool.protect(MODELS / "digits_cnn.onnx", action.workspace / "sealed.onnx", *made)
    for allowed in "signers of ours", line, "# ours\n" + line:
        done, _ = action.verify(
            PATHS="sealed.onnx",
            REQUIRE_PROTECTED="false",
            ALLOWED_SIGNERS=allowed,
            SIGNER="release@example.com",
            REQUIRE_CLAIMS="customer=acme\n\ncustomer\n",
        )
        assert done.returncode == 0 and re.search("signed by:? release@example.com", done.stdout), done.stderr
    for code, wrong in [
        ("authentication", dict(ALLOWED_SIGNERS=line, SIGNER="somebody@example.com")),
        ("policy", dict(ALLOWED_SIGNERS=line, REQUIRE_CLAIMS="customer=acme\ncustomer=other")),
        ("policy", dict(REQUIRE_CLAIMS="absent", REQUIRE_PROTECTED="false")),
        ("io", dict(ALLOWED_SIGNERS="absent")),
        ("usage", dict(SIGNER="release@example.com")),
    ]:
        done, outputs = action.verify(PATHS="sealed.onnx", SARIF="out.sarif", **wrong)
        assert done.returncode == EXIT_CODES[code], done.stderr
    shutil.copy(MODELS / "digits_cnn.onnx", action.workspace / "plain.onnx")
    for demand in dict(ALLOWED_SIGNERS=line), dict(REQUIRE_CLAIMS="customer"):
        done, _ = action.verify(REQUIRE_PROTECTED="false", **demand)
        assert done.returncode == EXIT_CODES["policy"]


def test_action_is_not_green_where_nothing_was_checked(action):
    done, outputs = action.verify(SARIF="out.sarif")
    assert done.returncode == EXIT_CODES["usage"] and "nothing was checked" in done.stderr
    assert "sarif" not in outputs and not (action.workspace / "out.sarif").exists()
    # What looks like an option is a path.
    done, _ = action.verify(PATHS="--help")
    assert done.returncode == EXIT_CODES["io"]


def test_action_rejects_odd_input(action):
    script = action.scripts["verify"]
    values = {name: "" for name in script["env"]} | {"REQUIRE_PROTECTED": "yes"}
    done, _ = action("verify", **values)
    assert done.returncode == 2 and "true or false" in done.stdout


def test_action_names_its_version(action, tmp_path):
    copy = tmp_path / "action"
    ignored = shutil.ignore_patterns("target", "corpus")
    for name in ["crates", "proto", "src"]:
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ["Cargo.toml", "Cargo.lock"]:
        shutil.copy(ROOT / name, copy / name)
    key = lambda: action("version", ACTION=str(copy))[1]["key"]  # noqa: E731
    first = key()
    assert re.fullmatch("[0-9a-f]{32}", first) and key() == first
    with (copy / "src" / "main.rs").open("a") as source:
        source.write("\n")
    assert key() != first


def test_pre_commit_runs_the_hook(tool, zoo, tmp_path):
    """The hook as it is documented, but for installing the wheel, which the tests have done."""
    check = [sys.executable, "-m", "pre_commit"]
    config = yaml.safe_load(documented(".pre-commit-config.yaml"))
    ((hook,),) = (repository["hooks"] for repository in config["repos"])
    assert hook["language"] == "python"
    (package,) = hook.pop("additional_dependencies")
    assert package.startswith("onnxseal @ https://")
    hook |= {"language": "system", "entry": hook["entry"].replace("--preset=full", "--preset=balanced")}
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(tmp_path / "home"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }

    def run(*command):
        return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)

    assert run("git", "init", "-q").returncode == 0
    shutil.copy(zoo / "sealed 100 %.onnx", repository / "sealed.onnx")
    (repository / "README.md").write_text("no model")
    run("git", "add", ".")
    done = run(*check, "run")
    assert done.returncode == 0 and "Passed" in done.stdout, done.stdout
    shutil.copy(MODELS / "tiny_int4.onnx", repository / "PLAIN.ONNX")
    run("git", "add", ".")
    done = run(*check, "run")
    assert done.returncode == 1 and "PLAIN.ONNX: FAILED, not protected" in done.stdout, done.stdout
