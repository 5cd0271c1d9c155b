"""The C library: what it gives, and what it refuses, without ONNX Runtime. Sessions are in test_c_sessions.py."""

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import c_library
import numpy as np
import onnx
import onnxruntime
import onnxseal
import pytest
from c_library import KINDS, Claim, File, Refused, Tensor
from catalog import EXIT_CODES, MODELS, files_of

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"
DATA = "digits_cnn_dynamo.onnx.data"
CLAIMS = {"customer": "acme", "not-after": "2999-12-31", "note": "a=b ü"}


@pytest.fixture(scope="module")
def protected(tool, tmp_path_factory):
    """A model in one file, and one with external data."""
    folder = tmp_path_factory.mktemp("protected")
    claims = [option for key, value in CLAIMS.items() for option in ("--claim", f"{key}={value}")]
    for model in (MODEL, EXTERNAL):
        tool.protect(model, folder / model.name, "--preset", "balanced", *claims)
    return folder


@pytest.fixture
def copy(protected, tmp_path):
    """A copy of the models that a test may spoil."""
    return shutil.copytree(protected, tmp_path / "copy")


@pytest.fixture
def identities(library, tool):
    made = library.identities(tool.identity_file)
    yield made
    library("identities_release", made)


@pytest.fixture
def options(library):
    made = library("options_new")
    yield made
    library("options_release", made)


def refusal(call, *arguments):
    """The kind and message with which a call is refused."""
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.kind, caught.value.message


def test_kinds_are_the_exit_codes_of_the_command():
    assert EXIT_CODES.items() <= {kind: number for number, kind in enumerate(KINDS)}.items()


def test_the_library_exports_nothing_else(installed):
    done = subprocess.run(["nm", "-D", "--defined-only", installed / "lib" / "libonnxseal.so"], capture_output=True, text=True)
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    assert names and all(name.startswith("onnxseal_") for name in names)
    header = (installed / "include" / "onnxseal.h").read_text()
    assert all(f"{name}(" in header for name in names)


def test_version(library, installed):
    version = library.text("version")
    assert f'#define ONNXSEAL_VERSION "{version}"' in (installed / "include" / "onnxseal.h").read_text()
    assert (installed / "lib" / f"libonnxseal.so.{version}").is_file()


@pytest.mark.parametrize("source", [MODEL, EXTERNAL], ids=lambda path: path.stem)
def test_an_opened_model_is_the_original(source, library, protected, identities, options):
    model = library.open(protected / source.name, identities, options)
    judge(library, model, source)
    library("model_release", model)


@pytest.mark.parametrize("source", [MODEL, EXTERNAL], ids=lambda path: path.stem)
def test_so_is_one_from_memory(source, library, protected, identities):
    content = files_of(protected / source.name)
    model_file = content.pop("")
    files = (File * len(content))(*(File(path.encode(), data, len(data)) for path, data in content.items()))
    model = library.make("model_open_memory", model_file, len(model_file), files, len(files), identities, None)
    judge(library, model, source)
    library("model_release", model)
    if content:
        refused = refusal(library.make, "model_open_memory", model_file, len(model_file), None, 0, identities, None)
        assert refused[0] == "io" and DATA in refused[1]


