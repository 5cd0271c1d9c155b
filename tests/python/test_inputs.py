"""Keyed inputs as users meet them: models that the tool rewrites take images that the reference made, on ONNX Runtime; and the
tool, the package and the reference make the same images."""

import re
import shutil

import measure_inputs
import numpy as np
import onnx
import onnxseal
import onnxseal_inputs
import pytest
from catalog import EXIT_CODES, files_below
from catalog import MODELS as MODELS_OF_DIGITS
from measure_inputs import INPUTS, LEFT, MODELS, accuracy, difference, fed_to, scores, text_of, with_seed
from wheel import OPTIONS

CASES = measure_inputs.rewritable()
TWO = ["convmixer.onnx", "vit.onnx"]


def each(kinds, models=MODELS):
    return [case for case in CASES if case[1] in kinds and case[0] in models]


class Lock:
    """A model of the fixtures and one of its keys, in a folder of the test's own."""

    def __init__(self, tool, folder, name, kind):
        self.tool, self.folder, self.facts = tool, folder, MODELS[name]
        self.model = folder / "plain.onnx"
        shutil.copy(INPUTS / name, self.model)
        self.text = text_of(self.facts["keyed"][kind]["key"])
        self.key = self.keyed(self.text, "key.txt")
        self.images, self.labels = fed_to(self.facts)
        self.wanted = scores(self.model, self.images, self.facts)
        self.most = measure_inputs.asked_of(self.facts, self.own())

    def own(self):
        return difference(scores(self.model, self.images, self.facts, optimized=False), self.wanted)

    def keyed(self, text, name):
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def rewrite(self, *options, key=None, out="keyed.onnx", code=0):
        out = self.folder / out
        self.done = self.tool("inputs", "rewrite", self.model, "--key", key or self.key, "-o", out, *options, code=code)
        return out

    def made(self, text=None):
        """Keyed images, of the reference."""
        return onnxseal_inputs.apply(onnxseal_inputs.parse(text or self.text), self.images)

    def assert_same(self, found):
        assert difference(found, self.wanted) <= self.most
        assert (found.argmax(1) == self.wanted.argmax(1)).all()


@pytest.fixture
def lock(tool, tmp_path):
    return lambda name, kind="shf_np": Lock(tool, tmp_path, name, kind)


# --- rewriting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_rewritten_models_compute_from_keyed_images_what_originals_do(lock, case):
    lock = lock(*case)
    out = lock.rewrite()
    assert "compared on ONNX Runtime" in lock.done.stderr
    lock.assert_same(scores(out, lock.made(), lock.facts))
    assert_only_weights_differ(lock.model, out)
    onnx.checker.check_model(onnx.load(out), full_check=True)


@pytest.mark.parametrize("case", [("convmixer.onnx", "shf_np"), ("vit_fp16.onnx", "shf")], ids="-".join)
def test_python_rewrites_as_the_command_does(lock, case, tmp_path):
    lock = lock(*case)
    by_tool, out = lock.rewrite(), tmp_path / "python.onnx"
    key = onnxseal.InputKey.open(lock.key)
    done = key.rewrite(lock.model, out)
    assert out.read_bytes() == by_tool.read_bytes()
    assert 0 <= done["difference"] <= 0.05 and done["tensors"] and done["input"] == onnx.load(out).graph.input[0].name
    with pytest.raises(onnxseal.UsageError, match="exists"):
        key.rewrite(lock.model, out)
    other = onnxseal.InputKey.generate(**{k: v for k, v in key.spec.items() if k != "key_bits"})
    other.save(tmp_path / "other.txt")
    again = [tmp_path / "again.onnx", tmp_path / "tool.onnx"]
    other.rewrite(out, again[0], old_key=key)
    lock.tool("inputs", "rekey", out, "--key", lock.key, "--to", tmp_path / "other.txt", "-o", again[1])
    assert again[0].read_bytes() == again[1].read_bytes() != out.read_bytes()
    (tmp_path / "none.onnx").write_bytes(b"no model")
    with pytest.raises(onnxseal.MalformedError):
        key.rewrite(tmp_path / "none.onnx", out, replace=True)
    assert out.read_bytes() == by_tool.read_bytes()


