"""Onset of an ability on counts chosen by hand, gains that turn positive, and the published table as it was printed."""

import math
import re

import jax
import numpy as np
import pytest

from mirage_jax.scaling import training_flops
from mirage_jax.thresholds import onset, sign_change, wei_bigbench, wei_thresholds

X = [1e7, 1e8, 1e9, 1e10, 1e11]
# Clopper-Pearson at 95%, n = 100 (science 11.1): 0 [0, .0362], 1 [.0003, .0545], 5 [.0164, .1128], 50 [.3983, .6017]


def test_onset_and_its_bracket():
    found = onset([0, 1, 0, 50, 50], 100, X)
    assert found == (3, 1e10, 1e9, 1e10, True, "")


def test_onset_takes_scales_in_any_order():
    order = [3, 0, 4, 2, 1]
    k = np.array([0, 1, 0, 50, 50])
    assert onset(k[order], 100, np.array(X)[order]) == onset(k, 100, X)


@pytest.mark.parametrize(("delta", "index"), [(0.02, 3), (0.016, 2)])  # 5 of 100 has the lower limit .0164
def test_delta_is_what_still_counts_as_chance(delta, index):
    assert onset([0, 1, 5, 50, 50], 100, X, delta=delta).where == index


def test_a_later_scale_without_the_ability_is_told():
    assert not onset([0, 0, 50, 1, 50], 100, X).stays


@pytest.mark.parametrize(
    ("k", "chance", "reason"),
    [
        ([0, 1, 0, 1, 5], 0.0, "no scale is above chance"),
        ([0, 50, 50, 50, 50], 0.0, "1 scales below it and 4 from it on; needs 2 and 2"),
        ([0, 0, 0, 0, 50], 0.0, "4 scales below it and 1 from it on"),
        ([20, 5, 20, 50, 50], 0.25, "score at scale 1e\\+08 is below chance"),  # 5 of 100: at most .1128 < .23
    ],
)
def test_not_identifiable(k, chance, reason):
    found = onset(k, 100, X, chance=chance)
    assert found.where == -1 and not found.stays and re.search(reason, found.reason)
    assert all(math.isnan(value) for value in (found.scale, found.low, found.high))


@pytest.mark.parametrize(
    ("k", "x", "options", "message"),
    [
        ([0, 1], [1.0, 1.0], {}, "different finite numbers"),
        ([0, 101], [1.0, 2.0], {}, r"successes must lie in \[0, n\]"),
        ([0, 1], [1.0, 2.0], {"chance": 1.0}, "needs chance in"),
        ([0, 1], [1.0, 2.0], {"delta": -0.1}, "delta >= 0"),
    ],
)
def test_onset_refuses(k, x, options, message):
    with pytest.raises(ValueError, match=message):
        onset(k, 100, x, **options)


def test_gain_of_counts():
    found = sign_change([1, 5, 1, 5, 1], [1, 5, 1, 50, 50], X, n=100)
    np.testing.assert_allclose(found.gain, [0, 0, 0, 0.45, 0.49])
    # Wilson limits .0215, .1118 of 5 and .4038, .5962 of 50 (science 11.1), put together by hand
    assert found.low[3] == pytest.approx(0.45 - math.hypot(0.5 - 0.4038, 0.1118 - 0.05), abs=1e-4)
    assert found.high[3] == pytest.approx(0.45 + math.hypot(0.5962 - 0.5, 0.05 - 0.0215), abs=1e-4)
    assert found.onset == (3, 1e10, 1e9, 1e10, True, "")


def test_a_technique_that_first_harms_turns():
    assert sign_change([50, 50, 5, 5, 5], [5, 5, 50, 50, 50], X, n=100).onset.where == 2


@pytest.mark.parametrize(
    ("augmented", "reason"),
    [
        ([5, 5, 5, 5, 5], "no scale gains"),
        ([5, 5, 50, 5, 50], "gain at scale 1e+09 is not there at scale 1e+10"),
        ([50, 50, 50, 50, 50], "0 scales below it"),
    ],
)
def test_no_single_turn(augmented, reason):
    assert reason in sign_change([5] * 5, augmented, X, n=100).onset.reason


