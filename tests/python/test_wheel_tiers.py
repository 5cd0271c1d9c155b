"""The Python package on models with tiers: each edition by its key, and who gets which."""

from types import MappingProxyType

import numpy as np
import onnx
import onnxseal
import pytest
from catalog import MODELS, files_below
from tiers import POLICY
from wheel import feed, layers, plain, saved, session

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"


class Keys:
    """An identity for each tier, and one for none."""

    def __init__(self):
        self.trial, self.full, self.stranger = (onnxseal.generate_identity() for _ in range(3))
        self.recipients = {"trial": self.trial, "full": self.full.recipient}


@pytest.fixture(scope="module")
def keys():
    return Keys()


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "tiers.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def sealed(tmp_path, policy, keys):
    path = tmp_path / "in" / "sealed.onnx"
    onnxseal.protect(MODEL, path, recipients=keys.recipients, policy=policy)
    return path


def opened(path, identity, tier=None):
    """The tier, whether it is the original, and the bytes."""
    model = onnxseal.open(path, identity, tier=tier)
    return model.tier, model.is_original, bytes(model.model_bytes)


def refused(call, *arguments, **more):
    """The class and the message of an error."""
    with pytest.raises(onnxseal.Error) as caught:
        call(*arguments, **more)
    return type(caught.value), str(caught.value)


def test_each_tier_opens_by_its_key(sealed, keys, tmp_path):
    whole = "full", True, MODEL.read_bytes()
    assert opened(sealed, keys.full) == opened(sealed, keys.full, "full") == opened(sealed, keys.full, "any") == whole
    lower = opened(sealed, keys.trial, "trial")
    assert lower == opened(sealed, keys.trial, "any") == opened(sealed, keys.full, "trial")
    tier, is_original, content = lower
    assert (tier, is_original) == ("trial", False)
    assert content != MODEL.read_bytes() and len(content) == len(MODEL.read_bytes())
    onnx.checker.check_model(onnx.load_from_string(content))
    # Files are the same as memory.
    for identity, tier, expected in [(keys.trial, "trial", content), (keys.full, None, MODEL.read_bytes())]:
        out = tmp_path / f"{tier}.onnx"
        assert onnxseal.unprotect(sealed, out, identity=identity, tier=tier) is None
        assert out.read_bytes() == expected
    # The highest that one of several opens.
    assert opened(sealed, [keys.trial, keys.full]) == whole
    assert "tier trial" in repr(onnxseal.open(sealed, keys.trial, tier="any"))


def test_less_than_the_original_is_refused_unless_it_is_accepted(sealed, keys, tmp_path):
    out = tmp_path / "out.onnx"
    calls = [
        lambda **more: onnxseal.open(sealed, keys.trial, **more),
        lambda **more: onnxseal.unprotect(sealed, out, identity=keys.trial, **more),
        lambda **more: onnxseal.verify(sealed, identity=keys.trial, **more),
        lambda **more: session(sealed, keys.trial, **more),
    ]
    for call in calls:
        for more in ({}, dict(tier=None), dict(tier="full")):
            kind, message = refused(call, **more)
            assert kind is onnxseal.NoMatchingKeyError and "which is not the original" in message
        kind, message = refused(call, tier="gold")
        assert kind is onnxseal.PolicyNotMetError and 'its tiers are "trial", "full"' in message
        assert not out.exists()
        call(tier="trial")
        out.unlink(missing_ok=True)
    for call in (onnxseal.assess, lambda *model, **more: onnxseal.rank(*model, out, method="activation", **more)):
        assert refused(call, sealed, identities=keys.trial)[0] is onnxseal.NoMatchingKeyError
    assert refused(onnxseal.open, sealed, keys.stranger, tier="any")[0] is onnxseal.NoMatchingKeyError