def test_compiled_caches_are_sealed_and_opened_by_the_same_model_alone(library, protected, identities, tmp_path):
    """What a provider does with them, the tests of the crate `onnxseal-runtime` show."""
    (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    runtime = ctypes.CDLL(str(runtime))
    runtime.OrtGetApiBase.restype = ctypes.c_void_p
    base = runtime.OrtGetApiBase()
    contexts = {}
    for source in (MODEL, EXTERNAL):
        model = library.open(protected / source.name, identities)
        contexts[source] = library.make("ep_context_open", model, str(tmp_path).encode(), base)
        library("model_release", model)
    content = b"compiled weights" * 100
    library.check("ep_context_write", contexts[MODEL], b"model_ctx.onnx", content, len(content))
    (file,) = tmp_path.iterdir()
    assert b"compiled" not in file.read_bytes()
    blob = library.make("ep_context_read", contexts[MODEL], b"model_ctx.onnx")
    assert library.bytes("blob_bytes", blob) == content
    library("blob_release", blob)
    for context, name, kind in [
        (contexts[EXTERNAL], b"model_ctx.onnx", "authentication"),
        (contexts[MODEL], b"other", "io"),
        (contexts[MODEL], b"../model_ctx.onnx", "usage"),
        (None, b"model_ctx.onnx", "usage"),
    ]:
        assert refusal(library.make, "ep_context_read", context, name)[0] == kind
    # How much is read is limited before there is memory for it.
    with open(tmp_path / "large.sealed", "wb") as large:
        large.truncate((4 << 30) + 1)
    kind, message = refusal(library.make, "ep_context_read", contexts[MODEL], b"large")
    assert kind == "malformed" and "has 4294967297 bytes, more than the limit of 4294967296" in message
    set_max = library.c.onnxseal_ep_context_set_max_bytes
    set_max.restype, set_max.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_uint64]
    assert set_max(contexts[MODEL], len(content)) is None
    assert refusal(library.make, "ep_context_read", contexts[MODEL], b"model_ctx.onnx")[0] == "malformed"
    more = (contexts[MODEL], b"more", content + b"x", len(content) + 1)
    assert refusal(library.check, "ep_context_write", *more)[0] == "malformed"
    assert set_max(None, 1) is not None
    for name in ("ep_context_set_on_session", "ep_context_set_on_compilation"):
        assert refusal(library.check, name, contexts[MODEL], None)[0] == "usage"
    for context in contexts.values():
        library("ep_context_release", context)


def test_without_memory_a_call_fails_and_the_process_goes_on(library, protected, tool, tmp_path):
    program = """
        import ctypes, resource, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        import onnxruntime
        from c_library import Library, Refused

        def refusal(*arguments):
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), resource.RLIM_INFINITY))
            try:
                library.make(*arguments)
            except Refused as refused:
                return refused.kind, refused.message
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

        library = Library(sys.argv[2])
        identities = library.identities(sys.argv[4])
        large = bytes(128 << 20)
        print(refusal("model_open_memory", large, len(large), None, 0, identities, None))

        (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
        runtime = ctypes.CDLL(str(runtime))
        runtime.OrtGetApiBase.restype = ctypes.c_void_p
        model = library.open(sys.argv[3], identities)
        context = library.make("ep_context_open", model, sys.argv[5].encode(), runtime.OrtGetApiBase())
        library.check("ep_context_write", context, b"large", large, 64 << 20)
        print(refusal("ep_context_read", context, b"large"))
        library("blob_release", library.make("ep_context_read", context, b"large"))
        print("done")
    """
    arguments = [Path(__file__).parent, library.c._name, protected / MODEL.name, tool.identity_file, tmp_path]
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    opening, reading, end = done.stdout.splitlines()
    assert "'internal'" in opening and "no memory for 134217728 bytes" in opening
    assert "'internal'" in reading and "no memory for 67108864 bytes" in reading
    assert end == "done"


def judge(library, model, source):
    """Holds all that the library tells of a model against the original."""
    original = files_of(source)
    assert library.bytes("model_bytes", model) == original.pop("")
    found = {}
    for index in range(library("model_n_external_files", model) or 0):
        file = library.struct(File, "model_external_file", model, index)
        found[file.path.decode()] = ctypes.string_at(ctypes.c_void_p.from_buffer(file, File.bytes.offset), file.length_bytes)
    assert found == original
    claims = [library.struct(Claim, "model_claim", model, index) for index in range(library("model_n_claims", model))]
    assert {claim.key.decode(): claim.value.decode() for claim in claims} == CLAIMS
    assert library.text("model_find_claim", model, b"customer") == "acme"
    assert library.text("model_find_claim", model, b"custom") is None
    tensors = {tensor.name: tensor for tensor in onnx.load(source).graph.initializer}
    for index in range(library("model_n_tensors", model)):
        seen = library.struct(Tensor, "model_tensor", model, index)
        expected = tensors.pop(seen.name.decode())
        assert (seen.data_type, seen.dims[: seen.n_dims]) == (expected.data_type, list(expected.dims))
        assert ctypes.string_at(seen.bytes, seen.length_bytes) == onnx.numpy_helper.to_array(expected).tobytes()
        by_name = library.struct(Tensor, "model_find_tensor", model, seen.name)
        assert ctypes.addressof(by_name) == ctypes.addressof(seen)
    assert not tensors, "these are missing"
    for beyond in ("model_tensor", "model_claim", "model_external_file"):
        assert library(beyond, model, 10_000) is None


