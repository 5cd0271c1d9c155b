"""Fixtures shared by all tests: the tool, its keys, and the models."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import c_library
import onnxruntime
import pyrage
import pytest
from catalog import ROOT, Tool
from serving import Served
from store import BUCKET, Remote, Server
from tiers import Tiers

# The tool runs models with the library that the tests import.
LIBRARY = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
os.environ.setdefault("ORT_DYLIB_PATH", str(LIBRARY))

# A shell starts jobs in the background with Ctrl-C ignored, which tests of Ctrl-C would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """The binary under test, ONNXSEAL_BIN or target/release/onnxseal, with an identity that it made."""
    binary = Path(os.environ.get("ONNXSEAL_BIN", ROOT / "target" / "release" / "onnxseal"))
    if not binary.is_file():
        pytest.exit(f"{binary} is missing: run `cargo build --release`, or set ONNXSEAL_BIN", returncode=2)
    return Tool(binary.resolve(), tmp_path_factory.mktemp("keys") / "id.txt")


@pytest.fixture(scope="session")
def stranger():
    """An identity to which nothing is protected."""
    return pyrage.x25519.Identity.generate()


@pytest.fixture(scope="session")
def tiers(tool, tmp_path_factory):
    """A model of two tiers; its highest opens for the tool's own identity."""
    return Tiers(tool, tmp_path_factory.mktemp("tiers"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def remote(tool, server, tmp_path):
    return Remote(tool, server.url, tmp_path / "empty")


@pytest.fixture
def prefix(request):
    """A folder of the bucket for one test."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def at(prefix):
    return lambda key: f"s3://{BUCKET}/{prefix}/{key}"


@pytest.fixture
def served(tool, tmp_path):
    served = Served(tool, tmp_path)
    yield served
    served.stop()


@pytest.fixture
def shm():
    """A folder in memory that is not the command's own."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="onnxseal-test-"))
    yield folder
    shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter):
    """The rows that tests of accuracy record: (model, original, protected)."""
    said = [property for report in terminalreporter.getreports("passed") for property in report.user_properties]
    rows = sorted(row for name, row in said if name == "accuracy")
    if rows:
        terminalreporter.section("accuracy: original, protected under balanced as it is (not attacked)")
        for name, original, protected in rows:
            terminalreporter.write_line(f"{name:32} {original:6.1%} {protected:6.1%}")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder into which the C library is installed."""
    missing = c_library.missing_program()
    if missing:
        pytest.skip(f"no {missing}, which the tests of the C library need")
    return c_library.install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def library(installed):
    return c_library.Library(installed / "lib" / "libonnxseal.so")


@pytest.fixture(scope="session")
def compiler(installed, tmp_path_factory):
    return c_library.Compiler(installed, tmp_path_factory.mktemp("compiled"))
