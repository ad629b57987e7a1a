"""The LeNet family on digits and MNIST: a function of its seed, its rows by hand, an exact test, and failures never scores."""

import gzip
import itertools
import math
from collections import Counter
from dataclasses import replace

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tiny
from flax import nnx
from scipy import stats

from mirage_jax import table
from scripts.claims import vision
from scripts.claims.vision import holm
from train import lenet, mnist_cnn
from train.data import Images, digest, digits, load, mnist
from train.digits_cnn import NAME, PRESETS, Config, run
from train.lenet import Trained, p_groups
from train.models import Conv, LeNet, Widths, lenet_widths

pytestmark = pytest.mark.usefixtures("quick_compile")
SHORT = Config(seeds=2, widths=(1 / 42, 1 / 6), steps=60)


def frame(output):
    return table.frame([{"study": NAME, **row} for row in output.rows])


@pytest.fixture(scope="module")
def short(quick_compile):
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


@pytest.mark.parametrize(("k", "edge", "side"), [(3, "SAME", 8), (3, "VALID", 14), (5, "SAME", 28), (5, "VALID", 14)])
def test_the_convolution_is_the_convolution(k, edge, side):
    conv = Conv(3, 5, k, edge, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (side, 3, side + 2, 4))  # column, channel, row, item
    dims = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        x.transpose(3, 2, 0, 1), conv.kernel[...], (1, 1), edge, dimension_numbers=dims
    )
    found = jax.jit(lambda x: conv(x))(x)
    np.testing.assert_allclose(found.transpose(3, 2, 0, 1), expected, atol=1e-5)  # k^2 * 3 products of order 1


def test_parameters_by_hand():
    # 1/4: conv 9*1*2+2 = 20, conv 9*2*4+4 = 76, 2*2*4*30+30 = 510, 30*21+21 = 651, 21*10+10 = 220
    assert lenet_widths(1 / 4) == Widths(2, 4, 30, 21)
    about = lenet.describe(lenet_widths(1 / 4), 8)
    assert (about["model"], about["scale"]) == ("lenet-2-4-30-21", 20 + 76 + 510 + 651 + 220)
    counts = [lenet.describe(lenet_widths(m), 8)["scale"] for m in Config().widths]
    assert counts == [47, 73, 119, 165, 227, 435, 744, 1477, 2393, 5226, 19754]
    # LeNet-5 at 28: conv 25*6+6 = 156, conv 25*6*16+16 = 2416, 5*5*16*120+120 = 48120, 120*84+84 = 10164, 84*10+10 = 850
    assert lenet.describe(lenet_widths(1.0), 28)["scale"] == 156 + 2416 + 48120 + 10164 + 850


def test_initial_weights_have_the_gain():
    kernel = LeNet(Widths(8, 32, 1, 1), 8, rngs=nnx.Rngs(0)).conv2.kernel[...]
    # uniform on +-a has variance a^2/3; its sample variance has standard error var * sqrt(.8 / size)
    variance = 1.4**2 / (3 * 3 * 8)
    assert abs(float(jnp.var(kernel)) - variance) < alarms.sigmas() * variance * math.sqrt(0.8 / kernel.size)


def test_presets_give_different_nets():
    for config in (*PRESETS.values(), *mnist_cnn.PRESETS.values()):
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
    rows = list(lenet.member_rows(trained, right, data.test_labels, "digits", {}))
    assert [row["n"] for row in rows] == [500] * 6 + [0] * 6 + [500] * 6
    curve = lenet.mean_curve(jax.random.key(1), {("net", 1): right[trained.finite].T})
    assert curve["mean"][0] == pytest.approx(right[[0, 2]].mean()) and (curve["seeds"] == 2).all()


def test_no_interval_from_one_seed_or_equal_images():
    alike = {("none", 1): np.zeros((500, 2), bool), ("all", 2): np.ones((500, 2), bool), ("one", 3): np.eye(500, 1) > 0}
    curve = lenet.mean_curve(jax.random.key(0), alike)
    assert curve[["low", "high"]].isna().all(axis=None) and curve["mean"].notna().all()


