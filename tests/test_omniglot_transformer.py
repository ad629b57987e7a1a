"""Transformers on sequences of Omniglot images: what is drawn, what is read, and what sequences that share images say."""

import itertools
import math
from dataclasses import replace
from typing import Any

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx
from scipy import stats

from mirage_jax import errors, published, study, table
from mirage_jax.errors import InputError
from mirage_jax.estimators import clopper_pearson
from mirage_jax.plotting import points
from scripts.claims import omniglot as claims
from scripts.claims.record import record
from scripts.figures import omniglot_transformer as figure
from train import fit, omniglot_images, omniglot_scores, omniglot_transformer
from train.data import Drawings, load
from train.models import Size
from train.omniglot_net import Draw, Embedder, Halving, Network, different
from train.omniglot_transformer import PRESETS, Asked, Config, Questions, run

pytestmark = pytest.mark.usefixtures("quick_compile")
SHORT = Config(seeds=2, sizes=("1x8",), classes=6, variants=1, steps=100, batch=8, sequences=200, data="procedural")


@pytest.fixture(scope="module")
def short():
    return run(SHORT)


def frame(output):
    return table.frame([{"study": omniglot_transformer.NAME, **row} for row in output.rows])


# what is drawn


def test_ranks_and_ordered_choices_are_one_to_one():
    ranks = np.array(list(itertools.product(range(5), range(4), range(3))))
    found = {tuple(row) for row in np.asarray(jax.vmap(different)(jnp.asarray(ranks))).tolist()}
    assert found == set(itertools.permutations(range(5), 3))


@pytest.mark.parametrize("unique", [True, False])
def test_picks_are_uniform_over_ordered_choices(unique):
    n = 24_000
    picks = Draw(4, 3, 3, n, unique)(jax.random.key(0))
    cells = list(itertools.permutations(range(4), 3) if unique else itertools.product(range(4), repeat=3))
    classes = np.asarray(picks.classes) @ [16, 4, 1]
    counts = np.bincount(classes, minlength=64)
    assert alarms.histogram(counts, np.isin(np.arange(64), np.array(cells) @ [16, 4, 1]) / len(cells))
    assert alarms.histogram(np.bincount(np.asarray(picks.drawings) @ [9, 3, 1], minlength=27), np.full(27, 1 / 27))
    repeats = np.mean([len(set(row)) < 3 for row in np.asarray(picks.classes).tolist()])
    assert (repeats == 0) == unique


# images


def test_shrinking_by_hand():
    assert (omniglot_images.shrunk(np.ones((1, 105, 105), bool)) == 1).all()
    one = np.zeros((1, 105, 105), bool)
    # an area has 15/4 pixels a side: pixel 3 lies 3/4 in the first area and 1/4 in the second
    one[0, 3, 0] = True
    small = omniglot_images.shrunk(one)[0]
    np.testing.assert_allclose(small[:2, 0], [0.75 / 3.75**2, 0.25 / 3.75**2], rtol=1e-15)
    assert np.count_nonzero(small) == 2


def moved(image, angle=0.0, scale=1.0, shift=(0.0, 0.0)):
    return omniglot_images.affine(image[None], np.array([angle]), np.array([scale]), np.array([shift]))[0]


def test_variants_by_hand():
    image = np.random.default_rng(0).random((6, 6))
    assert (moved(image) == image).all()
    # a quarter turn takes (row, column) from the centre to (column, -row): clockwise as shown
    np.testing.assert_allclose(moved(image, math.pi / 2), np.rot90(image, -1), atol=1e-14)
    down = moved(image, shift=(1.0, 0.0))
    assert (down[1:] == image[:-1]).all() and (down[0] == 0).all()
    left = moved(image, shift=(0.0, -0.5))
    np.testing.assert_allclose(left[:, :-1], (image[:, 1:] + image[:, :-1]) / 2, atol=1e-15)
    np.testing.assert_allclose(left[:, -1], image[:, -1] / 2, atol=1e-15)
    # half the size: each of the middle 2 x 2 pixels reads between four, and what lies outside the image is empty
    half = moved(image, scale=0.5)
    np.testing.assert_allclose(half[2, 2], image[1:3, 1:3].mean(), atol=1e-14)
    assert (half[[0, 5]] == 0).all()
    assert (moved(image, shift=(9.0, 0.0)) == 0).all()