def test_claims_that_are_required(library, protected, options, identities):
    for claim in ("customer=acme", "note", "not-after", "note=a=b ü"):
        library.check("options_require_claim", options, claim.encode())
    library("model_release", library.open(protected / MODEL.name, identities, options))
    library.check("options_require_claim", options, b"customer=other")
    kind, message = refusal(library.open, protected / MODEL.name, identities, options)
    assert kind == "policy" and 'the claim "customer"' in message and '"acme", not "other"' in message
    assert refusal(library.check, "options_require_claim", options, b"=x")[0] == "usage"
    assert refusal(library.check, "options_require_claim", options, b"\xff") == ("usage", "claim is not UTF-8")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_a_signature_that_is_required(library, tool, copy, tmp_path, options, identities):
    for name in ("key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / name], check=True)
        (tmp_path / f"allowed_{name}").write_text(f"release@example.com {(tmp_path / f'{name}.pub').read_text()}")

    def require(name, signer=None):
        library.check("options_set_allowed_signers", options, str(tmp_path / name).encode(), signer)

    require("allowed_key")
    kind, message = refusal(library.open, copy / MODEL.name, identities, options)
    assert kind == "authentication" and message.endswith("is not signed")
    tool("sign", copy / MODEL.name, "--key", tmp_path / "key")
    for signer in (None, b"release@example.com"):
        require("allowed_key", signer)
        library("model_release", library.open(copy / MODEL.name, identities, options))
    for allowed, signer in (("allowed_other", None), ("allowed_key", b"x@example.com")):
        require(allowed, signer)
        kind, message = refusal(library.open, copy / MODEL.name, identities, options)
        assert kind == "authentication" and "is not accepted: " in message
    assert refusal(require, "absent")[0] == "io"
    assert refusal(require, "key")[0] == "usage"


def test_tiers(library, tiers, identities, options):
    """A lower tier is opened only if the application names it."""
    trial = library.identities(tiers.trial)

    def opened(identities, tier):
        library.check("options_set_tier", options, tier)
        model = library.open(tiers.protected, identities, options)
        found = library.text("model_tier", model), is_original(model), library.bytes("model_bytes", model)
        library("model_release", model)
        return found

    def is_original(model):
        function = library.c.onnxseal_model_is_original
        function.restype, function.argtypes = ctypes.c_bool, [ctypes.c_void_p]
        return function(model)

    for tier in (None, b"full"):
        kind, message = refusal(opened, trial, tier)
        assert kind == "no_matching_key" and 'they open tier "trial", which is not the original' in message
        assert opened(identities, tier) == ("full", True, MODEL.read_bytes())
    lower = "trial", False, tiers.unprotected.read_bytes()
    assert opened(trial, b"trial") == opened(trial, b"any") == opened(identities, b"trial") == lower
    assert opened(identities, b"any") == ("full", True, MODEL.read_bytes())
    kind, message = refusal(opened, identities, b"gold")
    assert kind == "policy" and 'its tiers are "trial", "full"' in message
    assert refusal(library.check, "options_set_tier", options, b"\xff") == ("usage", "tier is not UTF-8")
    library("identities_release", trial)


def test_licences(library, tool, copy, tmp_path, options, identities, monkeypatch):
    """The identity is that of a customer, for whom the model itself is not."""
    model, customer = copy / MODEL.name, tmp_path / "acme.txt"
    recipient = tool("keygen", "-o", customer).stdout.strip()
    monkeypatch.delenv("ONNXSEAL_LICENCE", raising=False)
    acme = library.identities(customer)

    def issue(name, *more, source=model):
        tool("licence", "issue", source, "-i", tool.identity_file, "-r", recipient, "-o", tmp_path / name, *more, "-q")
        return str(tmp_path / name).encode()

    def opened(licence, identities=acme):
        library.check("options_set_licence", options, licence)
        opened = library.open(model, identities, options)
        judge(library, opened, MODEL)
        library("model_release", opened)

    valid, expired = issue("valid"), issue("expired", "--not-after", "2020-01-01", "--claim", "contact=a@b.example")
    assert refusal(opened, None)[0] == "no_matching_key"
    opened(valid)
    kind, message = refusal(opened, expired)
    assert kind == "not_in_force" and "opened until 2020-01-01" in message and "a@b.example" in message
    assert refusal(opened, issue("later", "--not-before", "2999-01-01"))[0] == "not_in_force"
    assert refusal(opened, issue("other", source=copy / EXTERNAL.name))[0] == "no_matching_key"
    # One that is named is used, also by those who need none; `NULL` takes it back.
    assert refusal(opened, valid, identities)[0] == "no_matching_key"
    opened(None, identities)
    monkeypatch.setenv("ONNXSEAL_LICENCE", str(tmp_path / "valid"))
    opened(None)
    monkeypatch.delenv("ONNXSEAL_LICENCE")
    shutil.copy(tmp_path / "expired", copy / f"{MODEL.name}.licence")
    assert refusal(opened, None)[0] == "not_in_force"
    opened(None, identities)
    opened(valid)
    for name, kind in {"/absent": "io", str(customer): "malformed", str(tool.identity): "usage"}.items():
        assert refusal(library.check, "options_set_licence", options, name.encode())[0] == kind
    library("identities_release", acme)


def test_a_model_without_tiers(library, protected, identities, options):
    library.check("options_set_tier", options, b"trial")
    kind, message = refusal(library.open, protected / MODEL.name, identities, options)
    assert kind == "policy" and 'has no tier "trial": it has no tiers' in message
    library.check("options_set_tier", options, b"any")
    model = library.open(protected / MODEL.name, identities, options)
    assert library.text("model_tier", model) is None
    assert library.bytes("model_bytes", model) == MODEL.read_bytes()
    library("model_release", model)


def test_identities(library, tool, protected, tmp_path):
    wrong = tmp_path / "wrong.txt"
    tool("keygen", "-o", wrong)
    identities = library.identities(wrong)
    kind, message = refusal(library.open, protected / MODEL.name, identities)
    assert kind == "no_matching_key" and "no identity opens" in message and "X25519" in message
    assert refusal(library.check, "identities_add_file", identities, b"/absent", None)[0] == "io"
    kind, message = refusal(library.check, "identities_add_file", identities, str(MODEL).encode(), None)
    assert kind == "usage" and "malformed identity file" in message
    # One that fits, from memory.
    text = tool.identity_file.read_bytes()
    library.check("identities_add_memory", identities, text, len(text), None)
    library("model_release", library.open(protected / MODEL.name, identities))
    library("identities_release", identities)
    none = library.identities()
    assert refusal(library.open, protected / MODEL.name, none)[0] == "no_matching_key"
    library("identities_release", none)


def test_passphrases(library, tool, tmp_path):
    (tmp_path / "passphrase").write_text("open sesame\n")
    model, file = tmp_path / "model.onnx", tmp_path / "locked.txt"
    tool("protect", MODEL, "-o", model, "--passphrase-file", tmp_path / "passphrase", "-q")
    identities = library.identities()
    library.check("identities_add_passphrase", identities, b"wrong")
    assert refusal(library.open, model, identities)[0] == "no_matching_key"
    library.check("identities_add_passphrase", identities, b"open sesame")
    library("model_release", library.open(model, identities))
    assert refusal(library.check, "identities_add_passphrase", identities, b"")[0] == "usage"
    # Of an identity file.
    recipient = tool("keygen", "-o", file, "--passphrase-file", tmp_path / "passphrase").stdout.strip()
    tool("protect", MODEL, "-o", model, "-r", recipient, "-q", "--force")
    name = str(file).encode()
    assert refusal(library.check, "identities_add_file", identities, name, b"wrong")[0] == "no_matching_key"
    kind, message = refusal(library.check, "identities_add_file", identities, name, None)
    assert kind == "usage" and "passphrase" in message
    library.check("identities_add_file", identities, name, b"open sesame")
    library("model_release", library.open(model, identities))
    library("identities_release", identities)


def test_a_graph_that_was_made_to_print_a_weight(library, copy, identities):
    model = onnx.load(copy / MODEL.name)
    weight = model.graph.initializer[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    onnx.save(model, copy / MODEL.name)
    kind, message = refusal(library.open, copy / MODEL.name, identities)
    assert kind == "authentication" and str(copy / MODEL.name) in message


def test_a_changed_byte_of_a_weight_in_clear(library, copy, identities):
    original, data = MODEL.read_bytes(), bytearray((copy / MODEL.name).read_bytes())
    weight = max((tensor.raw_data for tensor in onnx.load(MODEL).graph.initializer), key=len)
    start = original.index(weight)
    at = next(at for at in range(start, start + len(weight)) if original[at : at + 32] == data[at : at + 32])
    data[at] ^= 1
    (copy / MODEL.name).write_bytes(data)
    kind, message = refusal(library.open, copy / MODEL.name, identities)
    assert kind == "authentication" and "was changed in bytes" in message


def remove(path):
    path.unlink()


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def replace(path):
    path.write_bytes(os.urandom(path.stat().st_size))


@pytest.mark.parametrize("spoil, kind", [(remove, "io"), (cut, "authentication"), (replace, "authentication")])
def test_external_data_that_is_spoilt(spoil, kind, library, copy, identities, options):
    spoil(copy / DATA)
    refused = refusal(library.open, copy / EXTERNAL.name, identities, options)
    assert refused[0] == kind and DATA in refused[1]


def test_what_is_no_protected_model(library, tmp_path, identities):
    garbage = tmp_path / "garbage\x1b[2J.onnx"
    for content in (b"", b"\0", b"\xff" * 1000, os.urandom(10_000), b"{}"):
        garbage.write_bytes(content)
        for refused in (
            refusal(library.open, garbage, identities),
            refusal(library.make, "model_open_memory", content, len(content), None, 0, identities, None),
        ):
            assert refused[0] in ("malformed", "usage")
            assert "\x1b" not in refused[1] and refused[1]
    kind, message = refusal(library.open, MODEL, identities)
    assert (kind, message) == ("usage", f"{MODEL} is not protected")
    assert refusal(library.open, tmp_path / "absent.onnx", identities)[0] == "io"
    assert refusal(library.open, tmp_path, identities)[0] in ("io", "malformed")
    assert refusal(library.open, "http://example.com/m.onnx", identities)[0] == "usage"


def test_null_is_a_mistake(library, protected, identities, options):
    path = str(protected / MODEL.name).encode()
    calls = {
        ("identities_add_file", None, path, None): "identities",
        ("identities_add_file", identities, None, None): "path",
        ("identities_add_memory", None, b"x", 1, None): "identities",
        ("identities_add_memory", identities, None, 1, None): "file",
        ("identities_add_passphrase", None, b"x"): "identities",
        ("identities_add_passphrase", identities, None): "passphrase",
        ("options_require_claim", None, b"x"): "options",
        ("options_require_claim", options, None): "claim",
        ("options_set_allowed_signers", None, path, None): "options",
        ("options_set_allowed_signers", options, None, None): "allowed_signers",
        ("options_set_tier", None, b"x"): "options",
        ("options_set_licence", None, b"x"): "options",
        ("model_open", path, identities, None, None): "model",
        ("model_open_memory", b"x", 1, None, 0, identities, None, None): "model",
        ("create_session", None, None, None, None, None): "session",
        ("prepare_session", None, None, None, 1, None): "skeleton",
    }
    for (name, *arguments), missing in calls.items():
        assert refusal(library.check, name, *arguments) == ("usage", f"{missing} is NULL"), name
    made = {
        ("model_open", None, identities, None): "location",
        ("model_open", path, None, None): "identities",
        ("model_open_memory", None, 1, None, 0, identities, None): "bytes",
        ("model_open_memory", b"x", 1, None, 1, identities, None): "files",
        ("model_open_memory", b"x", 1, None, 0, None, None): "identities",
        ("create_session", None, None, None, None): "model",
        ("prepare_session", None, None, None, 1): "model",
    }
    for (name, *arguments), missing in made.items():
        assert refusal(library.make, name, *arguments) == ("usage", f"{missing} is NULL"), name
    for name in ("model_bytes", "skeleton_bytes"):
        assert library(name, None, None) is None
    assert library("model_tier", None) is None and not library.c.onnxseal_model_is_original(None) & 0xFF
    for name in ("model_n_tensors", "model_n_claims", "model_n_external_files"):
        assert not library(name, None)
    for name in ("model_tensor", "model_claim", "model_external_file"):
        assert library(name, None, 0) is None
    for name in ("model_find_tensor", "model_find_claim"):
        assert library(name, None, b"x") is None
    for name in ("error", "identities", "options", "model", "skeleton"):
        library(f"{name}_release", None)
    assert library.c.onnxseal_error_kind(None) == 0 and library.text("error_message", None) == ""


def test_an_onnx_runtime_that_is_absent_or_too_old(library, protected, identities):
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    get_version = ctypes.CFUNCTYPE(ctypes.c_void_p)

    class OrtApiBase(ctypes.Structure):
        _fields_ = [("GetApi", get_api), ("GetVersionString", get_version)]

    asked, version = [], ctypes.create_string_buffer(b"1.17.3")
    base = OrtApiBase(get_api(asked.append), get_version(lambda: ctypes.addressof(version)))
    model = library.open(protected / MODEL.name, identities)
    for call in (["create_session", model, "BASE", None, None], ["prepare_session", model, "BASE", None, 1]):
        call[2] = ctypes.byref(base)
        kind, message = refusal(library.make, *call)
        assert kind == "runtime"
        assert "ONNX Runtime 1.17.3 is too old: install version 1.21 or newer" in message
        call[2] = None
        kind, message = refusal(library.make, *call)
        assert kind == "usage" and "ort_api_base is NULL: load ONNX Runtime 1.21 or newer" in message
    assert asked == [21, 21]
    library("model_release", model)


def test_the_example_in_c(compiler, protected, tool):
    program = compiler("claims", c_library.CAPI / "examples" / "claims.c", static=True)
    done = subprocess.run([program, protected / MODEL.name, tool.identity_file], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[:3] == [f"claim {key}={value}" for key, value in CLAIMS.items()]
    assert len(lines) == 3 + len(onnx.load(MODEL).graph.initializer)
    done = subprocess.run([program, "absent", tool.identity_file], capture_output=True, text=True)
    assert done.returncode == EXIT_CODES["io"] and "absent" in done.stderr


def test_input_keys_transform_images(library, tmp_path):
    """As Python does, in place; mistakes leave images as they were."""
    key = onnxseal.InputKey.generate(block=4, channels=3, range=(0, 1), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    key.save(tmp_path / "key.txt")
    opened = library.make("input_key_open", str(tmp_path / "key.txt").encode(), None)
    images = np.random.default_rng(1).random((2, 3, 8, 12), np.float32)
    for dtype, number in {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "float16": 10}.items():
        for normalised in [False, True] if dtype.startswith("float") else [False]:
            plain = (images if dtype.startswith("float") else images * 100).astype(dtype)
            values, dims = plain.copy(), (ctypes.c_size_t * 4)(*plain.shape)
            arguments = [opened, dims, 4, number, normalised, ctypes.c_void_p(values.ctypes.data)]
            library.check("input_key_apply", *arguments)
            assert (values == key.apply(plain, normalised=normalised)).all()
            library.check("input_key_invert", *arguments)
            assert np.allclose(values, plain, atol=1e-2 if dtype == "float16" else 1e-6)
    before = values.copy()
    for shape, number, place in [((2, 3, 8, 13), 1, values.ctypes.data), ((2, 3, 8, 12), 11, values.ctypes.data), ((2, 3, 8, 12), 1, None)]:
        dims = (ctypes.c_size_t * 4)(*shape)
        assert refusal(library.check, "input_key_apply", opened, dims, 4, number, False, ctypes.c_void_p(place))[0] == "usage"
    assert (values == before).all()
    library("input_key_release", opened)

    identity = onnxseal.generate_identity()
    text = key.text(recipients=identity).encode()
    (tmp_path / "id.txt").write_text(identity.text())
    assert refusal(library.make, "input_key_open_memory", text, len(text), None)[0] == "usage"
    identities = library.identities(tmp_path / "id.txt")
    library("input_key_release", library.make("input_key_open_memory", text, len(text), identities))
    library("identities_release", identities)


def test_labels_are_decoded(library, tool, tmp_path):
    """As Python does; mistakes leave logits as they were."""
    folder = MODELS.parent / "labels"
    c_string = str(folder / "acme.key").encode()
    session = onnxruntime.InferenceSession(folder / "digits_cnn.onnx", providers=["CPUExecutionProvider"])
    table = session.get_modelmeta().custom_metadata_map["onnxseal-labels"].encode()
    decoder = library.make("label_decoder_open", table, c_string, None)
    assert library.text("label_decoder_answers", decoder) == library.text("label_decoder_logits", decoder)
    assert library.text("label_decoder_answers", decoder) == session.get_outputs()[0].name
    assert library.bytes("label_decoder_tail", decoder) == b""
    answers = np.random.default_rng(1).standard_normal((3, 80)).astype(np.float32)
    dims, shape = (ctypes.c_size_t * 2)(3, 80), (ctypes.c_size_t * 2)()
    library.check("label_decoder_decode", decoder, dims, 2, None, shape, None, 0)
    assert list(shape) == [3, 10]
    logits = np.zeros((3, 10), np.float32)
    given, room = ctypes.c_void_p(answers.ctypes.data), ctypes.c_void_p(logits.ctypes.data)
    for n_answers, fed, n_logits in [(79, given, 30), (80, given, 29), (80, None, 30)]:
        arguments = [(ctypes.c_size_t * 2)(3, n_answers), 2, fed, None, room, n_logits]
        assert refusal(library.check, "label_decoder_decode", decoder, *arguments)[0] == "usage"
    room_for_dims = (ctypes.c_size_t * 3)()
    odd = lambda array: ctypes.c_void_p(ctypes.addressof(array) + 1)
    for arguments, message in [
        ((odd((ctypes.c_size_t * 3)()), 2, given, None, room, 30), "dims is not aligned"),
        ((dims, 2, ctypes.c_void_p(answers.ctypes.data + 1), None, room, 30), "answers is not aligned"),
        ((dims, 2, given, None, ctypes.c_void_p(logits.ctypes.data + 1), 30), "logits is not aligned"),
        ((dims, 2, given, odd(room_for_dims), room, 30), "logit_dims is not aligned"),
        ((dims, 2, given, None, given, 30), "answers and logits share memory"),
        ((dims, 2, given, None, ctypes.c_void_p(answers.ctypes.data + 4 * 239), 30), "answers and logits share memory"),
    ]:
        before = answers.copy()
        assert refusal(library.check, "label_decoder_decode", decoder, *arguments) == ("usage", message)
        assert not logits.any() and (answers == before).all()
    library.check("label_decoder_decode", decoder, dims, 2, given, None, room, 30)
    assert (logits == onnxseal.LabelDecoder(table.decode(), folder / "acme.key").decode(answers)).all()
    library("label_decoder_release", decoder)

    gone, text = str(folder / "gone.key").encode(), (folder / "acme.key").read_bytes()
    assert refusal(library.make, "label_decoder_open", table, gone, None)[0] == "no_matching_key"
    assert refusal(library.make, "label_decoder_open", table, b"absent.key", None)[0] == "io"
    assert refusal(library.make, "label_decoder_open", b"AAAA", c_string, None)[0] == "malformed"
    changed = text.replace(b"acme", b"acmf")
    assert refusal(library.make, "label_decoder_open_memory", table, changed, len(changed), None)[0] == "malformed"
    library("label_decoder_release", library.make("label_decoder_open_memory", table, text, len(text), None))
