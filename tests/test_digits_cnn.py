"""The LeNet family on digits: a pure function of its seed, its rows by hand, and its failures never scores."""

import math
from dataclasses import replace

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx
from scipy import stats

from mirage_jax import table
from train import digits_cnn
from train.data import digest, digits
from train.digits_cnn import NAME, PRESETS, Config, Trained, run
from train.models import Conv, Widths, lenet_widths

SHORT = Config(seeds=2, widths=(1 / 42, 1 / 6), steps=60)


def frame(output):
    return table.frame([{"study": NAME, **row} for row in output.rows])


@pytest.fixture(scope="module")
def short():
    return run(SHORT)


def test_digits_are_split_once_and_standardised():
    data = digits()
    assert data.train_images.shape == (1297, 8, 8) and data.test_images.shape == (500, 8, 8)
    np.testing.assert_allclose([data.train_images.mean(), data.train_images.std()], [0, 1], atol=1e-5)
    assert digest(data) == digest(digits())
    assert digest(data)[:8] == "2f39ef5b"  # the permutation and the standardisation, as first computed
    changed = data._replace(test_labels=data.test_labels[::-1])
    assert digest(changed) != digest(data)


def test_train_and_test_images_share_no_item():
    from sklearn.datasets import load_digits

    data, images = digits(), load_digits().images
    both = np.concatenate([data.train_images, data.test_images]).reshape(1797, -1)
    # every image of the source stands once in the two parts together; none of the 1,797 is repeated in the source
    whole = np.unique(images.reshape(1797, -1), axis=0)
    assert len(whole) == len(np.unique(both, axis=0)) == 1797


def test_convolution_by_slices_is_the_convolution():
    conv = Conv(3, 5, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (4, 8, 6, 3))
    kernel = conv.linear.kernel[...].reshape(3, 3, 3, 5)  # (row, column, in, out)
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    for form in (conv, jax.jit(lambda x: conv(x))):
        np.testing.assert_allclose(form(x), expected, atol=1e-5)


def test_parameters_by_hand():
    # 1/4: conv 9*1*2+2 = 20, conv 9*2*4+4 = 76, 2*2*4*30+30 = 510, 30*21+21 = 651, 21*10+10 = 220
    assert lenet_widths(1 / 4) == Widths(2, 4, 30, 21)
    about = digits_cnn.describe(lenet_widths(1 / 4))
    assert (about["model"], about["scale"]) == ("lenet-2-4-30-21", 20 + 76 + 510 + 651 + 220)
    counts = [digits_cnn.describe(lenet_widths(m))["scale"] for m in Config().widths]
    assert counts == [47, 73, 119, 165, 227, 435, 744, 1477, 2393, 5226, 19754]


def test_initial_weights_have_the_gain():
    kernel = Conv(8, 32, rngs=nnx.Rngs(0)).linear.kernel[...]
    # uniform on +-a has variance a^2/3; its sample variance has standard error var * sqrt(.8 / size)
    variance = 1.4**2 / (3 * 3 * 8)
    assert abs(float(jnp.var(kernel)) - variance) < alarms.sigmas() * variance * math.sqrt(0.8 / kernel.size)


def test_presets_give_different_nets():
    for config in PRESETS.values():
        nets = [lenet_widths(m) for m in config.widths]
        assert len(set(nets)) == len(nets)
    assert len(PRESETS["full"].widths) > len(PRESETS["quick"].widths) == 11


def test_the_same_seed_gives_the_same_rows(short):
    again = run(SHORT)
    assert again.rows == short.rows
    for name, result in short.results.items():
        pd.testing.assert_frame_equal(again.results[name], result, check_exact=True)


def test_a_third_seed_leaves_the_first_two_as_they_were(short):
    more = run(replace(SHORT, seeds=3, widths=(1 / 42,)))
    counts, before = more.results["correct"], short.results["correct"]
    pd.testing.assert_frame_equal(counts[counts["seed"] < 2], before[before["model"] == "lenet-1-1-3-2"])
    # the signature holds the hash of the whole config, seeds included
    rows, old = (frame(output).drop(columns="signature") for output in (more, short))
    rows, old = rows[rows["seed"] < 2], old[old["model"] == "lenet-1-1-3-2"]
    exact, old_exact = (df[df["metric"] == "subset_accuracy"].reset_index(drop=True) for df in (rows, old))
    pd.testing.assert_frame_equal(exact, old_exact, check_exact=True)
    # on CPUs a wider vmap sums matrix products in another order: log-probabilities differ by up to d = 2e-6 here (seen,
    # 60 steps), and a Brier score by at most 2 d sum_c |p_c - y_c| p_c <= 4 d
    brier, old_brier = (df[df["metric"] == "brier_sum"]["score"].to_numpy() for df in (rows, old))
    np.testing.assert_allclose(brier, old_brier, atol=4 * 2e-6, rtol=0)