def assert_only_weights_differ(model, out):
    """Bytes are the same but for weights of layers that see the image, unless a bias had to be added."""
    before, after = model.read_bytes(), out.read_bytes()
    old, new = ({t.name: t for t in onnx.load(path).graph.initializer} for path in (model, out))
    changed = [name for name in old if old[name] != new[name]]
    added = new.keys() - old.keys()
    assert 1 - len(added) <= len(changed) <= 2 and len(added) <= 1
    if added:
        return
    assert len(before) == len(after)
    weights = np.zeros(len(before), bool)
    for name in changed:
        at = before.find(old[name].raw_data)
        assert len(old[name].raw_data) > 3 and before.count(old[name].raw_data) == 1
        weights[at : at + len(old[name].raw_data)] = True
    differ = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
    assert differ.any() and not (differ & ~weights).any()


@pytest.mark.parametrize("case", each(["np", "shf_np"], TWO), ids="-".join)
def test_wrong_keys_and_none_leave_chance(lock, case):
    lock = lock(*case)
    out = lock.rewrite()
    others = [with_seed(lock.text, number) for number in range(measure_inputs.N_ASKED)]
    left = [accuracy(scores(out, lock.made(text), lock.facts), lock.labels) for text in others]
    assert np.mean(left) <= LEFT
    left = []
    for number, text in enumerate(others):
        key = lock.keyed(text, f"{number}.txt")
        out = lock.rewrite("-q", key=key, out=f"{number}.onnx")
        left.append(accuracy(scores(out, lock.images, lock.facts), lock.labels))
    assert np.mean(left) <= LEFT


@pytest.mark.parametrize("name", measure_inputs.trained())
def test_trained_models_answer_to_their_keys(name):
    facts = MODELS[name]
    images, labels = fed_to(facts)
    best = accuracy(scores(INPUTS / "trained_plain.onnx", images, MODELS["trained_plain.onnx"]), labels)
    text = text_of(facts["key"])

    def left(text):
        key = onnxseal.InputKey.parse(text)
        return accuracy(scores(INPUTS / name, key.apply(images), facts), labels)

    assert left(text) >= best - 0.02
    if name in measure_inputs.LOCKED:
        assert np.mean([left(with_seed(text, number)) for number in range(measure_inputs.N_WRONG)]) <= LEFT


REKEYED = each(["shf", "np", "shf_np"], ["vit.onnx", "convmixer.onnx", "normalised.onnx"])


@pytest.mark.parametrize("case", REKEYED, ids="-".join)
def test_another_key_takes_the_place_of_the_first(lock, case, tool):
    lock = lock(*case)
    out, rekeyed = lock.rewrite(), lock.folder / "rekeyed.onnx"
    text = with_seed(lock.text, "new")
    new = lock.keyed(text, "new.txt")
    tool("inputs", "rekey", out, "--key", lock.key, "--to", new, "-o", rekeyed)
    found = scores(rekeyed, lock.made(text), lock.facts)
    lock.assert_same(found)
    fresh = scores(lock.rewrite(key=new, out="fresh.onnx"), lock.made(text), lock.facts)
    assert difference(found, fresh) <= lock.most
    old = scores(rekeyed, lock.made(), lock.facts)
    assert (old.argmax(1) != lock.wanted.argmax(1)).any()


@pytest.mark.parametrize("case", [("vit.onnx", "shf"), ("vit.onnx", "shf_np"), ("normalised.onnx", "shf_np")], ids="-".join)
def test_what_is_exact_needs_no_check(lock, case):
    lock = lock(*case)
    checked, unchecked = lock.rewrite(), lock.rewrite("--no-check", out="unchecked.onnx")
    assert "compared" not in lock.done.stderr
    assert checked.read_bytes() == unchecked.read_bytes()


def test_what_is_not_exact_is_never_written_unchecked(lock):
    lock = lock("vit_fp16.onnx")
    key = lock.keyed(lock.text.replace("[-1.0, 1.0]", "[0.0, 1.0]"), "other.txt")
    assert "--no-check" in refused(lock, "--no-check", key=key)


def test_an_encrypted_key_needs_its_identity(lock, tool):
    lock = lock("vit.onnx")
    key = lock.folder / "key.age"
    spec = ["--block", 4, "--channels", 1, "--range", "0..1"]
    tool("inputs", "keygen", *spec, "-r", tool.recipient, "-o", key)
    assert key.read_text().startswith("-----BEGIN AGE ENCRYPTED FILE-----")
    assert "no identity was given" in refused(lock, key=key)
    out = lock.rewrite("-i", tool.identity_file, key=key)
    opened = onnxseal.InputKey.open(key, tool.identity_file)
    lock.assert_same(scores(out, opened.apply(lock.images), lock.facts))
    lock.assert_same(scores(out, lock.made(opened.text()), lock.facts))
    with pytest.raises(onnxseal.UsageError, match="no identity was given"):
        onnxseal.InputKey.open(key)
    with pytest.raises(onnxseal.NoMatchingKeyError):
        onnxseal.InputKey.open(key, onnxseal.generate_identity())


