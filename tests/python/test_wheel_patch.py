"""The Python package: programs that know ONNX Runtime alone open protected models once patched."""

import gc
import io
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import typing
import weakref

import onnxruntime
import onnxseal
import pytest
import runtime
from catalog import MODELS, digits_models
from digits import feed_of, held_out
from onnxruntime import InferenceSession
from wheel import OPTIONS, feed, layers, options, plain, saved

BEFORE = InferenceSession.__init__


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


@pytest.fixture
def model(tmp_path, identity):
    path, sealed = saved(layers(), tmp_path / "layers.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity, claims={"customer": "acme"})
    return path, sealed


@pytest.fixture(autouse=True)
def undone():
    """Whatever a test does, the class is ONNX Runtime's again."""
    yield
    onnxseal.unpatch()
    assert InferenceSession.__init__ is BEFORE


def assert_same(found, expected):
    given = feed(expected)
    assert runtime.same(found.run(None, given), expected.run(None, given))


def assert_refused(sealed):
    with pytest.raises(Exception, match="ProtectedModel_OpenItWithOnnxseal"):
        InferenceSession(sealed, **OPTIONS)


def test_a_class_that_was_imported_before_opens_protected_models(model, identity):
    path, sealed = model
    expected = plain(path)
    assert_refused(sealed)
    onnxseal.patch(identity=identity)
    assert onnxruntime.InferenceSession is InferenceSession
    found = InferenceSession(sealed, **OPTIONS)
    assert type(found) is InferenceSession and found._model_path == str(sealed)
    assert_same(found, expected)
    # What they are made from, and how.
    for given in (
        str(sealed),
        sealed.read_bytes(),
        sealed,
        onnxseal.open(sealed, identity),
        io.BytesIO(sealed.read_bytes()),
    ):
        assert_same(InferenceSession(given, options(), ["CPUExecutionProvider"]), expected)
    shared = InferenceSession(
        path_or_bytes=str(sealed), sess_options=options(), providers=["CPUExecutionProvider"]
    )
    assert shared.get_session_options().intra_op_num_threads == 1
    assert_same(
        InferenceSession(
            sealed, shared.get_session_options(), providers=[("CPUExecutionProvider", {})]
        ),
        expected,
    )
    assert_same(InferenceSession(sealed, None, ["CPUExecutionProvider"], [{}]), expected)
    onnxseal.unpatch()
    assert_refused(sealed)
    # Sessions stay what they are.
    assert_same(found, expected)
    assert (
        found.get_session_options().graph_optimization_level == options().graph_optimization_level
    )
    with pytest.raises(onnxseal.UsageError, match="make a new one"):
        found.set_providers(["CPUExecutionProvider"])


def test_models_that_are_not_protected_open_as_ever_or_not_at_all(model, tmp_path, identity):
    path, sealed = model
    expected = plain(path)
    with onnxseal.patched(identity=tmp_path / "no such file"):
        # No key is needed, and nothing of a session is another.
        for given in (path, str(path), path.read_bytes()):
            found = InferenceSession(given, options(), **OPTIONS)
            assert_same(found, expected)
        assert found.get_session_options() is found._sess_options
        found.set_providers(["CPUExecutionProvider"])
        assert_same(found, expected)
        # Errors are ONNX Runtime's.
        with pytest.raises(Exception) as raised:
            InferenceSession(tmp_path / "none.onnx")
        assert type(raised.value).__name__ == "NoSuchFile"
        with pytest.raises(TypeError):
            InferenceSession(3)
    saving = options()
    saving.optimized_model_filepath = str(tmp_path / "model.ort")
    saving.add_session_config_entry("session.save_model_format", "ORT")
    InferenceSession(path, saving, **OPTIONS)
    with onnxseal.patched():
        assert_same(InferenceSession(tmp_path / "model.ort", **OPTIONS), expected)
    with onnxseal.patched(identity=identity, allow_plain=False):
        assert_same(InferenceSession(sealed, **OPTIONS), expected)
        for given in (path, path.read_bytes(), tmp_path / "model.ort"):
            with pytest.raises(onnxseal.UsageError, match="not protected"):
                InferenceSession(given, **OPTIONS)
    # A demand that a model has to meet refuses it, too.
    with onnxseal.patched(identity=identity, require_claims=["customer=acme"]):
        InferenceSession(sealed, **OPTIONS)
        with pytest.raises(onnxseal.UsageError, match="not protected"):
            InferenceSession(path, **OPTIONS)


def test_settings_are_those_of_sessions(model, tmp_path, identity, monkeypatch):
    _, sealed = model
    for settings, raised in [
        (dict(identity=onnxseal.generate_identity()), onnxseal.NoMatchingKeyError),
        (dict(identity=identity, require_claims=["customer=other"]), onnxseal.PolicyNotMetError),
        (dict(identity=identity, tier="trial"), onnxseal.Error),
        (dict(), onnxseal.UsageError),
    ]:
        with onnxseal.patched(**settings), pytest.raises(raised):
            InferenceSession(sealed, **OPTIONS)
    for wrong in (onnxseal.patch, lambda **settings: onnxseal.patched(**settings).__enter__()):
        with pytest.raises(TypeError, match="identities"):
            wrong(identities=identity)
    made = options()
    made.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    with onnxseal.patched(identity=identity), pytest.raises(onnxseal.UsageError, match="decrypted"):
        InferenceSession(sealed, made, **OPTIONS)
    with onnxseal.patched(identity=identity, allow_plaintext_on_disk=True):
        InferenceSession(sealed, made, **OPTIONS)
    assert (tmp_path / "optimized.onnx").exists()
    identity.save(tmp_path / "id.txt")
    monkeypatch.setenv("ONNXSEAL_IDENTITY", str(tmp_path / "id.txt"))
    with onnxseal.patched(prepack=False):
        found = InferenceSession(sealed, **OPTIONS)
    assert found.get_session_options() is not found.get_session_options()


@pytest.mark.parametrize("how", ["argument", "environment", "one of several"])
def test_a_pipe_gives_its_identity_to_all_sessions(how, model, identity, monkeypatch):
    path, sealed = model
    read, write = os.pipe()
    os.write(write, identity.text().encode())
    os.close(write)
    named = f"/dev/fd/{read}"
    given = {
        "argument": named,
        "environment": None,
        "one of several": iter([onnxseal.generate_identity(), named]),
    }[how]
    if how == "environment":
        monkeypatch.setenv("ONNXSEAL_IDENTITY", f"fd:{read}")
    with onnxseal.patched(identity=given):
        for _ in range(3):
            assert_same(InferenceSession(sealed, **OPTIONS), plain(path))
    os.close(read)


class Counted(InferenceSession):
    """As programs derive from the class: with an `__init__` and methods of their own."""

    def __init__(self, path, counted=True):
        super().__init__(path, sess_options=options(), providers=["CPUExecutionProvider"])
        self.runs, self.counted = 0, counted

    def get_inputs(self):
        assert self.counted
        return super().get_inputs()

    def run(self, *arguments, **more):
        self.runs += 1
        return super().run(*arguments, **more)


def holds(session: InferenceSession | None) -> typing.Optional[InferenceSession]:  # noqa: UP045
    return session


def test_the_class_stays_what_it_is_for_programs(model, identity):
    path, sealed = model
    expected, said = plain(path), typing.get_type_hints(holds)
    with onnxseal.patched(identity=identity):
        found, own = Counted(sealed), InferenceSession(sealed, **OPTIONS)
        assert (
            type(found) is Counted
            and isinstance(found, InferenceSession)
            and issubclass(Counted, InferenceSession)
        )
        assert isinstance(own, onnxruntime.capi.onnxruntime_inference_collection.Session)
        assert not isinstance(own, onnxseal.InferenceSession) and issubclass(
            onnxseal.InferenceSession, InferenceSession
        )
        assert_same(found, expected)
        assert found.runs == 1
        assert pickle.loads(pickle.dumps(InferenceSession)) is InferenceSession
        assert typing.get_type_hints(holds) == said and isinstance(
            holds(own), InferenceSession | None
        )
        assert (
            InferenceSession.__init__.__name__ == "__init__"
            and InferenceSession.__init__.__doc__ == BEFORE.__doc__
        )
        # Our own class takes its own arguments, and they alone.
        with pytest.raises(onnxseal.UsageError, match="allow_plain=True"):
            onnxseal.InferenceSession(path)
        with pytest.raises(onnxseal.UsageError, match="no identity"):
            onnxseal.InferenceSession(sealed)
        assert_same(onnxseal.InferenceSession(sealed, identity=identity, **OPTIONS), expected)


def test_calls_in_the_background_keep_the_session(model, identity):
    path, sealed = model
    given, ended, results = feed(plain(path)), threading.Event(), []
    with onnxseal.patched(identity=identity):
        found = Counted(sealed)
    seen = weakref.ref(found)

    def callback(outputs, data, error):
        results.append((outputs, error, seen() is not None))
        ended.set()

    found.run_async(None, given, callback, None)
    del found
    gc.collect()
    assert ended.wait(60)
    [(outputs, error, was_there)] = results
    assert not error and was_there and runtime.same(outputs, plain(path).run(None, given))
    gc.collect()


def test_patches_nest_repeat_and_end_in_any_order(model, tmp_path, identity):
    path, sealed = model
    stranger = onnxseal.generate_identity()

    def opens():
        try:
            assert_same(InferenceSession(sealed, **OPTIONS), plain(path))
            return True
        except onnxseal.NoMatchingKeyError:
            return False

    onnxseal.unpatch()
    onnxseal.patch(identity=stranger)
    onnxseal.patch(identity=identity)
    assert opens()
    with onnxseal.patched(identity=stranger):
        assert not opens()
        with (
            pytest.raises(RuntimeError, match="of the program"),
            onnxseal.patched(identity=identity),
        ):
            assert opens()
            raise RuntimeError("of the program")
        assert not opens()
        onnxseal.unpatch()
        assert not opens()
        onnxseal.patch(identity=identity)
        assert opens()
        onnxseal.unpatch()
        onnxseal.unpatch()
        assert not opens()
    assert InferenceSession.__init__ is BEFORE
    first, second = onnxseal.patched(identity=stranger), onnxseal.patched(identity=identity)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert opens()
    second.__exit__(None, None, None)
    assert InferenceSession.__init__ is BEFORE
    assert_refused(sealed)


def test_threads_patch_and_open_at_once(model, identity):
    path, sealed = model
    expected, faults = plain(path), []

    def work():
        try:
            for _ in range(5):
                with onnxseal.patched(identity=identity):
                    assert_same(InferenceSession(sealed, **OPTIONS), expected)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and InferenceSession.__init__ is BEFORE


def test_others_that_patch_the_class_are_heard(model, identity, monkeypatch):
    path, sealed = model
    calls = []

    def noting(original, name):
        def noted(self, *arguments, **more):
            calls.append(name)
            return original(self, *arguments, **more)

        return noted

    for name in ("run", "__init__"):
        monkeypatch.setattr(
            InferenceSession, name, noting(getattr(InferenceSession, name), f"below {name}")
        )
    below = InferenceSession.__init__
    onnxseal.patch(identity=identity)
    monkeypatch.setattr(InferenceSession, "__init__", noting(InferenceSession.__init__, "above"))
    assert_same(InferenceSession(sealed, **OPTIONS), plain(path))
    assert {"above", "below __init__", "below run"} <= set(calls)
    # Theirs stays, and ours below it does nothing, also once there is another above.
    onnxseal.unpatch()
    assert_refused(sealed)
    onnxseal.patch(identity=identity)
    calls.clear()
    found = InferenceSession(sealed, **OPTIONS)
    assert calls == ["above", "below __init__"]
    assert_same(found, plain(path))
    onnxseal.unpatch()
    assert_refused(sealed)
    monkeypatch.undo()
    assert below is not BEFORE


def test_others_below_may_set_arguments_by_name(model, identity, monkeypatch):
    path, sealed = model

    def on_processor(self, *arguments, **more):
        more["providers"] = ["CPUExecutionProvider"]
        BEFORE(self, *arguments, **more)

    monkeypatch.setattr(InferenceSession, "__init__", on_processor)
    with onnxseal.patched(identity=identity):
        assert_same(InferenceSession(sealed), plain(path))



@pytest.mark.parametrize("how", ["folder", "path"])
def test_external_data_are_found(how, tmp_path, identity):
    name = "digits_cnn_dynamo.onnx"
    sealed = tmp_path / name
    onnxseal.protect(MODELS / name, sealed, recipients=identity)
    folder = options()
    folder.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(tmp_path)
    )
    expected = plain(MODELS / name)
    given = {expected.get_inputs()[0].name: feed_of(digits_models()[name]["input"], held_out()[0])}
    with onnxseal.patched(identity=identity):
        found = (
            InferenceSession(sealed.read_bytes(), folder)
            if how == "folder"
            else InferenceSession(sealed)
        )
    assert runtime.same(found.run(None, given), expected.run(None, given))


