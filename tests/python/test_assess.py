"""What attackers get, from Python."""

import json
from pathlib import Path

import numpy as np
import onnxseal
import pytest

MODELS = Path(__file__).resolve().parents[2] / "fixtures" / "models"
MODEL = MODELS / "digits_cnn.onnx"


@pytest.fixture(scope="module")
def digits():
    table = np.loadtxt(MODELS / "digits_test.csv", delimiter=",", skiprows=1)
    return (table[:, 1:] / 16).astype(np.float32).reshape(-1, 1, 8, 8), table[:, 0].astype(np.int64)


def input_name():
    import onnx

    return onnx.load(MODEL).graph.input[0].name


def test_arrays_and_files_give_the_same(digits):
    images, labels = digits
    told = []
    options = dict(presets=["full", "balanced"], no_public_base=True, seed=3)
    arrays = onnxseal.assess(MODEL, {input_name(): images}, labels=labels, progress=lambda *at: told.append(at), **options)
    files = onnxseal.assess(MODEL, MODELS / "digits_test.csv", scale=16, **options)
    one, other = arrays.json(), files.json()
    assert [row["attacks"] for row in one["candidates"]] == [row["attacks"] for row in other["candidates"]]
    assert one["original"]["value"] == pytest.approx(0.985)
    assert arrays.holds == all(row["verdict"]["verdict"] == "holds" for row in one["candidates"])
    assert "best probe" in arrays.table() and str(arrays) == arrays.table()
    assert "full: " in repr(arrays)
    assert told[0][0] == 0 and told[-1][0] > 10


def test_it_runs_the_onnx_runtime_that_is_imported(digits):
    import onnxruntime

    images, labels = digits
    found = onnxseal.assess(MODEL.read_bytes(), {input_name(): images}, labels=labels, presets="full", limit=120)
    engine = found.json()["engine"]
    assert Path(engine["library"]).is_relative_to(Path(onnxruntime.__file__).parent)
    assert engine["version"] == onnxruntime.__version__


def test_a_public_base_is_reckoned_with():
    public = MODELS.parent / "public"
    data = dict(data=public / "samples.npz", scale=255)
    untried = onnxseal.assess(public / "victim.onnx", **data, presets=["balanced", "full"])
    assert untried.table().startswith("Nobody tried a public base.")
    assert untried.json()["candidates"][0]["verdict"]["verdict"] != "holds" and not untried.holds
    found = onnxseal.assess(public / "victim.onnx", **data, base=public / "base.onnx")
    names = [row["name"] for row in found.json()["candidates"] if row["verdict"]["verdict"] == "holds"]
    assert names == ["full"]
    assert found.json()["public_base"] == {
        "kind": "tried", "model": str(public / "base.onnx"), "n_matched": 12, "n_tensors": 12
    }
    with pytest.raises(onnxseal.UsageError, match="there is none"):
        onnxseal.assess(public / "victim.onnx", **data, base=public / "base.onnx", no_public_base=True)


