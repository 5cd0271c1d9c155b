"""The reference of encrypted labels against its vectors and RFC 9496, and the model of fixtures/labels, which it made."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxseal_labels
import pytest
from digits import feed_of, held_out
from make_labels import NAMES, REVOKED, SEED, files
from test_reference_inputs import makes_again

FIXTURES = Path(__file__).parents[2] / "fixtures"
MODEL = FIXTURES / "labels" / "digits_cnn.onnx"

# RFC 9496, A.1: multiples of the generator.
MULTIPLES = """
    0000000000000000000000000000000000000000000000000000000000000000 e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76
    6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919 94741f5d5d52755ece4f23f044ee27d5d1ea1e2bd196b462166b16152a9d0259
    da80862773358b466ffadfe0b3293ab3d9fd53c5ea6c955358f568322daf6a57 e882b131016b52c1d3337080187cf768423efccbb517bb495ab812c4160ff44e
    f64746d3c92b13050ed8d80236a7f0007c3b3f962f5ba793d19a601ebb1df403 44f53520926ec81fbd5a387845beb7df85a96a24ece18738bdcfa6a7822a176d
    903293d8f2287ebe10e2374dc1a53e0bc887e592699f02d077d5263cdd55601c 02622ace8f7303a31cafc63f8fc48fdc16e1c8c8d234b2f0d6685282a9076031
    20706fd788b2720a1ed2a5dad4952b01f413bcf0e7564de8cdc816689e2db95f bce83f8ba5dd2fa572864c24ba1810f9522bc6004afe95877ac73241cafdab42
    e4549ee16b9aa03099ca208c67adafcafa4c3f3e4e5303de6026e3ca8ff84460 aa52e000df2e16f55fb1032fc33bc42742dad6bd5a8fc0be0167436c5948501f
    46376b80f409b29dc2b5f6f0c52591990896e5716f41477cd30085ab7f10301e e0c418f7c8d9c4cdd7395b93ea124f3ad99021bb681dfc3302a9d99a2e53e64e
""".split()
# RFC 9496, A.2: not canonical, negative, no square, negative xy, and s = -1.
INVALID = """
    00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
    f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
    0100000000000000000000000000000000000000000000000000000000000000 01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
    ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20 c34c4e1826e5d403b78e246e88aa051c36ccf0aafebffe137d148a2bf9104562
    c940e5a4404157cfb1628b108db051a8d439e1a421394ec4ebccb9ec92a8ac78 47cfc5497c53dc8e61c91d17fd626ffb1c49e2bca94eed052281b510b1117a24
    f1c6165d33367351b0da8f6e4511010c68174a03b6581212c71c0e1d026c3c72 87260f7a2f12495118360f02c26a470f450dadf34a413d21042b43b9d93e1309
    26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371 4eac077a713c57b4f4397629a4145982c661f48044dd3f96427d40b147d9742f
    de6a7b00deadc788eb6b6c8d20c0ae96c2f2019078fa604fee5b87d6e989ad7b bcab477be20861e01e4a0e295284146a510150d9817763caf1a6f4b422d67042
    2a292df7e32cababbd9de088d1d1abec9fc0440f637ed2fba145094dc14bea08 f4a9e534fc0d216c44b218fa0c42d99635a0127ee2e53c712f70609649fdff22
    8268436f8c4126196cf64b3c7ddbda90746a378625f9813dd9b8457077256731 2810e5cbc2cc4d4eece54f61c6f69758e289aa7ab440b3cbeaa21995c2f4232b
    3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e a45fdc55c76448c049a1ab33f17023edfb2be3581e9c7aade8a6125215e04220
    d483fe813c6ba647ebbfd3ec41adca1c6130c2beeee9d9bf065c8d151c5f396e 8a2e1d30050198c65a54483123960ccc38aef6848e1ec8f5f780e8523769ba32
    32888462f8b486c68ad7dd9610be5192bbeaf3b443951ac1a8118419d9fa097b 227142501b9d4355ccba290404bde41575b037693cef1f438c47f8fbf35d1165
    5c37cc491da847cfeb9281d407efc41e15144c876e0170b499a96a22ed31e01e 445425117cb8c90edcbc7c1cc0e74f747f2c1efa5630a967c64f287792a48a4b
    ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