def test_pairing_by_item_sees_what_counts_cannot():
    rng = np.random.default_rng(1)
    base = np.repeat(rng.normal(0, 1, (1, 300)), 4, axis=0)  # hard and easy items, the same at all scales
    gain = np.array([0.0, 0.0, 0.1, 0.1])[:, None] + rng.normal(0, 0.1, (4, 300))
    gain[:2, 5:] -= gain[:2, 5:].mean(1, keepdims=True)
    augmented = base + gain
    base[:, :5] = math.nan  # unanswered: the pair is left out
    found = sign_change(base, augmented, X[:4], key=jax.random.key(0))
    assert found.onset.where == 2
    np.testing.assert_allclose(found.gain, gain[:, 5:].mean(1), atol=1e-12)
    standard_error = gain[2, 5:].std(ddof=1) / math.sqrt(295)
    # a percentile of 2000 resamples is within .25 of its place: 5 times sqrt(.025 .975 / 2000) / normal density there
    assert abs((found.gain[2] - found.low[2]) / standard_error - 1.96) < 0.35


def test_items_that_all_agree_are_not_certainty():
    zeros, ones = np.zeros((4, 50)), np.ones((4, 50))
    found = sign_change(zeros, np.concatenate([zeros[:2], ones[:2]]), X[:4], key=jax.random.key(0))
    limit = 1 - 0.0125 ** (1 / 50)  # exact upper limit of 0 of 50, two limits sharing the 5%
    np.testing.assert_allclose(found.low, [-limit, -limit, 1 - 2 * limit, 1 - 2 * limit])
    np.testing.assert_allclose(found.high, [limit, limit, 1, 1])
    assert found.onset.where == 2
    hard = np.linspace(0, 1, 50) + zeros
    other = sign_change(hard, hard + 0.1, X[:4], key=jax.random.key(0))
    assert np.isnan(other.low).all() and "no interval at scale 1e+07" in other.onset.reason


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ([[0.0, 1.0]], {}, "give n for counts, or a key"),
        ([0, 1], {"n": 2, "key": 0}, "give n for counts, or a key"),
        ([[0.0, 1.0], [1.0, 1.0]], {"key": 0}, r"needs scores of \[1, items\] twice"),
        ([[math.nan, math.nan]], {"key": 0}, "no number from nothing"),
    ],
)
def test_sign_change_refuses(base, options, message):
    if "key" in options:
        options = {**options, "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=message):
        sign_change(base, base, [1.0], **options)


def test_published_thresholds():
    table = wei_thresholds()
    assert list(table.columns) == ["ability", "prompting", "flops", "params", "family", "provenance"]
    assert table.prompting.value_counts().to_dict() == {"augmented": 13, "few-shot": 9}
    assert (table.provenance != "").all() and (table.flops > 0).all() and (table.params > 0).all()
    printed = {(row.family, row.params): row.flops for row in table.itertuples()}
    # 6 N D by hand, with the tokens each family says it saw; the table prints two digits
    for family, params, tokens, flops in (
        ("GPT-3", 175e9, 300e9, 3.15e23),
        ("GPT-3", 13e9, 300e9, 2.34e22),
        ("PaLM", 540e9, 780e9, 2.5272e24),
    ):
        assert training_flops(params, tokens) == pytest.approx(flops, rel=1e-12)
        assert printed[family, params] == pytest.approx(flops, rel=0.02)


def test_published_bigbench_list():
    table = wei_bigbench()
    assert list(table.columns) == ["model", "params", "task", "provenance"]
    counts = {"GPT-3 13B": 2, "GPT-3 175B": 15, "LaMDA 137B": 8, "PaLM 8B": 3, "PaLM 64B": 14, "PaLM 540B": 25}
    assert table.model.value_counts().to_dict() == counts and len(table) == 67
    named = table[table.task != ""]
    assert named.model.value_counts().to_dict() == {**counts, "PaLM 540B": 5}  # the rest is not guessed
    assert named.task.is_unique and table.provenance.str.contains("jasonwei.net").all()
