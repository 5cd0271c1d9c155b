"""Attacks on the rows of layers whose labels the tool encrypted, without key or samples. `fixtures/attack_labels.py` has all of them."""

import attack_labels
import numpy as np
import pytest

# Far above what chance does in three protections, and below what is found in rows that do not hold.
MORE_PURITY = 0.2


@pytest.mark.parametrize(
    ("attack", "kind", "n_classes", "n_features"),
    [
        ("norms", "random", 10, 2048),
        ("spectrum", "random", 3, 2048),
        ("spectrum", "logistic", 3, 512),
        ("null", "random centred", 2, 512),
        ("null", "logistic", 2, 512),
    ],
)
def test_rows_alone_show_no_classes(tool, tmp_path, attack, kind, n_classes, n_features):
    maker, random = attack_labels.Tool(tool.binary, tmp_path), np.random.default_rng(0)
    layers = [attack_labels.layer(kind, "float32", n_classes, n_features, seed) for seed in range(3)]
    protections = [maker.rows(layer, "float32", 8, random) for layer in layers]
    assert all(len(rows.rows) == 8 * n_classes for rows in protections)
    assert attack_labels.purities(protections, attack, random) <= protections[0].chance + MORE_PURITY


def test_one_authority_gives_a_layer_the_same_rows(tool, tmp_path):
    maker, random = attack_labels.Tool(tool.binary, tmp_path), np.random.default_rng(0)
    layer = attack_labels.layer("random", "float32", 2, 512, 0)
    one, again = (maker.rows(layer, "float32", 8, random).rows for _ in range(2))
    assert np.array_equal(*(rows[np.lexsort(rows.T)] for rows in (one, again)))
    maker.new_authority()
    other = maker.rows(layer, "float32", 8, random).rows
    assert not any((other == row).all(1).any() for row in one)
