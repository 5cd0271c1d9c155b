"""The Python package: licences, which open a model for a customer, and the dates of licences and models."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from catalog import MODELS

onnxseal = pytest.importorskip("onnxseal")
# The helpers import it too.
from wheel import OPTIONS, numbers, plain, session  # noqa: E402

MODEL = MODELS / "digits_cnn.onnx"
CONTACT = ["--claim", "contact=sales@example.com"]


class Vendor:
    """A model that opens for its publisher alone, and a customer."""

    def __init__(self, tool, folder):
        self.tool, self.folder = tool, folder
        self.publisher = tool.identity_file
        self.customer = folder / "acme.txt"
        self.recipient = tool("keygen", "-o", self.customer).stdout.strip()
        self.sealed = folder / "sealed.onnx"
        tool.protect(MODEL, self.sealed, "--claim", "version=7")
        self.expired = self.licence("expired", "--not-after", "2020-02-29", *CONTACT)
        self.valid = self.licence("valid", "--not-after", "2999-12-31", "--claim", "customer=acme")

    def licence(self, name, *options, model=None, to=None):
        out = self.folder / f"{name}.licence"
        options = ["-i", self.publisher, "-r", to or self.recipient, "-o", out, *options]
        self.tool("licence", "issue", model or self.sealed, *options, "-q")
        return out


@pytest.fixture(scope="module")
def made(tool, tmp_path_factory):
    return Vendor(tool, tmp_path_factory.mktemp("vendor"))


@pytest.fixture
def vendor(made, monkeypatch):
    monkeypatch.delenv("ONNXSEAL_LICENCE", raising=False)
    yield made
    made.sealed.with_name("sealed.onnx.licence").unlink(missing_ok=True)


def calls(vendor, tmp_path, identity=None, **more):
    """Every call that opens a model: its name, and the call."""
    more |= {"identity": identity or vendor.customer}
    return {
        "InferenceSession": lambda: session(vendor.sealed, **more),
        "open": lambda: onnxseal.open(vendor.sealed, **more),
        "verify": lambda: onnxseal.verify(vendor.sealed, **more),
        "unprotect": lambda: onnxseal.unprotect(vendor.sealed, tmp_path / "original.onnx", replace=True, **more),
    }


def opens(vendor, tmp_path, **more):
    for call in calls(vendor, tmp_path, **more).values():
        call()
    assert (tmp_path / "original.onnx").read_bytes() == MODEL.read_bytes()


def fails(error, vendor, tmp_path, match=None, **more):
    for name, call in calls(vendor, tmp_path, **more).items():
        with pytest.raises(error, match=match):
            pytest.fail(f"{name} gives {call()}")
    assert not (tmp_path / "original.onnx").exists()


def test_every_call_takes_a_licence(vendor, tmp_path):
    fails(onnxseal.NoMatchingKeyError, vendor, tmp_path)
    opens(vendor, tmp_path, licence=vendor.valid)
    opens(vendor, tmp_path, licence=str(vendor.valid))
    found = session(vendor.sealed, vendor.customer, licence=vendor.valid)
    given = {"input": numbers(2, 1, 8, 8)}
    assert np.array_equal(found.run(None, given)[0], plain(MODEL).run(None, given)[0])
    # The claims are those of the model.
    model = onnxseal.open(vendor.sealed, vendor.customer, licence=vendor.valid, require_claims=["version=7"])
    assert model.claims == {"version": "7"}
    with pytest.raises(onnxseal.PolicyNotMetError):
        onnxseal.open(vendor.sealed, vendor.customer, licence=vendor.valid, require_claims=["customer=acme"])
    with pytest.raises(TypeError, match="licence"):
        onnxseal.open(vendor.sealed, vendor.customer, license=vendor.valid)


def test_a_date_has_an_error_of_its_own(vendor, tmp_path):
    text = "expired.licence opened until 2020-02-29, and the clock .*sales@example.com"
    fails(onnxseal.NotInForceError, vendor, tmp_path, text, licence=vendor.expired)
    later = vendor.licence("later", "--not-before", "2998-01-01T00:00:00+01:00")
    fails(onnxseal.NotInForceError, vendor, tmp_path, "opens from 2998-01-01T00:00:00", licence=later)
    assert issubclass(onnxseal.NotInForceError, onnxseal.Error) and onnxseal.NotInForceError.kind == "not_in_force"


def test_the_environment_names_a_licence_for_models_that_it_lists(vendor, tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXSEAL_LICENCE", str(vendor.valid))
    opens(vendor, tmp_path)
    monkeypatch.setenv("ONNXSEAL_LICENCE", str(vendor.expired))
    (tmp_path / "original.onnx").unlink()
    fails(onnxseal.NotInForceError, vendor, tmp_path)
    opens(vendor, tmp_path, licence=vendor.valid)
    # It is used, whatever else opens the model.
    (tmp_path / "original.onnx").unlink()
    fails(onnxseal.NoMatchingKeyError, vendor, tmp_path, "expired.licence", identity=vendor.publisher)
    other = tmp_path / "other.onnx"
    vendor.tool.protect(MODEL, other)
    onnxseal.verify(other, identity=vendor.publisher)
    for value, error in {"": onnxseal.UsageError, str(tmp_path / "absent"): onnxseal.IoError}.items():
        monkeypatch.setenv("ONNXSEAL_LICENCE", value)
        fails(error, vendor, tmp_path)


def test_a_licence_beside_the_model_comes_last(vendor, tmp_path):
    beside = vendor.sealed.with_name("sealed.onnx.licence")
    shutil.copy(vendor.valid, beside)
    opens(vendor, tmp_path)
    (tmp_path / "original.onnx").unlink()
    shutil.copy(vendor.expired, beside)
    fails(onnxseal.NotInForceError, vendor, tmp_path, "sealed.onnx.licence")
    opens(vendor, tmp_path, licence=vendor.valid)
    opens(vendor, tmp_path, identity=vendor.publisher)


def test_models_in_memory(vendor, monkeypatch):
    content = vendor.sealed.read_bytes()
    for model in (content, io.BytesIO(content)):
        assert onnxseal.open(model, vendor.customer, licence=vendor.valid).model_bytes == MODEL.read_bytes()
    session(content, vendor.customer, licence=vendor.valid)
    with pytest.raises(onnxseal.NoMatchingKeyError):
        onnxseal.open(content, vendor.customer)
    monkeypatch.setenv("ONNXSEAL_LICENCE", str(vendor.valid))
    assert onnxseal.verify(content, identity=vendor.customer)["authenticated"]


def test_licences_that_are_refused(vendor, tmp_path):
    other = tmp_path / "other.onnx"
    vendor.tool.protect(MODEL, other)
    elsewhere = vendor.licence("elsewhere", model=other)
    fails(onnxseal.NoMatchingKeyError, vendor, tmp_path, "has no key for", licence=elsewhere)
    for_others = vendor.licence("others", to=onnxseal.generate_identity().recipient)
    fails(onnxseal.NoMatchingKeyError, vendor, tmp_path, "others.licence", licence=for_others)
    changed = tmp_path / "changed.licence"
    changed.write_text(vendor.expired.read_text().replace("2020-02-29", "2999-02-28"))
    fails(onnxseal.AuthenticationError, vendor, tmp_path, "was changed since it was issued", licence=changed)
    changed.write_text(vendor.valid.read_text()[:-1])
    fails(onnxseal.MalformedError, vendor, tmp_path, licence=changed)
    fails(onnxseal.MalformedError, vendor, tmp_path, "no licence", licence=vendor.customer)
    fails(onnxseal.IoError, vendor, tmp_path, licence=tmp_path / "absent")


def test_a_patch_takes_a_licence(vendor, tmp_path, monkeypatch):
    monkeypatch.chdir(vendor.folder)
    with onnxseal.patched(identity="acme.txt", licence="valid.licence"):
        monkeypatch.chdir(tmp_path)
        found = onnxruntime.InferenceSession(vendor.sealed, **OPTIONS)
    given = {"input": numbers(2, 1, 8, 8)}
    assert np.allclose(found.run(None, given)[0], plain(MODEL).run(None, given)[0], atol=1e-5)
    with onnxseal.patched(identity=vendor.customer, licence=vendor.expired):
        with pytest.raises(onnxseal.NotInForceError):
            onnxruntime.InferenceSession(vendor.sealed, **OPTIONS)
        # A plain model needs no licence.
        onnxruntime.InferenceSession(MODEL, **OPTIONS)


def test_so_does_a_program_as_it_is(vendor, tmp_path):
    app = tmp_path / "app.py"
    app.write_text("import onnxruntime, sys\nprint(onnxruntime.InferenceSession(sys.argv[1]).get_inputs()[0].name)\n")

    def run(*options, **environment):
        command = [sys.executable, "-m", "onnxseal", "run", "-i", vendor.customer, *options, app, vendor.sealed]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)

    for done in (run("--licence", vendor.valid), run(ONNXSEAL_LICENCE=str(vendor.valid))):
        assert (done.returncode, done.stdout) == (0, "input\n"), done.stderr
    done = run("--licence", vendor.expired)
    assert done.returncode == 1 and "NotInForceError" in done.stderr


def test_a_licence_has_a_tier(tool, tiers, vendor):
    trial = vendor.licence("trial", "--tier", "trial", model=tiers.protected)
    whole = vendor.licence("whole", model=tiers.protected)
    opened = onnxseal.open(tiers.protected, vendor.customer, licence=trial, tier="trial")
    assert (opened.tier, opened.is_original) == ("trial", False)
    assert opened.model_bytes == tiers.unprotected.read_bytes()
    assert onnxseal.open(tiers.protected, vendor.customer, licence=whole).is_original
    for tier in (None, "full"):
        with pytest.raises(onnxseal.NoMatchingKeyError):
            onnxseal.open(tiers.protected, vendor.customer, licence=trial, tier=tier)


def test_a_batch_takes_a_licence(vendor, tmp_path):
    given = dict(identity=vendor.customer, licence=vendor.valid)
    report = onnxseal.batch.unprotect(vendor.sealed, tmp_path / "opened", **given)
    assert report["totals"]["done"] == 1
    assert (tmp_path / "opened" / "sealed.onnx").read_bytes() == MODEL.read_bytes()
    assert onnxseal.batch.verify(vendor.sealed, **given)["totals"]["done"] == 1
    (row,) = onnxseal.batch.verify(vendor.sealed, **given | {"licence": vendor.expired})["models"]
    assert row["error"]["class"] == "not_in_force" and "2020-02-29" in row["error"]["message"]


def test_dates_of_a_model_are_kept_unasked(tool, tmp_path):
    identity, sealed = onnxseal.generate_identity(), tmp_path / "sealed.onnx"
    with pytest.raises(onnxseal.UsageError, match="no date"):
        onnxseal.protect(MODEL, sealed, recipients=identity, claims={"not-after": "soon"})
    claims = {"not-after": "2020-01-01", "issuer": "us"}
    onnxseal.protect(MODEL, sealed, recipients=identity, claims=claims)
    for call in (onnxseal.open, onnxseal.InferenceSession):
        with pytest.raises(onnxseal.NotInForceError, match='until 2020-01-01.*: ask "us"'):
            call(sealed, identity=identity)
    verified = onnxseal.verify(sealed, identity=identity)
    assert verified["authenticated"] and verified["not_in_force"] == "not-after"
    onnxseal.rotate(sealed, identity=identity, recipients=identity, claims={"not-after": "2999-01-01"})
    assert "not_in_force" not in onnxseal.verify(sealed, identity=identity)
    onnxseal.InferenceSession(sealed, identity=identity)