def otherwise(path, form):
    """The victim of fixtures/public, its weights held otherwise."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(MODELS.parent / "public" / "victim.onnx")
    graph, before = model.graph, []
    for tensor in list(graph.initializer):
        name, values = tensor.name, numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
        if form == "int64 behind Cast":
            whole = np.round(values * 1e6).astype(np.int64)
            graph.initializer.extend([
                numpy_helper.from_array(whole, name + "_whole"), numpy_helper.from_array(np.float32(1e-6), name + "_step")
            ])
            before.append(helper.make_node("Cast", [name + "_whole"], [name + "_cast"], to=TensorProto.FLOAT))
            before.append(helper.make_node("Mul", [name + "_cast", name + "_step"], [name]))
        elif form == "float16 in int32_data":
            half = TensorProto(name=name + "_half", data_type=TensorProto.FLOAT16, dims=values.shape)
            half.int32_data.extend(values.astype(np.float16).view(np.uint16).ravel().tolist())
            graph.initializer.append(half)
            before.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
        else:
            before.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values)))
    for node in reversed(before):
        graph.node.insert(0, node)
    onnx.save(model, path)


@pytest.mark.parametrize("form", ["int64 behind Cast", "float16 in int32_data", "Constant"])
def test_floors_have_no_weight_whatever_holds_it(form, tmp_path):
    otherwise(tmp_path / "model.onnx", form)
    (tmp_path / "none.toml").write_text("[default]\ncoefficient = 0\n")
    data = dict(data=MODELS.parent / "public" / "samples.npz", scale=255, no_public_base=True)
    found = onnxseal.assess(tmp_path / "model.onnx", **data, policies=tmp_path / "none.toml")
    assert found.json()["original"]["value"] == pytest.approx(0.814, abs=0.02)
    floors = {row["kind"]: row["measure"]["value"] for row in found.json()["floors"]}
    assert set(floors) == {"constant", "raw_probe", "full_random", "full_probe"} and max(floors.values()) < 0.45, floors
    assert not found.holds and found.json()["candidates"][0]["verdict"] == {"verdict": "leaks"}
    assert "none.toml leaks: nothing is encrypted" in found.table()


def test_what_holds_says_on_what_that_rests(tmp_path):
    public = MODELS.parent / "public"
    data = dict(data=public / "samples.npz", presets="full")
    found = onnxseal.assess(public / "victim.onnx", **data, scale=255, no_public_base=True)
    assert found.holds and found.json()["candidates"][0]["verdict"] == {"verdict": "holds", "if_no_public_base": True}
    said = "holds, if no public ancestor exists"
    assert said in found.table() and said in found._repr_html_() and said in repr(found)
    forgotten = onnxseal.assess(public / "victim.onnx", **data, no_public_base=True)
    verdict = forgotten.json()["candidates"][0]["verdict"]
    assert verdict == {"verdict": "cannot_tell", "reason": "unscaled"} and not forgotten.holds
    assert "cannot tell: nobody said how values are scaled" in forgotten._repr_html_()


def test_a_page_is_saved_and_shown(digits, tmp_path):
    found = onnxseal.assess(MODEL, presets=["full"])
    page = tmp_path / "page.html"
    found.save(page)
    assert page.read_text() == found._repr_html_() and 'class="bar"' in page.read_text()
    with pytest.raises(onnxseal.UsageError, match="replace=True"):
        found.save(page)
    found.save(page, replace=True)


def test_a_metric_is_a_function(digits):
    images, labels = digits
    seen = []

    def metric(outputs, indices):
        seen.append((outputs.shape, outputs.dtype))
        return float(np.mean(outputs.argmax(1) == labels[indices]))

    found = onnxseal.assess(MODEL, {input_name(): images}, labels=labels, presets=["full"], metric=metric)
    assert found.json()["original"]["value"] == pytest.approx(0.985)
    assert seen[0] == ((200, 10), np.float32)
    with pytest.raises(onnxseal.Error, match="no good"):
        onnxseal.assess(MODEL, {input_name(): images}, presets=["full"], metric=fail)


def fail(*_):
    raise ValueError("no good")


def test_protected_models_and_mistakes(digits, tmp_path):
    images, labels = digits
    identity = onnxseal.generate_identity()
    sealed, ranking = tmp_path / "sealed.onnx", tmp_path / "ranking.json"
    made = onnxseal.rank(MODEL, ranking, method="activation", data={input_name(): images}, labels=labels)
    assert made == {"method": "activation", "unit_bytes": 256, "partial": False}
    assert json.loads(ranking.read_text())["version"] == 1
    onnxseal.protect(
        MODEL, sealed, recipients=identity, preset="balanced", ranking=ranking, comment="of the tests", list_recipients=True
    )
    report = onnxseal.inspect(sealed)
    assert report["comment"] == "of the tests" and report["public_keys"] == [identity.recipient]
    onnxseal.verify(sealed, identity=identity, preset="balanced", ranking=ranking)
    data = {input_name(): images}
    found = onnxseal.assess(sealed, data, labels=labels, identities=identity)
    assert [row["name"] for row in found.json()["candidates"]] == ["as protected"]
    for wrong, said in [
        (dict(data={input_name(): images[:, :, :4]}), "a sample of the data is"),
        (dict(data={"x": images, "y": images}), "nothing for input"),
        (dict(data={"x": images}), 'nothing for input "input"'),
        (dict(data=data, labels=labels + 1), "10 classes"),
        (dict(data=data, labels=labels[1:]), "199 labels"),
        (dict(labels=labels), "no data"),
        (dict(data=data, identities=identity), "not protected"),
        (dict(data=data, presets=["fast"]), "fast"),
    ]:
        with pytest.raises(onnxseal.UsageError, match=said):
            onnxseal.assess(MODEL, **wrong)
    with pytest.raises(onnxseal.UsageError, match="a policy or a preset too"):
        onnxseal.plan(MODEL, ranking=ranking)
    with pytest.raises(onnxseal.UsageError, match="another model"):
        onnxseal.assess(MODELS / "digits_gru.onnx", ranking=ranking)
    with pytest.raises(onnxseal.UsageError, match="neither activation"):
        onnxseal.rank(MODEL, tmp_path / "r.json", method="energy")


def test_an_exception_from_progress_ends_it(digits):
    def stop(done, _):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        onnxseal.assess(MODEL, progress=stop)


def test_tiers_are_tuned_as_the_command_does(tool, tmp_path):
    model, data = MODELS / "digits_cnn.onnx", MODELS / "digits_test.csv"
    by_tool, out = tmp_path / "tool.toml", tmp_path / "python.toml"
    arguments = ["--data", data, "--scale", 16, "--preset", "balanced", "--target", "trial=0.93"]
    shown = json.loads(tool("tiers", "tune", model, *arguments, "-o", by_tool, "--json").stdout)
    targets = {"trial": 0.93}
    tuned = onnxseal.tune_tiers(model, out, targets=targets, data=data, scale=16, preset="balanced")
    assert out.read_text() == by_tool.read_text() and tuned["tiers"] == shown["tiers"] and tuned["curve"] == shown["curve"]
    with pytest.raises(onnxseal.UsageError, match="exists"):
        onnxseal.tune_tiers(model, out, targets=targets, data=data)
    with pytest.raises(onnxseal.UsageError):
        onnxseal.tune_tiers(model, tmp_path / "bad.toml", targets={"trial": 1.5}, data=data, scale=16)
    assert not (tmp_path / "bad.toml").exists()
