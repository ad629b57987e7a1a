"""The autoencoders: PCA by its closed form, scores and curves by hand, a pure function of its seed, failures never scores."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mirage_jax import published, study, table
from mirage_jax.errors import InputError
from scripts.claims import autoencoders as claims
from scripts.claims.record import record
from scripts.figures import digits_autoencoder as figure
from train import autoencoder, cifar_autoencoder, digits_autoencoder
from train.autoencoder import Family, Flat

SHORT = digits_autoencoder.Config(seeds=2, widths=(1, 4, 16), steps=100, together=16)
WIDTHS = list(SHORT.widths)
PIXELS = digits_autoencoder.pixels()


def frame(output) -> pd.DataFrame:
    return table.frame([{"study": "digits_autoencoder", **row} for row in output.rows])


def family(squared, name="autoencoder_made") -> Family:
    """A family that made these squared errors [h, seed, item]."""
    squared = np.asarray(squared, np.float32)
    source = "trained" if name.startswith("auto") else "closed_form"
    return Family(name, source, [10 * i for i in range(1, len(squared) + 1)], squared, squared.mean(-1))


@pytest.fixture(scope="module")
def both() -> tuple[Any, Family]:
    """What a short run gives, and its networks with the error of every image."""
    trained, train = [], autoencoder.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoder, "train", lambda *given: trained.append(train(*given)) or trained[0])
        return digits_autoencoder.run(SHORT), trained[0]


@pytest.fixture(scope="module")
def short(both):
    return both[0]


@pytest.fixture(scope="module")
def trained(both) -> Family:
    return both[1]


def test_digits_are_sixteenths_of_ink():
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    expected = (found.images[order] / 16).reshape(1797, 64).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate(PIXELS), expected)  # sixteenths are exact


def test_pca_is_the_projection_on_the_first_components():
    rng = np.random.default_rng(1)
    images = Flat(rng.normal(size=(40, 6)) * np.arange(1, 7), rng.normal(size=(25, 6)))
    found = autoencoder.pca(images, [1, 3, 5], "pca_made")
    mean = images.train.mean(0)
    _, scale, axes = np.linalg.svd(images.train - mean)
    for at, rank in enumerate((1, 3, 5)):
        onto = axes[:rank].T @ axes[:rank]
        left = images.test - mean - (images.test - mean) @ onto
        # float32's half spacing, 2^-24, of each; the projections agree to float64
        np.testing.assert_allclose(found.squared[at, 0], (left**2).sum(1), rtol=2**-23)
        # on the training images it is the sum of the eigenvalues left out
        assert found.train[at, 0] == pytest.approx((scale[rank:] ** 2).sum() / 40, rel=1e-12)
    assert found.params == [12, 24, 36]  # the mean, and one row a component
    assert found.source == "closed_form"


def test_parameters_by_hand(trained):
    assert trained.params == [64 + 1 + 64 + 64, 4 * 64 + 4 + 4 * 64 + 64, 16 * 64 + 16 + 16 * 64 + 64]


def test_no_network_beats_pca_on_the_training_images(trained):
    least = autoencoder.pca(PIXELS, WIDTHS, "pca_digits").train
    # the theorem is of exact sums; a network's are float32, of 64 terms
    assert (trained.train >= least * (1 - 64 * 2**-23)).all()
    variance = np.square(PIXELS.train - PIXELS.train.mean(0)).sum(1).mean()
    assert (trained.train[-1] < variance / 2).all(), "it has learned nothing"


def test_rows_are_the_images_below_c_counted_by_hand(short, trained):
    df, c = frame(short), list(autoencoder.thresholds(WIDTHS, trained.squared))
    own = df[df["family"] == "autoencoder_digits"]
    assert len(own) == 3 * 2 * (1 + len(c)) and len(df) - len(own) == 3 * (1 + len(c))
    places = {f"autoencoder-{h}": at for at, h in enumerate(WIDTHS)}
    for row in own[own["metric"] == "reconstruction"].itertuples():
        errors = trained.squared[places[str(row.model)], row.seed]
        options = table.read_setting(row.setting)
        assert options.keys() == {"c", "split"} and float(options["c"]) in c
        below = sum(float(error) < np.float32(options["c"]) for error in errors)
        assert row.n == 500 and row.score == pytest.approx(below / 500)
        assert (row.low, row.high) == pytest.approx(stats.binomtest(below, 500).proportion_ci(0.95, "exact"), rel=1e-6)
    for row in own[own["metric"] == "squared_error"].itertuples():
        errors = trained.squared[places[str(row.model)], row.seed]
        assert row.score == pytest.approx(errors.mean(dtype=np.float64), rel=1e-6) and row.setting == "split=held_out"
    assert set(df["source"]) == {"trained", "closed_form"} and df["chance"].isna().all()
    assert df[df["source"] == "closed_form"]["seed"].isna().all()


def test_reconstruction_is_the_distribution_of_the_errors(short):
    counted = short.results["identity"]
    assert len(counted) == (3 * 2 + 3) * short.results["induced"]["tried"].iloc[0]
    assert (counted["scored"] == counted["below"]).all()
    # an error of exactly c is not below it: of 1, 2, 2, 3 one is below 2, all four below 3.5
    made = family([[[1, 2, 2, 3]]])
    told = autoencoder.identity([7], made, autoencoder.score([made], [2.0, 3.5])[0])
    assert told[["h", "seed", "c", "scored", "below", "n"]].to_numpy().tolist() == [
        [7, 0, 2, 1, 1, 4],
        [7, 0, 3.5, 4, 4, 4],
    ]


def test_thresholds_are_quantiles_of_the_networks_errors():
    errors = np.stack([np.linspace(5, 6, 101), np.linspace(3, 4, 101), np.linspace(1, 2, 101)])[:, None]
    found = autoencoder.thresholds([2, 4, 8], errors)
    assert found == {
        5.5: "q50 of h=2", 3.5: "q50 of h=4", 1.9: "q90 of h=8", 1.75: "q75 of h=8", 1.5: "q50 of h=8",
        1.25: "q25 of h=8", 1.1: "q10 of h=8",
    }  # fmt: skip
    assert autoencoder.thresholds([2, 4, 8], np.where(errors < 3, np.nan, errors))[3.9] == "q90 of h=4"
    assert autoencoder.thresholds([2], np.full((1, 1, 4), np.nan)) == {}


def test_the_same_seed_gives_the_same_rows(short):
    again = digits_autoencoder.run(SHORT)
    assert again.rows == short.rows
    for name, result in short.results.items():
        pd.testing.assert_frame_equal(again.results[name], result, check_exact=True)


def test_padded_widths_are_what_they_are_alone(trained):
    alone = autoencoder.train(jax.random.key(0), [4], replace(SHORT, together=0), PIXELS, "autoencoder_digits")
    # only the order of sums differs: a few units in the last place, 2^-23, of each of these 100 steps at most
    np.testing.assert_allclose(trained.squared[1], alone.squared[0], rtol=100 * 2**-23)


def test_a_diverged_family_has_no_score_and_pca_has_its_own():
    output = digits_autoencoder.run(replace(SHORT, learning_rate=1e38))
    df = frame(output)
    own, closed = df[df["source"] == "trained"], df[df["source"] == "closed_form"]
    assert len(own) == 6 and (own["n"] == 0).all() and own[["score", "low", "high", "se"]].isna().all(axis=None)
    assert (closed["n"] == 500).all() and closed["score"].notna().all()
    curve = output.results["curve"]
    assert curve[curve["family"] == "autoencoder_digits"]["mean"].isna().all()
    found = [
        record(claim, {f"digits_autoencoder_{k}": v for k, v in output.results.items()}) for claim in claims.CLAIMS
    ]
    assert {one["status"] for one in found} == {"not testable here"}


def test_one_diverged_member_is_left_out_of_the_mean():
    squared = np.array([[[4.0, 2.0], [8.0, 4.0]], [[2.0, 1.0], [np.nan, np.nan]]])  # [h, seed, item]
    made = family(squared)
    (scores,) = autoencoder.score([made], [2.5])
    rows = list(autoencoder.member_rows([1, 2], "made", {}, {}, made, scores))
    assert [row["n"] for row in rows] == [2, 2, 2, 0] * 2
    drawn = (np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))
    curve, _ = autoencoder.curves([1, 2], made, scores, {2.5: "here"}, *drawn)
    assert curve["mean"].tolist() == [4.5, 1.5, 0.25, 1.0] and curve["seeds"].tolist() == [2, 1] * 2
    told = autoencoder.told_errors([1, 2], made)
    assert told[told["seed"].isna()]["n"].tolist() == [4, 2]


def test_counts_resample_images_and_seeds():
    x = np.random.default_rng(0).normal(size=(2, 3, 5))  # [any, seed, item]
    items, seeds = np.array([[0, 2, 1, 0, 2], [1] * 5]), np.array([[1, 0, 2], [1] * 3])
    found = autoencoder.means(x, items, seeds)
    picked = np.repeat(np.repeat(x, items[0], axis=2), seeds[0], axis=1)
    np.testing.assert_allclose(found, np.stack([picked.mean((1, 2)), x.mean((1, 2))], axis=1), rtol=1e-12)
    each, runs = autoencoder.resamples(0, 7, 3)
    assert each.shape == (autoencoder.RESAMPLES, 7) and runs.shape == (autoencoder.RESAMPLES, 3)
    assert (each.sum(1) == 7).all() and (runs.sum(1) == 3).all()


def test_curves_hold_their_means(short):
    curve, rows = short.results["curve"], frame(short)
    assert (curve["low"] <= curve["mean"]).all() and (curve["mean"] <= curve["high"]).all()
    assert (curve["items"] == 500).all() and set(curve["seeds"]) == {1, 2}
    means = rows.groupby(["family", "metric", "setting", "scale"], dropna=False)["score"].mean()
    for point in curve.itertuples():
        setting = table.setting(split="held_out") if math.isnan(point.c) else table.setting(split="held_out", c=point.c)
        assert means[point.family, point.metric, setting, float(point.params)] == pytest.approx(point.mean, abs=1e-6)


def test_spread_over_drift_is_the_width_where_errors_are_one_shape():
    # errors 10^(-g log10 h + s z) with z the quantiles of a standard normal: F_h(c) = Phi((log10 c + g log10 h) / s), so
    # that from .1 to .9 it takes 2 * 1.2816 s / g decades
    g, s, h = 1.5, 0.3, [2**i for i in range(8)]
    z = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    made = family((10 ** (-g * np.log10(h)[:, None] + s * z))[:, None])
    c = float(10 ** (-g * np.log10(11)))
    (scores,) = autoencoder.score([made], [c])
    found = autoencoder.explained(h, made, scores["reconstruction", c].mean((1, 2)), c)
    expected = 2 * stats.norm.ppf(0.9) * s / g
    assert found["explained"] == pytest.approx(expected, rel=1e-3)  # quantiles of 4,000
    # straight lines between points .3 decades apart, on a curve .2 = s / g wide: off by at most .3^2 / 8 max|Phi''| / slope
    slope, bend = stats.norm.pdf(stats.norm.ppf(0.9)) / 0.2, 0.242 / 0.2**2
    assert found["seen"] == pytest.approx(expected, abs=float(2 * 0.301**2 / 8 * bend / slope))
    assert found["location"] == pytest.approx(11, rel=0.05)


def test_the_search_says_how_many_were_tried(short):
    induced = short.results["induced"]
    assert induced["family"].tolist() == ["autoencoder_digits", "pca_digits"]
    # five quantiles of the largest width and two medians
    assert (induced["tried"] == 7).all() and (induced["sharpest_decades"] <= induced["smoothest_decades"]).all()


def test_grey_images_by_hand():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, :16] = (255, 0, 0)  # the upper half red, of brightness .299
    image[0, 0, 0] = (255, 255, 255)  # its first block of 2x2: (1 + 3 * .299) / 4 = .47425
    x = np.full(256, 0.0)
    x[:128] = 0.299
    x[0] = (1 + 3 * 0.299) / 4
    expected = 0.5 + 0.2 * (x - x.mean()) / x.std()
    found = cifar_autoencoder.pixels(image, "grey16")
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    plain = np.full((1, 32, 32, 3), 77, np.uint8)
    assert (cifar_autoencoder.pixels(plain, "grey16") == 0.5).all()
    colour = cifar_autoencoder.pixels(image, "rgb32")
    assert colour.shape == (1, 3072)
    np.testing.assert_allclose([colour.mean(), colour.std()], [0.5, 0.2], rtol=1e-5)


def asked(monkeypatch, config: cifar_autoencoder.Config, **folder: Any) -> Any:
    """What a run on CIFAR would train on, without the training."""
    monkeypatch.setattr(autoencoder, "run", lambda *given, **setting: (*given, setting))
    return cifar_autoencoder.run(config, **folder)


def test_procedural_images_need_no_files_and_are_named(monkeypatch):
    config = cifar_autoencoder.Config(dataset="cifar100", data="procedural", form="rgb32")
    assert cifar_autoencoder.needs(config) == ()
    name, task, told, _, images, _, setting = asked(monkeypatch, config)
    assert (name, task, setting) == ("cifar_autoencoder", "cifar100_procedural", {"form": "rgb32"})
    assert told.startswith("procedural images") and images.train.shape == (2000, 3072)


def test_real_images_train_and_test_apart(monkeypatch, data_dir: Path):
    _, task, told, _, images, _, setting = asked(monkeypatch, cifar_autoencoder.Config(), cifar10=data_dir / "cifar10")
    assert (task, setting) == ("cifar10", {"form": "grey16"}) and told.startswith("CIFAR-10, 4000+1000 images")
    assert (images.train.shape, images.test.shape) == ((4000, 256), (1000, 256))
    for part in images:
        np.testing.assert_allclose(part.mean(1), 0.5, atol=1e-6)
        np.testing.assert_allclose(part.std(1), 0.2, atol=1e-6)


def test_one_seed_has_an_interval_over_images():
    made = family(np.random.default_rng(0).gamma(2, size=(3, 1, 50)) / np.array([1, 2, 4])[:, None, None])
    (scores,) = autoencoder.score([made], [1.0])
    curve, transitions = autoencoder.curves([1, 2, 4], made, scores, {1.0: "here"}, *autoencoder.resamples(0, 50, 1))
    assert (curve["low"] < curve["mean"]).all() and (curve["mean"] < curve["high"]).all()
    squared = curve[curve["metric"] == "squared_error"]
    # the bootstrap's standard error of a mean is s / sqrt(n); its ends, of 2,000 resamples, are known to a twentieth
    half = 1.96 * made.squared.std(-1)[:, 0] / math.sqrt(50)
    np.testing.assert_allclose((squared["high"] - squared["low"]) / 2, half, rtol=0.1)
    assert transitions["ratio"].iloc[0] == 1


def test_presets_reach_the_widths_of_the_data():
    quick, full = (cifar_autoencoder.PRESETS[name] for name in ("quick", "full"))
    assert (cifar_autoencoder.needs(quick), cifar_autoencoder.needs(full)) == (("cifar10",), ("cifar100",))
    assert full.pixels() == 3072 > max(full.widths) == 2048
    assert full.steps * full.batch >= 100 * 50_000  # epochs of CIFAR-100
    assert max(digits_autoencoder.PRESETS["full"].widths) < 64


def test_absent_images_name_the_study_that_needs_none(tmp_path, monkeypatch):
    for name in ("MIRAGE_DATA", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(published, "cache", lambda: tmp_path / "cache")
    with pytest.raises(InputError, match="cifar10 is not here.*python -m train.digits_autoencoder"):
        study.located(cifar_autoencoder, cifar_autoencoder.PRESETS["quick"], tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"seeds": 0}, {"widths": ()}, {"widths": (1, 2)}, {"widths": (1, 2, 2)}, {"widths": (0, 1, 2)}, {"widths": (1, 2, 64)},
     {"steps": 0}, {"batch": 0}, {"together": -1}, {"learning_rate": 0.0}],
)  # fmt: skip
def test_a_config_that_asks_for_the_impossible_is_refused(wrong):
    with pytest.raises(ValueError, match="expected|needs"):
        replace(SHORT, **wrong)


def test_figure_and_claims_of_a_short_run(short):
    tables = {"digits_autoencoder": frame(short)}
    tables |= {f"digits_autoencoder_{name}": result for name, result in short.results.items()}
    drawn = figure.draw(*(tables[name] for name in figure.TABLES))
    assert len(drawn.axes) == 4 and all(ax.lines for ax in drawn.axes)
    found = {claim.id: record(claim, tables) for claim in claims.CLAIMS}
    assert found["autoencoders"]["status"] == "not testable here"  # CIFAR was not run
    assert (found["autoencoders_digits_identity"]["status"], found["autoencoders_digits_identity"]["value"]) == (
        "holds",
        1,
    )
    assert "0 of 6 networks" in found["autoencoders_digits_pca"]["test"]
    assert "7 c were tried" in found["autoencoders_digits_choice"]["test"]
    # three widths cannot be flat at three and above .5 at the largest
    assert found["autoencoders_digits"]["status"] == "mixed"