def test_variants_stay_in_their_ranges():
    dot = np.zeros((2000, 28, 28))
    dot[:, 13:15, 13:15] = 0.25  # a dot at the centre shows the shift alone
    rng = np.random.default_rng(0)
    found = omniglot_images.varied(rng, dot)
    place = np.arange(28) - 13.5
    centre = np.stack([(found.sum(axis) @ place) / found.sum((1, 2)) for axis in (2, 1)])
    assert abs(centre).max() <= omniglot_images.SHIFT + 0.25  # bilinear reading of a dot of two pixels
    assert (np.ptp(centre, axis=1) > 3.5).all()


def drawn(classes=7, of=20):
    """Drawings whose number is written in their ink: drawing i of class c has c rows and i columns of it."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), of)
    drawers = np.tile(np.arange(of, dtype=np.int32), classes)
    row, column = np.mgrid[:105, :105]
    images = (row <= labels[:, None, None]) & (column <= 5 * drawers[:, None, None])
    names = np.array([f"a/character{c:02d}" for c in range(classes)])
    return Drawings(images, labels, drawers, names, np.ones(classes, bool))


def test_sheets_hold_out_five_drawings_of_each_character():
    found = omniglot_images.sheets(drawn(), 6, 5, 2, np.random.default_rng(0))
    assert found.train.shape == (6, 45, 28, 28) and found.test.shape == (6, 5, 28, 28)
    assert len(set(found.classes)) == 6
    for name, train, test in zip(found.classes, found.train, found.test, strict=True):
        whole = np.concatenate([train[:15], test]).reshape(20, -1)
        assert len(np.unique(whole, axis=0)) == 20, name
    np.testing.assert_allclose([found.train[:, :15].mean(), found.train[:, :15].std()], [0, 1], atol=1e-5)
    again = omniglot_images.sheets(drawn(), 6, 5, 2, np.random.default_rng(0))
    assert (again.train == found.train).all() and again.classes == found.classes
    assert len(omniglot_images.sheets(drawn(), None, 5, 0, np.random.default_rng(0)).classes) == 7


@pytest.mark.parametrize(("drawings", "classes"), [(drawn(), 8), (drawn(4), None), (drawn(of=19), 5)])
def test_too_few_characters_are_refused(drawings, classes):
    with pytest.raises(InputError, match=r"expected at least \d characters of 20 drawings .* got \d"):
        omniglot_images.sheets(drawings, classes, 5, 0, np.random.default_rng(0))


def test_the_published_files_hold_242_characters(data_dir):
    drawings: Any = load("omniglot", data_dir / "omniglot")
    found = omniglot_images.sheets(drawings, None, 5, 0, np.random.default_rng(0))
    assert found.train.shape[:2] == (242, 15) and found.test.shape[:2] == (242, 5)


# the network


def test_parameters_are_those_of_the_trials():
    sizes = [Size.read(text) for text in Config().sizes]
    assert [fit.size(Network(size, 5, 50)) for size in sizes] == [446, 755, 1092, 2035, 3210, 6404, 10674]


@pytest.mark.parametrize(("h", "w"), [(28, 28), (7, 4)])
def test_a_halving_is_the_convolution_at_every_second_pixel(h, w, monkeypatch):
    layer = Halving(2, 3, rngs=nnx.Rngs(0))
    kernel = np.asarray(layer.kernel[...])
    layer.bias[...] = jnp.array([1.0, 2.0, 3.0])
    x = np.random.default_rng(1).random((4, h, w, 2), np.float32)
    framed = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    expected = np.zeros((4, -(-h // 2), -(-w // 2), 3)) + [1, 2, 3]
    for i, j in np.ndindex(3, 3):
        expected += framed[:, i : i + h : 2, j : j + w : 2] @ kernel[i, j]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)


def test_an_embedding_by_hand():
    embedder = nnx.eval_shape(lambda: Embedder(4, rngs=nnx.Rngs(0)))
    assert [layer.kernel.shape[2:] for layer in embedder.convolutions] == [(1, 1), (1, 2), (2, 4)]
    for layer in embedder.convolutions:  # the pixel itself, from the first channel to every channel
        kernel = np.zeros(layer.kernel.shape, np.float32)
        kernel[1, 1, 0] = 1
        layer.kernel, layer.bias = nnx.Param(jnp.asarray(kernel)), nnx.Param(jnp.zeros(layer.bias.shape))
    weights = np.zeros((4, 4, 4, 4), np.float32)
    weights[1, 2, 3, 0] = 2  # row, column, channel, output
    embedder.dense.kernel, embedder.dense.bias = nnx.Param(jnp.asarray(weights.reshape(64, 4))), nnx.Param(jnp.zeros(4))
    image = np.zeros((28, 28), np.float32)
    image[8, 16] = 3  # (1, 2) times 2 x 2 x 2
    value = jax.nn.gelu(jax.nn.gelu(jax.nn.gelu(3.0)))
    np.testing.assert_allclose(embedder(jnp.asarray(image)), [2 * float(value), 0, 0, 0], rtol=1e-6)


def test_no_image_or_label_changes_what_was_said_before_it():
    network = Network(Size(1, 8), 5, 6)
    params = jax.tree.map(lambda x: x[0], fit.initial(network, fit.members(jax.random.key(1), 1)))
    said = jax.jit(lambda images, labels: nnx.merge(fit.graph(network), params)(images, labels))
    images = np.random.default_rng(0).standard_normal((3, 5, 28, 28)).astype(np.float32)
    labels = np.array([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1], [2, 2, 2, 2, 2]], np.int32)
    before = np.asarray(said(images, labels))
    assert before.shape == (3, 5, 6)
    for place in range(5):
        here = np.arange(5) == place
        image = np.asarray(said(images + here[:, None, None].astype(np.float32), labels))
        label = np.asarray(said(images, (labels + here) % 6))
        # the same program on the same numbers: the same bits where nothing may change
        assert (image[:, :place] == before[:, :place]).all()
        assert (label[:, : place + 1] == before[:, : place + 1]).all()
        assert (image[:, place:] != before[:, place:]).any((0, 2)).all()
        assert (label[:, place + 1 :] != before[:, place + 1 :]).any((0, 2)).all()


# scores


def questions(classes, drawings):
    images = classes * 5 + drawings
    return Questions(classes, [omniglot_scores.shared(images[:, :length]) for length in range(1, 6)])


def planted():
    """Two networks on three sequences: one right but for the second image of the first sequence, the other diverged."""
    classes = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [5, 0, 1, 2, 3]])
    predicted = np.stack([classes, classes])
    predicted[0, 0, 1] = 5
    log_prob = np.log(np.full((2, 3, 5), 0.5, np.float32))
    return Asked(predicted, log_prob, np.array([True, False])), questions(classes, np.zeros((3, 5), int))


def test_scores_by_hand_from_planted_predictions():
    asked, tests = planted()
    values = omniglot_transformer.scores(asked, tests)
    np.testing.assert_array_equal(values["exact_match"][:, 0], [[1, 1, 1], *[[0, 1, 1]] * 4])
    expected = [[1, 1, 1], *([(length - 1) / length, 1, 1] for length in range(2, 6))]
    np.testing.assert_allclose(values["token_accuracy"][:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(values["nll"][:, 0], np.outer(range(1, 6), [math.log(2)] * 3), rtol=1e-6)
    rows = list(omniglot_transformer.member_rows(values, asked.finite, tests, 6, {}))
    assert len(rows) == 2 * 3 * 5
    assert [row["n"] for row in rows] == [3] * 15 + [0] * 15 and all("score" not in row for row in rows[15:])
    found = {(row["metric"], row["length"]): row for row in rows[:15]}
    assert found["exact_match", 3]["score"] == pytest.approx(2 / 3)
    assert found["exact_match", 3]["chance"] == pytest.approx(6**-3)
    assert found["token_accuracy", 3]["score"] == pytest.approx(8 / 9)
    assert found["nll", 3]["chance"] == pytest.approx(3 * math.log(6))
    # all the same: no spread was seen
    assert found["nll", 3]["low"] is None and found["nll", 3]["se"] is None
    # all right: one image of each of three sequences, on three drawings
    assert found["exact_match", 1]["low"] == pytest.approx(clopper_pearson(3, 3).low.item())
    (mean, *_) = omniglot_transformer.mean_points(values, tests)
    assert (mean["mean"], mean["seeds"], mean["low"]) == (
        1,
        1,
        None,
    )  # one network says nothing of the spread over seeds


def test_nothing_is_scored_where_every_network_diverged():
    asked, tests = planted()
    none = asked._replace(finite=np.zeros(2, bool))
    values = omniglot_transformer.scores(none, tests)
    rows = list(omniglot_transformer.member_rows(values, none.finite, tests, 6, {}))
    assert [row["n"] for row in rows] == [0] * 30
    assert all(
        point["mean"] is None and point["seeds"] == 0 for point in omniglot_transformer.mean_points(values, tests)
    )
    assert not list(omniglot_transformer.independence(none, tests, unique=True))


def test_a_variance_over_drawings_by_hand():
    values = np.array([1.0, 0, 1, 1, 0])
    apart = omniglot_scores.shared(np.arange(10).reshape(5, 2))
    assert (apart.drawings, apart.apart) == (10, 5)
    # no drawing twice: that of independent sequences, with the factor of the number of drawings, or the unbiased one if larger
    assert omniglot_scores.variance(values, apart) == pytest.approx(values.var(ddof=1) / 5)
    # L = 1: sequences 0, 1 share a drawing, so do 2, 3; e = .4, -.6, .4, .4, -.6 and sums by drawing -.2, .8, -.6
    alike = omniglot_scores.shared(np.array([[7], [7], [8], [8], [9]]))
    assert (alike.drawings, alike.apart) == (3, 3)
    assert omniglot_scores.variance(values, alike) == pytest.approx((0.04 + 0.64 + 0.36) / 25 * 3 / 2)
    # pairs that share one count once, also where they share both; here 0-1, 1-2, 3-4
    chain = omniglot_scores.shared(np.array([[0, 1], [1, 2], [2, 3], [4, 5], [5, 4]]))
    e = values - 0.6
    pairs = (e**2).sum() + 2 * (e[0] * e[1] + e[1] * e[2] + e[3] * e[4])
    floor = values.var(ddof=1) / 5
    assert omniglot_scores.variance(values, chain) == pytest.approx(max(pairs / 25 * 6 / 5, floor))
    assert chain.apart == 3
    assert (omniglot_scores.variance(np.full((2, 5), 0.1), chain) == 0).all()


def test_intervals_of_shares_have_an_effective_n():
    # as a binomial: the variance of 7 of 10 is that of 10 answers
    low, high = omniglot_scores.proportion(0.7, 0.021, math.inf, 3)
    np.testing.assert_allclose((low, high), clopper_pearson(7, 10))
    # four times the variance: a quarter of the answers
    np.testing.assert_allclose(omniglot_scores.proportion(0.7, 0.084, math.inf, 3), clopper_pearson(1.75, 2.5))
    few = omniglot_scores.proportion(0.7, 0.021, 4, 3)
    assert few.low < low and few.high > high
    assert omniglot_scores.proportion(0.0, 0.0, math.inf, 3).high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_seeds_add_to_the_variance():
    shared = omniglot_scores.shared(np.arange(4)[:, None])
    values = np.array([[1.0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    both, df = omniglot_scores.over_seeds(values, shared)
    images, seeds = values.mean(0).var(ddof=1) / 4, np.array([0.5, 0.75, 0.25]).var(ddof=1) / 3
    assert both == pytest.approx(images + seeds)
    assert df == pytest.approx((images + seeds) ** 2 / (images**2 / 3 + seeds**2 / 2))
    assert omniglot_scores.over_seeds(np.ones((2, 4)), shared)[0] == 0


def test_an_interval_over_drawings_covers(count):
    """Each drawing is right or wrong for good, and the truth is that of all drawings there could be, p to the L."""
    n, p, length, drawings = count(3000), 0.8, 3, 100
    rng = np.random.default_rng(0)
    covered = naive = 0
    order = np.array([rng.permutation(drawings)[:length] for _ in range(300)])
    shared = omniglot_scores.shared(order)
    right = (rng.random((n, drawings)) < p)[:, order].all(-1).astype(float)
    for of, spread in zip(right, omniglot_scores.variance(right, shared), strict=True):
        low, high = omniglot_scores.proportion(of.mean(), float(spread), shared.df, shared.apart)
        covered += low <= p**length <= high
        low, high = clopper_pearson(of.sum(), of.size)
        naive += low <= p**length <= high
    assert alarms.counts(covered, n, 0.92, 0.98)
    assert naive < 0.75 * n  # as if the sequences were independent


def test_an_independence_ratio_by_hand():
    # place 1 right in 12 of 20, place 2 in 10, both in 9: (9/20) / (12/20 10/20) = 1.5
    right = np.zeros((1, 20, 2), bool)
    right[0, :12, 0] = True
    right[0, 3:13, 1] = True
    apart = omniglot_scores.shared(np.arange(40).reshape(20, 2))
    ratio, low, high = omniglot_scores.independence(right, apart)
    assert ratio == pytest.approx(1.5)
    # delta method: what each sequence adds to log(ratio) is w / .45 - x1 / .6 - x2 / .5
    x1, x2 = right[0].T.astype(float)
    half = stats.t.isf(0.025, 39) * math.sqrt((x1 * x2 / 0.45 - x1 / 0.6 - x2 / 0.5).var(ddof=1) / 20)
    assert (low, high) == pytest.approx((1.5 * math.exp(-half), 1.5 * math.exp(half)))
    # of two networks: the sum of joint shares over the sum of products
    other = np.roll(right, 5, axis=1)
    other[0, :5] = True
    both = np.concatenate([right, other])
    joint = [of.all(-1).mean() for of in both]
    product = [of.mean(0).prod() for of in both]
    assert omniglot_scores.independence(both, apart)[0] == pytest.approx(sum(joint) / sum(product))


def test_few_whole_sequences_give_no_ratio():
    apart = omniglot_scores.shared(np.arange(40).reshape(20, 2))
    for whole, known in ((4, False), (5, True), (15, True), (16, False)):
        right = np.zeros((1, 20, 2), bool)
        right[0, :whole] = True
        right[0, whole:, 0] = np.arange(20 - whole) % 2
        found = omniglot_scores.independence(right, apart)
        assert np.isfinite(found).all() == known and np.isnan(found).all() != known


def test_what_different_classes_imply_by_hand():
    # two of three classes always right: both of two different ones in 1 of 3, against (2/3)^2
    classes = np.array([[0, 1], [1, 2], [2, 0]])
    right = (classes != 2)[None]
    assert omniglot_scores.without_return(right, classes, 2) == pytest.approx((1 / 3) / (4 / 9))
    assert omniglot_scores.without_return(np.ones_like(right), classes, 2) == 1
    # against all choices of 3 of 5
    classes = np.arange(5)[None].repeat(4, 0)
    right = np.random.default_rng(0).random((1, 4, 5)) < 0.6
    a = right[0].mean(0)
    expected = np.mean([np.prod(a[list(chosen)]) for chosen in itertools.combinations(range(5), 3)]) / a.mean() ** 3
    assert omniglot_scores.without_return(right, classes, 3) == pytest.approx(expected)


# the study


def test_short_training_beats_chance(short):
    df = frame(short)
    image = df[(df["metric"] == "token_accuracy") & (df["length"] == 5)]
    assert (image["low"] > 1 / 6).all() and (image["n"] == 200).all()
    assert len(df) == 2 * 3 * 5
    assert (df[["low", "high"]].notna().all(axis=1) & (df["low"] <= df["score"]) & (df["score"] <= df["high"])).all()
    assert set(df["task"]) == {"omniglot_procedural"} and set(df["setting"]) == {"classes=6;split=held_out;unique=True"}
    whole = df[df["metric"] == "exact_match"].pivot(index="seed", columns="length", values="score")
    assert (np.diff(whole, axis=1) <= 0).all()
    assert "procedural" in short.results["curve"]["data"][0]
    ratios = short.results["independence"]
    assert len(ratios) == 3 * 4 and ratios["seed"].isna().sum() == 4


def test_the_same_seed_gives_the_same_rows(short):
    again = run(SHORT)
    assert again.rows == short.rows
    for name, result in short.results.items():
        pd.testing.assert_frame_equal(again.results[name], result, check_exact=True)


def test_the_figure_and_the_claims_are_made_of_the_tables(short):
    tables = {omniglot_transformer.NAME: frame(short)}
    tables |= {f"{omniglot_transformer.NAME}_{name}": result for name, result in short.results.items()}
    shown = points(figure.draw(*(tables[name] for name in figure.TABLES)))
    assert sum(row[1] == "one seed" for row in shown) == 2
    found = {claim.id: record(claim, tables) for claim in claims.CLAIMS if claim.id != "omniglot_no_jump"}
    df = tables[omniglot_transformer.NAME]
    five = df[df["length"] == 5].pivot(index="seed", columns="metric", values="score")
    assert found["omniglot_power"]["value"] == pytest.approx(
        abs(five["exact_match"] - five["token_accuracy"] ** 5).max()
    )
    assert found["omniglot"]["value"] == 0 and found["omniglot"]["status"] == "fails"  # no size is at ten times chance


def test_claims_by_hand():
    sizes, image, whole = [100, 200, 400, 800, 1600], [0.02, 0.25, 0.5, 0.8, 0.9], [0.0, 0.0, 0.04, 0.3, 0.6]
    means = pd.concat(
        pd.DataFrame({"params": sizes, "metric": metric, "length": 5, "mean": scores})
        for metric, scores in (("token_accuracy", image), ("exact_match", whole))
    )
    scores = pd.DataFrame({"metric": ["token_accuracy"], "chance": [0.02]})
    induced = claims._induced(means, scores)
    assert (induced.status, induced.value) == ("holds", 2)
    # whole: a tenth, .06, at 400 * 2^(.02/.26); nine tenths, .54, at 800 * 2^(.24/.3)
    jump = claims._jump(means)
    assert jump.status == "holds" and jump.value == pytest.approx(2 * 2 ** (0.8 - 0.02 / 0.26))
    ratios = pd.DataFrame({"seed": [None, None, None, 0], "ratio": [1.1, 0.9, np.nan, 3.0], "implied": 0.99})
    ratios = ratios.assign(low=[0.9, 0.8, np.nan, 2.0], high=[1.2, 0.95, np.nan, 4.0])
    independent = claims._independent(ratios)
    assert (independent.status, independent.value, independent.n) == ("mixed", 0.5, 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 0}, "seeds >= 1"),
        ({"sizes": ()}, "different sizes"),
        ({"sizes": ("1x8", "1x8")}, "different sizes"),
        ({"sizes": ("8",)}, "LAYERSxWIDTH"),
        ({"sizes": ("0x8",)}, "LAYERSxWIDTH"),
        ({"classes": 4}, "at least 5 classes"),
        ({"batch": 0}, "batch >= 1"),
        ({"variants": -1}, "variants >= 0"),
        ({"sequences": 1}, "sequences >= 2"),
        ({"steps": 0}, "steps >= 1"),
        ({"learning_rate": math.nan}, "learning rate"),
    ],
)
def test_a_config_that_asks_for_the_impossible_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(SHORT, **wrong)


def test_presets_differ_in_scale_and_not_in_kind():
    quick, full = PRESETS["quick"], PRESETS["full"]
    assert omniglot_transformer.needs(quick) == ("omniglot",) and omniglot_transformer.needs(SHORT) == ()
    assert quick.unique and full.unique and quick.data == full.data == "published"
    assert {Size.read(text).layers for text in full.sizes} == {1, 2, 4} and full.classes is None


def test_absent_files_end_with_2_and_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("MIRAGE_DATA", raising=False)
    monkeypatch.setattr(published, "cache", lambda: tmp_path / "cache")
    code = errors.run(lambda: study._main(omniglot_transformer, ["--out", str(tmp_path / "out"), "--quiet"]))
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: data set omniglot is not here") and "mirage data omniglot" in line
    assert not (tmp_path / "out" / "tables").exists()