""".split()


def test_the_script_makes_the_vectors(tmp_path):
    # It checks on the way that the reference takes and refuses what it should.
    assert makes_again("labels", tmp_path)


@pytest.mark.parametrize("n", range(16))
def test_multiples_of_the_generator(n):
    point = onnxseal_labels.multiply(n, onnxseal_labels.BASE)
    assert onnxseal_labels.encode(point).hex() == MULTIPLES[n]
    assert onnxseal_labels.encode(onnxseal_labels.decode(bytes.fromhex(MULTIPLES[n]))).hex() == MULTIPLES[n]
    assert onnxseal_labels.encode(onnxseal_labels.multiply(n + onnxseal_labels.L, onnxseal_labels.BASE)).hex() == MULTIPLES[n]


def test_invalid_encodings():
    assert len(INVALID) == 29
    for encoded in [*INVALID, "", "00" * 31, "00" * 33]:
        with pytest.raises(ValueError, match="canonical|point"):
            onnxseal_labels.decode(bytes.fromhex(encoded))


def test_hkdf():
    # RFC 5869, A.3: without salt.
    made = onnxseal_labels.hkdf(b"\x0b" * 22, b"", 42)
    assert made.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"


def test_the_script_makes_the_model():
    for name, content in files().items():
        kept = (MODEL.parent / name).read_bytes()
        if name == "expected.json":
            made, kept = (np.array(json.loads(text)["scores"]) for text in (content, kept))
            assert np.abs(made - kept).max() <= 1e-5 * np.abs(kept).max()
        else:
            assert content == kept, name


def scores_of(path):
    """What a model answers on all test images."""
    pixels, _ = held_out()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": feed_of("nchw", pixels)})[0]


@pytest.mark.parametrize("key", ["acme.key", "mueller.key"])
def test_keys_read_the_scores_of_the_original(key):
    model, table = onnxseal_labels.load(MODEL)
    onnx.checker.check_model(model)
    rows = onnxseal_labels.open_table(table, onnxseal_labels.read_key((MODEL.parent / key).read_text()))
    answers = scores_of(MODEL)
    assert answers.shape == (200, 80)
    z, wanted = onnxseal_labels.decode_rows(table, rows, answers), scores_of(FIXTURES / "models" / "digits_cnn.onnx")
    assert (z.argmax(1) == wanted.argmax(1)).all()
    assert np.abs(z - wanted).max() <= 1e-5 * np.abs(wanted).max()
    expected = json.loads((MODEL.parent / "expected.json").read_text())
    assert z[:20].argmax(1).tolist() == expected["classes"]
    assert np.abs(z[:20] - expected["scores"]).max() <= 1e-5 * np.abs(expected["scores"]).max()


def test_keys_that_are_refused():
    table = onnxseal_labels.load(MODEL)[1]
    authority = onnxseal_labels.Authority(SEED, 1)
    other = onnxseal_labels.Authority(hashlib.sha256(b"another").digest(), 1)
    secrets = other.secrets(NAMES[0])
    for reason, text in [
        ("other_authority", other.key_text(NAMES[0])),
        ("wrong_key", onnxseal_labels.write_key(NAMES[0], authority.public, secrets)),
        ("revoked", authority.key_text(REVOKED)),
    ]:
        with pytest.raises(onnxseal_labels.Refused) as refused:
            onnxseal_labels.open_table(table, onnxseal_labels.read_key(text))
        assert refused.value.reason == reason


def test_each_changed_byte_of_a_key_is_an_error():
    text = (MODEL.parent / "acme.key").read_text()
    for at in range(len(text)):
        for bit in (1, 32):
            with pytest.raises(onnxseal_labels.Refused):
                onnxseal_labels.read_key(text[:at] + chr(ord(text[at]) ^ bit) + text[at + 1 :])


def test_the_table_belongs_to_its_rows(tmp_path):
    model = onnx.load(MODEL)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [80])
    bias.raw_data = bias.raw_data[:-1] + bytes([bias.raw_data[-1] ^ 1])
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(onnxseal_labels.Refused) as refused:
        onnxseal_labels.load(tmp_path / "changed.onnx")
    assert refused.value.reason == "other_rows"


def test_wrong_keys_without_their_check_read_nothing():
    table = onnxseal_labels.load(MODEL)[1]
    secrets = onnxseal_labels.read_key((MODEL.parent / "acme.key").read_text()).secrets
    answers, (_, labels) = scores_of(MODEL), held_out()
    read = [wrong_rows(table, c, secrets, 200) for c in range(table.rows)]
    accuracies = [
        (onnxseal_labels.decode_rows(table, rows, answers).argmax(1) == labels).mean() for rows in zip(*read, strict=True)
    ]
    assert len(accuracies) == 200
    assert abs(np.mean(accuracies) - 1 / table.classes) <= 0.02


def wrong_rows(table, c, secrets, count):
    """What keys read in a row whose first secret is 1, 2, ... `count` more: S grows by the row's first point each time."""
    points, pad, masked = table.row(c)
    s = onnxseal_labels.decode(onnxseal_labels.shared(secrets, points))
    step = onnxseal_labels.decode(points[:32])
    for _ in range(count):
        s = onnxseal_labels.add(s, step)
        yield onnxseal_labels.unseal(table.digest, c, onnxseal_labels.encode(s), table.classes, pad, masked)
