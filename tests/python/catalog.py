"""What is tested with what: the tool as a program, and the models it is run on."""

import json
import subprocess
from pathlib import Path

import onnx
import pyrage

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "fixtures" / "models"
SEALED = ROOT / "fixtures" / "sealed"
SHARED = ROOT.parent / "shared" / "models"

EXIT_CODES = {"usage": 2, "malformed": 3, "authentication": 4, "no_matching_key": 5, "policy": 6, "io": 7, "not_in_force": 9}


class Tool:
    """The command line, one method per subcommand."""

    def __init__(self, binary, identity_file):
        self.binary = binary
        self.identity_file = identity_file
        self.recipient = self("keygen", "-o", identity_file).stdout.strip()
        secret = next(line for line in identity_file.read_text().splitlines() if line.startswith("AGE-SECRET-KEY-"))
        self.identity = pyrage.x25519.Identity.from_str(secret)

    def __call__(self, *arguments, code=0, env=None):
        """Runs the tool and requires the exit code."""
        done = self.run(*arguments, env=env)
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}, not {code}\n{done.stderr}"
        return done

    def run(self, *arguments, env=None):
        command = [str(self.binary), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)

    def protect(self, model, out, *options, **expect):
        return self("protect", model, "-o", out, "-r", self.recipient, "-q", *options, **expect)

    def unprotect(self, model, out, *options, **expect):
        return self("unprotect", model, "-i", self.identity_file, "-o", out, *options, **expect)


def fixture_models():
    return sorted(MODELS.glob("*.onnx"))


def shared_models():
    """Models that nobody here wrote; empty where the folder is absent."""
    return sorted(p for folder in ("real", "edge") for p in (SHARED / folder).glob("*.onnx"))


def digits_models():
    """What each model of the digits is fed, and how well it does: `{file name: facts}`."""
    return json.loads((MODELS / "models.json").read_text())


def external_paths(model):
    """Relative paths of a model's external data, as ONNX itself reads them."""
    loaded = onnx.load(model, load_external_data=False)
    tensors = onnx.external_data_helper._get_all_tensors(loaded)
    locations = {e.value for t in tensors for e in t.external_data if e.key == "location"}
    return sorted(locations)


def files_of(model):
    """A model's files with their content: itself under the empty path."""
    model = Path(model)
    return {"": model.read_bytes()} | {p: (model.parent / p).read_bytes() for p in external_paths(model)}


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())