def test_a_tier_without_an_identity_is_a_mistake(sealed, monkeypatch):
    monkeypatch.delenv("ONNXSEAL_IDENTITY", raising=False)
    kind, message = refused(onnxseal.verify, sealed, tier="trial")
    assert kind is onnxseal.UsageError and "only an identity shows which tier it opens" in message
    onnxseal.verify(sealed)


def test_a_model_without_tiers(tmp_path, keys):
    sealed = tmp_path / "sealed.onnx"
    onnxseal.protect(MODEL, sealed, recipients=keys.full)
    assert opened(sealed, keys.full) == opened(sealed, keys.full, "any") == (None, True, MODEL.read_bytes())
    for tier in ("full", ""):
        kind, message = refused(onnxseal.open, sealed, keys.full, tier=tier)
        assert kind is onnxseal.PolicyNotMetError and "it has no tiers" in message


def test_models_that_are_not_protected_have_no_tier(tmp_path, keys):
    path = saved(layers(), tmp_path / "plain.onnx")
    for more in (dict(tier="trial"), dict(tier="trial", allow_plain=True), dict(tier="any")):
        kind, message = refused(session, path, keys.full, **more)
        assert kind is onnxseal.UsageError and "is not protected" in message
    session(path, keys.full, tier="any", allow_plain=True)


@pytest.mark.parametrize("mode", ["bytes", "mask", "shuffle"])
def test_a_session_computes_what_the_file_of_its_tier_computes(mode, tmp_path, policy, keys):
    path, sealed, lower = saved(layers(), tmp_path / "m.onnx"), tmp_path / "sealed.onnx", tmp_path / "lower.onnx"
    policy.write_text(POLICY + f'[mode]\ndefault = "{mode}"\n')
    onnxseal.protect(path, sealed, recipients=keys.recipients, policy=policy)
    onnxseal.unprotect(sealed, lower, identity=keys.trial, tier="trial")
    found = {
        "trial": session(sealed, keys.trial, tier="trial"),
        "any": session(sealed, keys.trial, tier="any"),
        "by a higher key": session(sealed, keys.full, tier="trial"),
        "in one piece": session(sealed, keys.trial, None, tier="trial"),
        "opened before": session(onnxseal.open(sealed, keys.trial, tier="trial"), None),
    }
    expected, original = plain(lower), plain(path)
    given = feed(original)
    wanted, whole = expected.run(None, given)[0], original.run(None, given)[0]
    assert not np.allclose(wanted, whole, rtol=1e-2)
    for how, opened in found.items():
        assert np.allclose(opened.run(None, given)[0], wanted, rtol=1e-4, atol=1e-4), how
    assert np.allclose(session(sealed, keys.full).run(None, given)[0], whole, rtol=1e-4, atol=1e-4)


def test_external_files_are_of_the_tier_too(tmp_path, policy, keys):
    sealed, data = tmp_path / "in" / EXTERNAL.name, f"{EXTERNAL.name}.data"
    onnxseal.protect(EXTERNAL, sealed, recipients=keys.recipients, policy=policy)
    onnxseal.unprotect(sealed, tmp_path / "out" / EXTERNAL.name, identity=keys.trial, tier="trial")
    assert files_below(tmp_path / "out") == [EXTERNAL.name, data]
    content = (tmp_path / "out" / data).read_bytes()
    in_memory = dict(external_files={data: (sealed.parent / data).read_bytes()})
    for model in (
        onnxseal.open(sealed, keys.trial, tier="trial"),
        onnxseal.open(sealed.read_bytes(), keys.trial, tier="trial", **in_memory),
    ):
        assert bytes(model.external_files[data]) == content != (MODELS / data).read_bytes()