# --- refusals -------------------------------------------------------------------------------------


def refused(lock, *options, **more):
    """What the tool says when it refuses; nothing is written."""
    before = files_below(lock.folder)
    assert not lock.rewrite(*options, code=EXIT_CODES["usage"], **more).exists()
    assert files_below(lock.folder) == before
    return re.sub(r"\s+", " ", lock.done.stderr)


def test_quantised_models_are_refused(lock):
    lock = lock("vit.onnx")
    lock.model = shutil.copy(MODELS_OF_DIGITS / "digits_cnn_qdq.onnx", lock.folder / "qdq.onnx")
    said = refused(lock)
    assert "the model is quantised" in said and "quantise the result" in said


def test_protected_models_are_refused(lock, tool):
    lock = lock("vit.onnx")
    tool.protect(lock.model, lock.folder / "sealed.onnx")
    lock.model = lock.folder / "sealed.onnx"
    said = refused(lock)
    assert "the model is protected" in said and "onnxseal unprotect" in said


@pytest.mark.parametrize(
    "change, options, reason",
    [
        ("", ["--input", "pixels"], 'no input "pixels"'),
        ("channels = 1 -> channels = 3", [], 'input "input" has 1 channel'),
        ("block = 4 -> block = 3", [], 'input "input" has 16 rows, which 3 does not divide'),
        ("block = 4 -> block = 8", [], '"/patches/Conv" (Conv)'),
        ('"shuffle", "negative" -> "shuffle", "ffx"', [], "ffx"),
    ],
)
def test_keys_that_do_not_fit_are_refused(lock, change, options, reason):
    lock = lock("vit.onnx")
    old, _, new = change.partition(" -> ")
    key = lock.keyed(lock.text.replace(old, new), "other.txt")
    assert reason in refused(lock, *options, key=key)


@pytest.mark.parametrize("kind", ["np", "shf_np"])
def test_negatives_where_zeros_are_padded_are_refused(lock, kind):
    lock = lock("focus_padded.onnx", kind)
    key = lock.keyed(lock.text.replace("range = [-1.0, 1.0]", "range = [0.0, 1.0]"), "other.txt")
    said = refused(lock, key=key)
    assert '"/1/Conv" (Conv)' in said and "zero" in said


def test_convolutions_that_overlap_are_refused(lock):
    lock = lock("convmixer.onnx")
    lock.model = shutil.copy(MODELS_OF_DIGITS / "digits_cnn.onnx", lock.folder / "cnn.onnx")
    key = lock.keyed(re.sub("block = 4", "block = 2", lock.text).replace("channels = 3", "channels = 1"), "other.txt")
    said = refused(lock, key=key)
    assert "(Conv)" in said and "inputs encrypt" in said


# --- images ---------------------------------------------------------------------------------------

KEYS = sorted({MODELS[name]["keyed"][kind]["key"]: name for name, kind in sorted(CASES, reverse=True)}.items())


@pytest.mark.parametrize("key, name", KEYS, ids=lambda given: given if "/" in given else None)
def test_tool_package_and_reference_make_the_same_images(tool, tmp_path, key, name):
    path = tmp_path / "key.txt"
    path.touch(mode=0o600)
    shutil.copyfile(INPUTS / key, path)
    images, labels = fed_to(MODELS[name])
    wanted = onnxseal_inputs.apply(onnxseal_inputs.parse(path.read_text()), images)
    opened = onnxseal.InputKey.open(path)
    assert same(opened.apply(images), wanted)
    in_place = images.copy()
    assert opened.apply(in_place, out=in_place) is in_place and same(in_place, wanted)
    assert same(opened.apply(images[3]), wanted[3])
    back = opened.invert(wanted)
    assert close(back, images)

    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    for kind in ("npy", "npz"):
        plain, keyed, restored = (tmp_path / f"{what}.{kind}" for what in ("images", "keyed", "restored"))
        tool("inputs", "encrypt", plain, "--key", path, "-o", keyed)
        tool("inputs", "encrypt", "--decrypt", keyed, "--key", path, "-o", restored)
        for file, expected in ((keyed, wanted), (restored, back)):
            found = np.load(file)
            if kind == "npz":
                assert sorted(found) == ["images", "labels"] and same(found["labels"], labels)
                found = found["images"]
            assert same(found, expected)