def test_rows_are_the_unbiased_subset_accuracy_with_exact_ends(short):
    df = frame(short)
    correct = short.results["correct"].set_index(["model", "seed"])["correct"]
    assert len(df) == 2 * 2 * 6
    for row in df[df["metric"] == "subset_accuracy"].itertuples():
        K, c = int(row.setting[2]), int(correct[row.model, row.seed])
        assert row.setting == f"K={K};split=held_out" and row.n == 500
        assert row.score == pytest.approx(math.comb(c, K) / math.comb(500, K), rel=1e-6)
        low, high = stats.binomtest(c, 500).proportion_ci(0.95, "exact")
        assert (row.low, row.high) == pytest.approx((low**K, high**K), rel=1e-6)
        assert row.chance == pytest.approx(0.1**K)
        assert math.isnan(row.se) == (K > 1)
    brier = df[df["metric"] == "brier_sum"]
    assert (brier["chance"] == 0.9).all() and (brier["setting"] == "split=held_out").all()


def test_the_curve_is_the_mean_over_seeds(short):
    curve, correct = short.results["curve"], short.results["correct"]
    for point in curve.itertuples():
        counts = correct[correct["model"] == point.model]["correct"]
        mean = np.mean([math.comb(c, point.K) / math.comb(500, point.K) for c in counts])
        assert point.mean == pytest.approx(mean, rel=1e-5)
        assert point.low < point.mean < point.high
        assert (point.items, point.seeds) == (500, 2)


def test_short_training_beats_chance(short):
    df = frame(short)
    wide = df[df["model"] == "lenet-1-3-20-14"]
    assert (wide[wide["setting"] == "K=1;split=held_out"]["low"] > 0.1).all()
    assert (wide[wide["metric"] == "brier_sum"]["high"] < 0.9).all()


def test_a_diverged_run_has_no_score():
    output = run(replace(SHORT, widths=(1 / 42,), learning_rate=1e38))
    df = frame(output)
    assert len(df) == 2 * 6
    assert (df["n"] == 0).all() and df[["score", "low", "high", "se"]].isna().all(axis=None)
    assert output.results["correct"]["correct"].isna().all() and (output.results["correct"]["n"] == 0).all()
    assert output.results["curve"][["mean", "low", "high"]].isna().all(axis=None)


def test_one_diverged_member_is_left_out_of_the_mean():
    data = digits()
    log_prob = np.array(jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (3, 500, 10))))
    log_prob[1] = np.nan
    trained = Trained(log_prob, np.array([True, False, True]))
    right = log_prob.argmax(-1) == data.test_labels
    rows = list(digits_cnn.member_rows(trained, right, data, {}))
    assert [row["n"] for row in rows] == [500] * 6 + [0] * 6 + [500] * 6
    curve = digits_cnn.mean_curve(jax.random.key(1), {("net", 1): right[trained.finite].T})
    assert curve["mean"][0] == pytest.approx(right[[0, 2]].mean()) and (curve["seeds"] == 2).all()


def test_no_interval_from_one_seed_or_equal_images():
    alike = {("none", 1): np.zeros((500, 2), bool), ("all", 2): np.ones((500, 2), bool), ("one", 3): np.eye(500, 1) > 0}
    curve = digits_cnn.mean_curve(jax.random.key(0), alike)
    assert curve[["low", "high"]].isna().all(axis=None) and curve["mean"].notna().all()


@pytest.mark.parametrize("c", [0, 1, 4, 5, 500])
@pytest.mark.parametrize("K", [1, 5])
def test_an_interval_holds_its_score(c, K):
    score = digits_cnn.subset_score(np.arange(500) < c, K)
    assert score["low"] <= score["score"] <= score["high"]


def test_a_config_that_asks_for_the_impossible_is_refused():
    for wrong in ({"seeds": 0}, {"widths": ()}, {"widths": (1.0, 1.0)}, {"steps": 0}):
        with pytest.raises(ValueError):
            run(replace(SHORT, **wrong))