def test_rekey_of_one_tier_leaves_the_others(sealed, keys, tmp_path):
    new = onnxseal.generate_identity()
    assert onnxseal.rekey(sealed, recipients={"trial": [new]}, identity=keys.full) == {"still_opens": True}
    assert opened(sealed, new, "any")[0] == "trial" and opened(sealed, keys.full)[0] == "full"
    assert refused(onnxseal.open, sealed, keys.trial, tier="trial")[0] is onnxseal.NoMatchingKeyError
    # Whoever has a tier may pass it on, but no higher one.
    out = tmp_path / "out.onnx"
    onnxseal.rekey(sealed, out, recipients={"trial": [new, keys.trial]}, identity=new)
    assert opened(out, keys.trial, "trial") == opened(sealed, new, "trial")
    kind, message = refused(onnxseal.rekey, sealed, recipients={"full": new}, identity=new)
    assert kind is onnxseal.UsageError and 'recipients of tier "full" need a key of that tier' in message


def test_rotate_by_tiers(sealed, keys):
    new = onnxseal.generate_identity()
    kind, message = refused(onnxseal.rotate, sealed, recipients=keys.recipients, identity=keys.trial)
    assert kind is onnxseal.NoMatchingKeyError and "which is not the original" in message
    report = onnxseal.rotate(sealed, recipients={"trial": new, "full": keys.full}, identity=keys.full)
    assert [row["name"] for row in report["tiers"]] == ["trial", "full"]
    assert opened(sealed, keys.full) == ("full", True, MODEL.read_bytes())
    assert opened(sealed, new, "any")[:2] == ("trial", False)
    assert refused(onnxseal.open, sealed, keys.trial, tier="any")[0] is onnxseal.NoMatchingKeyError


def test_recipients_by_tier(tmp_path, policy, keys):
    file, out = tmp_path / "recipients.txt", tmp_path / "out.onnx"
    file.write_text(f"{keys.trial.recipient}\n")

    def protect(recipients, **more):
        return onnxseal.protect(MODEL, out, recipients=recipients, policy=policy, replace=True, **more)

    # Each value is what recipients are without tiers, and the mapping may be another than a dict.
    for recipients in (
        {"trial": file, "full": [keys.full]},
        {"trial": [keys.trial.recipient, keys.stranger], "full": (keys.full,)},
        MappingProxyType({"full": keys.full, "trial": [file, keys.stranger.recipient]}),
        {"full": keys.full},
    ):
        report = protect(recipients, comment="for you", list_recipients=True)
        assert [row["name"] for row in report["tiers"]] == ["trial", "full"]
        assert opened(out, keys.full)[0] == "full"
        inspected = onnxseal.inspect(out)
        assert inspected["comment"] == "for you" and keys.full.recipient in inspected["public_keys"]
    phrase = onnxseal.Passphrase("open sesame")
    protect({"trial": phrase, "full": keys.full})
    assert opened(out, phrase, "any")[0] == "trial" and opened(out, keys.full)[0] == "full"
    for recipients, said in [
        (keys.full, 'recipients need a tier: its tiers are "trial", "full"'),
        ({"gold": keys.trial, "full": keys.full}, 'there is no tier "gold" for recipients'),
        ({"trial": keys.trial}, 'the highest tier, "full", needs recipients'),
        ({}, "no recipient"),
        ({"trial": [], "full": keys.full}, "no recipient"),
    ]:
        kind, message = refused(protect, recipients)
        assert kind is onnxseal.UsageError and said in message
    kind, message = refused(onnxseal.protect, MODEL, out, recipients=keys.recipients, replace=True)
    assert kind is onnxseal.UsageError and "it has no tiers" in message
    for recipients in ({"trial": 7, "full": keys.full}, {7: keys.full}, {"full": None}):
        with pytest.raises(TypeError):
            protect(recipients)


def test_the_tool_and_the_package_agree(tool, tiers):
    """What one writes the other opens, and each sees the same tiers."""
    identity = tiers.trial.read_text()
    assert opened(tiers.protected, identity, "trial") == ("trial", False, tiers.unprotected.read_bytes())
    assert opened(tiers.protected, tool.identity_file) == ("full", True, MODEL.read_bytes())
    rows = onnxseal.inspect(tiers.protected)["tiers"]
    assert [(row["name"], row["recipients"]) for row in rows] == [("trial", 1), ("full", 1)]