@pytest.mark.parametrize("c", [0, 1, 4, 5, 500])
@pytest.mark.parametrize("K", [1, 5])
def test_an_interval_holds_its_score(c, K):
    score = lenet.subset_score(np.arange(500) < c, K)
    assert score["low"] <= score["score"] <= score["high"]


def test_a_config_that_asks_for_the_impossible_is_refused():
    for wrong in ({"seeds": 0}, {"widths": ()}, {"widths": (1.0, 1.0)}, {"steps": 0}):
        with pytest.raises(ValueError):
            run(replace(SHORT, **wrong))


@pytest.mark.parametrize(("n", "K"), [(7, 2), (8, 3), (9, 2), (6, 5), (5, 5)])
def test_the_power_law_is_tested_by_counting_every_order(n, K):
    for c in range(n + 1):
        found = Counter()
        for places in itertools.combinations(range(n), c):
            right = np.isin(np.arange(n), places)
            found[int(right[: n // K * K].reshape(-1, K).all(1).sum())] += 1
        whole = math.comb(n, c)
        p = {x: p_groups(n, c, K, x) for x in found}
        for x in found:
            above, below = (sum(count for y, count in found.items() if (y - x) * sign >= 0) for sign in (1, -1))
            assert p[x] == pytest.approx(min(1, 2 * min(above, below) / whole), rel=1e-12)
        for level in p.values():  # it errs no more often than it says
            assert sum(found[x] for x in found if p[x] <= level) <= level * whole * (1 + 1e-12)
        mean = sum(x * count for x, count in found.items()) / whole / (n // K)
        assert mean == pytest.approx(math.comb(c, K) / math.comb(n, K))  # the subset accuracy itself


def test_the_power_law_is_rejected_where_errors_come_together():
    alone = np.arange(500) % 5 > 0  # every fifth image wrong
    together = np.arange(500) >= 100  # the first hundred
    for right in (alone, together):
        assert [group["p_value"] < 1e-3 for group in lenet.disjoint_groups(right)] == [True] * 4
    mixed = np.random.default_rng(3).permutation(together)
    assert [group["p_value"] > alarms.ALPHA for group in lenet.disjoint_groups(mixed)] == [True] * 4
    assert [(group["K"], group["groups"]) for group in lenet.disjoint_groups(mixed)] == [
        (2, 250),
        (3, 166),
        (4, 125),
        (5, 100),
    ]


def test_p_values_are_adjusted_for_all_of_them():
    # by hand: 4 * .01, max with 3 * .02, max with 2 * .025 and with 1 * .5
    np.testing.assert_allclose(holm(np.array([0.5, 0.01, 0.025, 0.02])), [0.5, 0.04, 0.06, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]


def test_claims_say_what_the_groups_and_curves_say():
    claims = {claim.id: claim for claim in vision.CLAIMS}
    assert list(claims) == ["digits_induced", "digits_power", "mnist_induced", "mnist_power"]
    groups = pd.DataFrame(
        {"K": 2, "groups": 100, "right": [70, 64, 64, 64], "accuracy": 0.8, "p_value": [0.0124, 0.3, 0.9, 1]}
    )
    found = claims["mnist_power"].measure(groups)
    assert (found.status, found.value, found.n) == ("mixed", 1, 4)  # 4 * .0124 < .05
    assert found.note.endswith("lie from 0.000 to 0.060. Where rejected 1 are above 0, 0 below.")
    found = claims["mnist_power"].measure(groups.assign(p_value=[0.0126, 0.3, 0.9, 1]))
    assert (found.status, found.value) == ("holds", 0)
    assert claims["mnist_power"].measure(groups.assign(p_value=[0.001, 0.001, 0.001, 1])).status == "fails"
    curve = [(10, 0.21, 0.001), (20, 0.4, 0.04), (30, 0.6, 0.06), (40, 0.9, 0.6)]
    means = pd.DataFrame([(params, K, mean) for params, *ends in curve for K, mean in zip((1, 5), ends, strict=True)])
    means = means.set_axis(["params", "K", "mean"], axis=1).assign(low=0.1, high=0.9, data="drawn")
    found = claims["digits_induced"].measure(means)
    assert (found.status, found.value, found.n) == ("holds", 2, 4) and found.note.endswith("Images: drawn.")
    assert claims["digits_induced"].measure(means[means["params"] > 10]).status == "mixed"
    assert claims["digits_induced"].measure(means[means["params"] > 20]).status == "fails"


def test_mnist_is_standardised_by_its_training_images():
    train = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    images = Images(train, np.arange(3, dtype=np.int32), train[:1] // 2, np.zeros(1, np.int32))
    small = mnist_cnn.squares(images, 14, 2)
    means = train[:2].reshape(2, 14, 2, 14, 2).astype(float).mean((2, 4))
    np.testing.assert_allclose(small.train_images, (means - means.mean()) / means.std(), atol=1e-6)
    test = images.test_images.reshape(1, 14, 2, 14, 2).astype(float).mean((2, 4))
    np.testing.assert_allclose(small.test_images, (test - means.mean()) / means.std(), atol=1e-6)
    whole = mnist_cnn.squares(images, 28, None)
    np.testing.assert_allclose(whole.train_images, (train - train.mean()) / train.std(), atol=1e-6)
    assert small.train_labels.tolist() == [0, 1] and whole.train_labels.tolist() == [0, 1, 2]


def test_mnist_that_is_not_as_asked_for_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    for name in ("MIRAGE_DATA", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mirage_jax.published.cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny.refused(
        capsys, tiny.cli(mnist_cnn, tmp_path / "out"), "mnist", "`python -m train.digits_cnn` needs no download"
    )
    code = tiny.cli(mnist_cnn, tmp_path / "out", "--data", "procedural", "--items", 2001)
    tiny.refused(capsys, code, "--items: expected at most the 2000 training images, got 2001")
    tiny.refused(capsys, tiny.cli(mnist_cnn, tmp_path / "out", "--items", 0), "expected items >= 1, got 0")
    assert not (tmp_path / "out" / "tables").exists()


def test_a_file_of_mnist_that_is_cut_short_is_refused_in_one_line(data_dir, tmp_path, capsys):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for path in (data_dir / "mnist").glob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        (folder / path.stem).write_bytes(content[:-1] if path.stem.startswith("t10k-images") else content)
    flags = ["--data-dir", tmp_path, "--data", "any"]
    tiny.refused(capsys, tiny.cli(mnist_cnn, tmp_path / "out", *flags), "t10k-images-idx3-ubyte", "cut short")
    assert not (tmp_path / "out" / "tables").exists()


@pytest.mark.parametrize("data", ["procedural", "published"])
def test_lenets_learn_mnist(data, request):
    folder = request.getfixturevalue("data_dir") / "mnist" if data == "published" else None
    config = mnist_cnn.Config(seeds=2, widths=(1 / 6,), steps=60, items=2000, data=data)
    assert mnist_cnn.needs(config) == (() if folder is None else ("mnist",))
    output = mnist_cnn.run(config, None, folder)
    df = table.frame([{"study": "mnist_cnn", **row} for row in output.rows])
    task, n = ("mnist", 10_000) if folder else ("mnist_procedural", 500)
    assert set(df["task"]) == {task} and set(df["n"]) == {n} and set(df["family"]) == {f"lenet_{task}"}
    assert (df[df["setting"] == "K=1;split=held_out"]["low"] > 0.2).all()
    named = output.results["curve"]["data"].unique().tolist()
    assert named == ["MNIST, 60000+10000 images (published files); trained on 2,000 at 14x14" if folder else
                     "procedural images in the form of MNIST, 2000+500 images; trained on 2,000 at 14x14"]  # fmt: skip
    whole = load("mnist", folder, data, config.seed)
    assert df["signature"].str.contains(digest(mnist_cnn.squares(whole, 14, 2000))[:8]).all()


def test_mnist_as_it_is_trained_on(data_dir):
    whole = mnist(data_dir / "mnist")
    quick = mnist_cnn.squares(whole, 14, 10_000)
    assert quick.train_images.shape == (10_000, 14, 14) and quick.test_images.shape == (10_000, 14, 14)
    np.testing.assert_allclose([quick.train_images.mean(), quick.train_images.std()], [0, 1], atol=1e-5)
    assert digest(quick)[:8] == "e836f676"  # the order of the file and the standardisation, as first computed