def same(found, wanted):
    return found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


def close(found, wanted):
    """Up to one rounding of floats: 1 - (1 - x)."""
    most = {"float32": 1e-7, "float16": 1e-3}.get(wanted.dtype.name, 0)
    return found.dtype == wanted.dtype and np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max() <= most


@pytest.mark.parametrize("kind", ["shf", "np", "shf_np"])
def test_normalised_floats(tmp_path, kind):
    text = text_of(f"keys/colour_float32_nchw_4_{kind}.txt") + "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"
    reference, opened = onnxseal_inputs.parse(text), onnxseal.InputKey.parse(text)
    images, _ = fed_to(MODELS["convmixer.onnx"])
    mean, std = (np.array(opened.spec[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    fed = (images - mean) / std
    wanted = onnxseal_inputs.apply(reference, fed, normalised=True)
    found = opened.apply(fed, normalised=True)
    assert found.dtype == np.float32 and np.abs(found - wanted).max() <= 1e-6
    assert np.abs(found - (onnxseal_inputs.apply(reference, images) - mean) / std).max() <= 1e-6


# --- sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vit.onnx", "channels_last.onnx", "vit_fp16.onnx", "normalised.onnx"])
def test_sessions_on_protected_models_take_plain_images(lock, tool, name):
    lock = lock(name)
    sealed = lock.folder / "sealed.onnx"
    tool.protect(lock.rewrite(), sealed)
    key = onnxseal.InputKey.open(lock.key)
    given = {"input": lock.images}
    before = lock.images.copy()
    for input_key in (key, {"input": key}):
        session = onnxseal.InferenceSession(sealed, identity=tool.identity_file, input_key=input_key, **OPTIONS)
        lock.assert_same(session.run(None, given)[0])
        assert same(lock.images, before)
    # Without the key, it takes keyed images.
    session = onnxseal.InferenceSession(sealed, identity=tool.identity_file, **OPTIONS)
    lock.assert_same(session.run(None, {"input": np.ascontiguousarray(lock.made())})[0])
    assert accuracy(session.run(None, given)[0], lock.labels) <= 0.3


def test_sessions_on_plain_models(lock, tool):
    lock = lock("vit.onnx")
    out, key = lock.rewrite(), onnxseal.InputKey.open(lock.key)
    with pytest.raises(onnxseal.UsageError, match="allow_plain"):
        onnxseal.InferenceSession(out, input_key=key, **OPTIONS)
    session = onnxseal.InferenceSession(out, input_key=key, allow_plain=True, **OPTIONS)
    lock.assert_same(session.run(None, {"input": lock.images})[0])
    with pytest.raises(onnxseal.UsageError, match="pixels.*input"):
        onnxseal.InferenceSession(out, input_key={"pixels": key}, allow_plain=True, **OPTIONS)
    with pytest.raises(TypeError, match="InputKey"):
        onnxseal.InferenceSession(out, input_key=str(lock.key), allow_plain=True, **OPTIONS)


def test_bound_memory_is_refused_with_a_key(lock, tool):
    lock = lock("vit.onnx")
    out, key = lock.rewrite(), onnxseal.InputKey.open(lock.key)
    session = onnxseal.InferenceSession(out, input_key=key, allow_plain=True, **OPTIONS)
    binding = session.io_binding()
    binding.bind_cpu_input("input", lock.images)
    binding.bind_output("scores")
    with pytest.raises(onnxseal.UsageError, match="apply"):
        session.run_with_iobinding(binding)


def test_images_of_another_shape_are_refused(lock, tool):
    lock = lock("vit.onnx")
    out, key = lock.rewrite(), onnxseal.InputKey.open(lock.key)
    session = onnxseal.InferenceSession(out, input_key=key, allow_plain=True, **OPTIONS)
    narrow, colour, doubles = lock.images[..., :15], np.repeat(lock.images, 3, 1), lock.images.astype(np.float64)
    for wrong, reason in ((narrow, "15"), (colour, "channel"), (doubles, "float64")):
        with pytest.raises(onnxseal.UsageError, match=reason):
            session.run(None, {"input": wrong})
