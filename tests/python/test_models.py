"""What protecting does to a model, judged by ONNX and ONNX Runtime, for every model there is."""

from functools import cached_property

import onnx
import onnxseal_open
import pytest
import runtime
from catalog import (
    EXIT_CODES,
    SHARED,
    digits_models,
    external_paths,
    files_below,
    files_of,
    fixture_models,
    shared_models,
)
from digits import feed_of, held_out

PRESETS = ("balanced", "full")
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason=f"{SHARED} is absent: its models are not tested"))]


def cases():
    models = [(path, path.stem) for path in fixture_models() + shared_models()]
    return [pytest.param((path, preset), id=f"{name}-{preset}") for path, name in models for preset in PRESETS]


class Case:
    """A model, protected under a preset and restored; what is costly is made when first asked for."""

    def __init__(self, tool, folder, original, preset):
        self.original, self.preset = original, preset
        self.protected = folder / "protected" / original.name
        self.restored = folder / "restored" / original.name
        # Without the lock.
        self.runnable = folder / "runnable" / original.name
        for model in (self.protected, self.restored, self.runnable):
            model.parent.mkdir()
        # Some have elements that cannot be encrypted where they lie: these are accepted, so that all bytes come back.
        planned = tool.run("plan", original, "--preset", preset, "-q")
        assert planned.returncode in (0, EXIT_CODES["policy"]), planned.stderr
        way = ["--allow-clear", "*"] if planned.returncode else []
        tool.protect(original, self.protected, "--preset", preset, *way)
        tool.protect(original, self.runnable, "--preset", preset, "--runnable", *way)
        tool.unprotect(self.protected, self.restored)
        data = self.protected.read_bytes()
        self.head_len, entries, _ = onnxseal_open.split_tail(data)
        self.manifest = onnxseal_open.parse_json(entries[onnxseal_open.MANIFEST])

    @cached_property
    def expected(self):
        """What the original computes, and from which inputs: real ones where they are known, random ones elsewhere."""
        session = runtime.session(self.original)
        if session is None:
            pytest.skip("ONNX Runtime does not open the original")
        facts = digits_models().get(self.original.name)
        if facts:
            pixels, _ = held_out()
            feed = {session.get_inputs()[0].name: feed_of(facts["input"], pixels)}
        else:
            feed = runtime.made_up_feed(session)
        return feed, None if feed is None else runtime.run(session, feed)


@pytest.fixture(scope="module", params=cases() + ([] if shared_models() else ABSENT))
def case(request, tool, tmp_path_factory):
    return Case(tool, tmp_path_factory.mktemp("case"), *request.param)


def test_restored_is_the_original_byte_for_byte(case):
    assert files_of(case.restored) == files_of(case.original)


def test_the_second_implementation_restores_the_original(case, tool):
    assert onnxseal_open.open_model(case.protected, [tool.identity]) == files_of(case.original)


def test_files_lie_as_before_and_nothing_else_is_written(case):
    expected = sorted([case.original.name, *external_paths(case.original)])
    assert files_below(case.protected.parent) == expected
    assert files_below(case.restored.parent) == expected


def test_only_targets_are_changed(case):
    original, protected = files_of(case.original), files_of(case.protected)
    protected[""] = protected[""][: case.head_len]
    paths = [file["path"] for file in case.manifest["files"]]
    assert sorted(paths) == sorted(original)
    for index, path in enumerate(paths):
        before, after, at = original[path], protected[path], 0
        assert len(before) == len(after)
        for start, end in [*onnxseal_open.target_spans(case.manifest, index), (len(before), len(before))]:
            assert before[at:start] == after[at:start], f"{path}: changed outside the targets, from {at} to {start}"
            # A ciphertext of 16 bytes or more equals its plaintext once in 2^128.
            assert end - start < 16 or before[start:end] != after[start:end], f"{path}: {start} to {end} is in clear"
            at = end


def test_what_the_checker_accepts_it_still_accepts(case):
    try:
        onnx.checker.check_model(case.original)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        pytest.skip(f"the checker refuses the original: {str(error)[:100]}")
    onnx.checker.check_model(case.protected)
    onnx.checker.check_model(case.runnable)


def test_the_protected_model_has_the_same_graph(case):
    """All that ONNX reads of it is the same, but weights, our metadata, and the lock."""
    files = (case.original, case.protected, case.runnable)
    original, protected, runnable = (onnx.load(file, load_external_data=False) for file in files)
    assert protected.opset_import.pop().domain == "onnxseal"
    lock = protected.graph.node.pop()
    assert lock.domain == "onnxseal" and not lock.input
    assert [protected.graph.output.pop().name] == lock.output
    ours = [onnxseal_open.MANIFEST, onnxseal_open.TAGS, onnxseal_open.MAC, onnxseal_open.KEYS[0]]
    for model in (protected, runnable):
        added = model.metadata_props[len(original.metadata_props) :]
        assert [entry.key.encode() for entry in added] == ours
        del model.metadata_props[len(original.metadata_props) :]
    for model in (original, protected, runnable):
        blank_weights(model)
    assert protected == runnable == original


def blank_weights(message):
    """Clears every number of every tensor and attribute, at any depth."""
    for field, value in message.ListFields():
        if field.name in ("raw_data", "float_data", "double_data", "floats"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for inner in [value] if hasattr(value, "ListFields") else value:
                blank_weights(inner)


def test_runtime_refuses_it_with_the_lock(case):
    assert runtime.session(case.protected) is None


def test_runtime_opens_it_without_the_lock_and_computes_something_else(case):
    feed, expected = case.expected
    protected = runtime.session(case.runnable)
    if protected is None and case.preset == "full":
        pytest.skip("ONNX Runtime refuses ciphertext in place of zero points or indices")
    assert protected is not None, "ONNX Runtime opens the original, but not the protected model"
    if feed is None:
        pytest.skip("it opens, but no inputs are known under which the original runs")
    actual = runtime.run(protected, feed)
    if not case.manifest["tensors"]:
        assert runtime.same(expected, actual), "nothing is encrypted, yet something differs"
        pytest.skip("nothing in it can be encrypted")
    readers = {
        operator["op_type"]
        for tensor in case.manifest["tensors"]
        for operator in tensor["operators"]
    }
    if readers == {"Where"}:
        pytest.skip("nothing but a mask is encrypted, which these inputs do not show")
    assert not runtime.same(expected, actual), "encrypted weights make no difference"


def test_the_restored_model_computes_the_same(case):
    feed, expected = case.expected
    if feed is None:
        pytest.skip("no inputs are known under which the original runs")
    assert runtime.same(expected, runtime.run(runtime.session(case.restored), feed))