# --- python -m onnxseal run -----------------------------------------------------------------------


def run(*words, cwd, env=None, **more):
    command = [sys.executable, "-m", "onnxseal", "run", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, **more
    )


@pytest.fixture
def app(tmp_path, model, identity):
    """A folder with a program that was never told of onnxseal, and its model."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "beside.py").write_text("from onnxruntime import InferenceSession\n")
    text = """
        import json, os, sys
        import numpy
        from beside import InferenceSession

        def main(path, *rest):
            assert sys.modules["__main__"].main is main
            session = InferenceSession(path, providers=["CPUExecutionProvider"])
            inputs = {v.name: numpy.ones(v.shape, numpy.float32) for v in session.get_inputs()}
            total = float(session.run(None, inputs)[0].sum())
            print(json.dumps([total, sys.argv, sys.path[0], os.getcwd(), __name__, __file__]))
            return 7 if "--seven" in rest else None

        if __name__ == "__main__":
            sys.exit(main(*sys.argv[1:]))
    """
    (folder / "app.py").write_text(textwrap.dedent(text))
    identity.save(tmp_path / "id.txt")
    return folder


def test_a_program_runs_as_python_runs_it(app, model, tmp_path):
    path, sealed = model
    for words, cwd in (
        (["app/app.py"], tmp_path),
        ([app / "app.py"], app),
        (["-m", "app"], app),
        ([tmp_path / "packed"], app),
        (["-m", "app.app"], tmp_path),
    ):
        if words[-1] == tmp_path / "packed":
            shutil.copytree(app, tmp_path / "packed", ignore=shutil.ignore_patterns("__pycache__"))
            (tmp_path / "packed" / "app.py").rename(tmp_path / "packed" / "__main__.py")
        if words[-1] == "app.app":
            # As a package, it imports what lies beside it as such.
            (app / "app.py").write_text(
                (app / "app.py").read_text().replace("from beside", "from app.beside")
            )
        as_python = subprocess.run(
            [sys.executable, *map(str, words), path, "-i", "x"],
            cwd=cwd,
            capture_output=True,
            text=True,
        )
        assert as_python.returncode == 0, as_python.stderr
        done = run("-i", tmp_path / "id.txt", *words, sealed, "-i", "x", cwd=cwd)
        assert done.returncode == 0, done.stderr
        assert done.stdout.replace(str(sealed), str(path)) == as_python.stdout


def test_a_program_s_end_and_its_options(app, model, tmp_path):
    path, sealed = model
    key = ["--identity", tmp_path / "id.txt"]
    assert run(*key, "app.py", sealed, "--seven", cwd=app).returncode == 7
    assert (
        run(
            "app.py", sealed, cwd=app, env={"ONNXSEAL_IDENTITY": str(tmp_path / "id.txt")}
        ).returncode
        == 0
    )
    assert run("app.py", path, cwd=app).returncode == 0
    for words, said, code in (
        ([*key, "--no-plain", "app.py", path], "is not protected", 1),
        ([*key, "--require-claim", "customer=other", "app.py", sealed], "PolicyNotMetError", 1),
        ([*key, "app.py", tmp_path / "none.onnx"], "NoSuchFile", 1),
        (["app.py", sealed], "ONNXSEAL_IDENTITY", 1),
        # As Python itself has it.
        (["none.py"], "none.py: No such file", 2),
    ):
        done = run(*words, cwd=app)
        assert done.returncode == code and said in done.stderr, done.stderr
    assert (
        run(
            *key,
            "--require-claim",
            "customer=acme",
            "--no-plain",
            "--no-prepack",
            "app.py",
            sealed,
            cwd=app,
        ).returncode
        == 0
    )
    for wrong in ([], ["--unknown", "app.py"], ["-m"]):
        assert run(*wrong, cwd=app).returncode == 2
    assert "ONNXSEAL_IDENTITY" in run("--help", cwd=app).stdout


def test_what_the_package_imports_is_little():
    """Neither ONNX Runtime nor numpy nor what runs programs."""
    unwanted = {"onnxruntime", "numpy", "argparse", "runpy", "tqdm"}
    asked = f"import sys, onnxseal; print(*{unwanted} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_label_key_is_for_models_with_encrypted_labels(model, identity):
    labelled = MODELS.parent / "labels"
    expected = plain(MODELS / "digits_cnn.onnx")
    given = {
        expected.get_inputs()[0].name: feed_of(
            digits_models()["digits_cnn.onnx"]["input"], held_out()[0]
        )
    }
    with onnxseal.patched(identity=identity, label_key=labelled / "acme.key"):
        # Other models have no use for it.
        assert_same(InferenceSession(model[1], **OPTIONS), plain(model[0]))
        assert_same(InferenceSession(model[0].read_bytes(), **OPTIONS), plain(model[0]))
        found = InferenceSession(labelled / "digits_cnn.onnx", **OPTIONS)
    assert [(value.name, value.type) for value in found.get_outputs()] == [
        (v.name, v.type) for v in expected.get_outputs()
    ]
    [answers], [wanted] = found.run(None, given), expected.run(None, given)
    assert answers.shape == wanted.shape and (answers.argmax(1) == wanted.argmax(1)).all()
    with pytest.raises(onnxseal.UsageError, match="run_with_ort_values"):
        found.run_with_ort_values(None, {})
    # Other sessions of the class are as ever.
    expected.run_with_iobinding(bound(expected, given))


def bound(session, given):
    binding = session.io_binding()
    for name, value in given.items():
        binding.bind_cpu_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return binding
