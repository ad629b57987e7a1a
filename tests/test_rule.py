"""The rule: against its slow twin, by hand-made curves for every step, and unmoved by company, order, padding and flags."""

import alarms
import jax
import numpy as np
import pytest
import verdict_twin as twin
from scipy import optimize, stats

from mirage_jax.decide import rule
from mirage_jax.decide.rule import LABELS, STEPS, Cases, judge, p_monotone
from sims import truths

TRUTHS = tuple(truths.TRUTHS)
SHAPE_OF_BEST = ("jump", "jump_se", "jump_at", "gap", "beside")  # of the best narrow shape, which may be one of several
LEVEL = "p_flat p_monotone p_flat_metric p_link".split()


def case(y, rate=None, *, n=1000.0, se=None, linear_se=None, x=None, **more):
    """One pair by hand, or one metric alone where `rate` is None."""
    y = np.asarray(y, float)
    m, paired = len(y), rate is not None
    rate = np.asarray(rate if paired else y, float)
    given = {
        "x": np.linspace(0, 5, m) if x is None else x, "rate": rate, "n": np.full(m, n),
        "se": np.full(m, 0.01 if se is None else se), "linear": y, "linear_se": np.full(m, linear_se or 0.003),
        "size": m, "counted": paired, "paired": paired, "tokens": paired, "proper": not paired, "length": 10.0,
        "chance": 0.0, "scatter": 0.0, "sharp": rule.SHARP, "bimodal": False,
    }  # fmt: skip
    return Cases(**{name: np.asarray(value)[None] for name, value in (given | more).items()})


def together(cases, width):
    """Cases of several sizes in one batch; what stands beyond the real scales is not a number wherever it may be."""
    fields = {}
    for name in Cases._fields:
        parts = [getattr(c, name) for c in cases]
        if parts[0].ndim == 2:
            parts = [np.pad(p.astype(float), ((0, 0), (0, width - p.shape[1])), constant_values=0.5) for p in parts]
        fields[name] = np.concatenate(parts)
    return Cases(**fields)


def drawn(truth, m, seed, *, curves=1, n=1000, ragged=False, alone=None, **more):
    draw = np.random.default_rng(seed)
    pairs = truths.cases(draw, truths.draw_truth(draw, truth, curves, m, ragged), n, **more)
    return pairs if alone is None else truths.alone(pairs, linear=alone == "linear")


def same(a, b, at=slice(None)):
    """Bit by bit."""
    assert list(a.label) == list(b.label[at]) and list(a.step) == list(b.step[at])
    for name, value in a.evidence.items():
        np.testing.assert_array_equal(value, b.evidence[name][at], err_msg=name)
    for name in ("smooth", "sharp", "error", "predicted"):
        mine, other = getattr(a, name), getattr(b, name)[at]
        np.testing.assert_array_equal(mine, other[:, : mine.shape[1]], err_msg=name)


@pytest.fixture(scope="module")
def mix():
    """Some 60 curves: every truth, 5 to 12 scales, unequal spacing, alone and in pairs, scatter given and estimated."""
    found = []
    for number, truth in enumerate(TRUTHS):
        for m in (5, 8, 12):
            draw = np.random.default_rng([1, number, m])
            found.append(drawn(
                truth, m, [2, number, m], n=int(draw.choice([200, 1000, 5000])), ragged=bool(draw.integers(2)),
                alone=(None, None, None, "linear", "exact")[draw.integers(5)], between=0.1 * (draw.random() < 0.3),
                tau=0.1 if draw.random() < 0.3 else np.nan, known=bool(draw.random() < 0.8),
            ))  # fmt: skip
    cases = together(found, 12)
    return cases, judge(cases)


def test_the_twin_agrees(mix, count):
    cases, found = mix
    plain = set(range(0, len(found.label), 1 if count(10) == 10 else 9))  # scipy.optimize.nnls for every shape is slow
    for i in range(len(found.label)):
        one = Cases(*(field[i] for field in cases))
        label, step, e = twin.judge_one(one, twin.by_nnls if i in plain else twin.by_hand)
        assert (found.label[i], found.step[i]) == (label, step), i
        # the rule's search ends within half a point of the parameter's last grid: e.spare says what deviance that leaves
        assert e["p_link_low"] - 1e-9 <= found.evidence["p_link"][i] <= e["p_link"] + 1e-9 or np.isnan(e["p_link"])
        for name in set(e) & set(found.evidence) - {"p_link"}:
            if name in SHAPE_OF_BEST and e["ties"]:
                continue
            if name == "p_monotone" and e["isotonic"] < 1e-9:  # nothing falls: 1, or 1 - 1 / m! by rounding
                continue
            np.testing.assert_allclose(found.evidence[name][i], e[name], rtol=1e-6, atol=1e-6, err_msg=f"{i} {name}")
        assert found.evidence["scatter"][i] == e["scatter"]


def test_chi2_of_every_class_is_the_twins(mix):
    cases, found = mix
    at = np.arange(0, len(found.label), 3)
    shapes = rule._shapes(rule._padded(cases, at, 12))
    for i, row in zip(at, range(len(at)), strict=True):
        one = Cases(*(field[i] for field in cases))
        e = twin.judge_one(one, twin.by_hand)[2]
        for name in ("constant", "narrow", "narrow_slope", "wide", "wide_slope", "isotonic", "cubic"):
            # 1e-9: a shape that moves by 1e-9 of the weights is one, so that rounding is 2e-16 / 1e-9 of the constant's chi2
            ours = getattr(shapes, name)[row]
            np.testing.assert_allclose(ours, e[name], rtol=1e-6, atol=3e-7 * e["constant"], err_msg=f"{i} {name}")


TOY = np.exp(-0.05 * 10 ** (0.4 * (5 - np.linspace(0, 5, 8))))
STEP = 0.3 + 0.3 * (np.arange(8) >= 4)
RAMP = np.linspace(0.3, 0.9, 8)
FLAT_THEN = np.r_[0.6, 0.6, 0.6, 0.6, np.linspace(0.66, 0.97, 8)]
SLOW_THEN = np.array([0.8, 0.81, 0.86, 0.89, 0.92, 0.94, 0.955, 0.965])
NOISY = np.where(np.arange(8) < 4, 0.4, 0.6)
BY_HAND = {
    "few scales": lambda: case(TOY[:4], TOY[:4] ** 10),
    "seeds": lambda: case(TOY, TOY**10, bimodal=True),
    "flat": lambda: case(np.full(8, 0.5), np.full(8, 0.1)),
    "flat unresolved": lambda: case(np.full(8, 0.5), np.full(8, 0.1), linear_se=0.05),
    "not monotone": lambda: case(0.3 + 0.4 * np.linspace(-1, 1, 8) ** 2, np.full(8, 0.1)),
    "jump on few scales": lambda: case(STEP[1:7], STEP[1:7] ** 10),
    "jump": lambda: case(STEP, STEP**10),
    "jump of one metric": lambda: case(STEP, proper=False),
    "step not excluded, few scales": lambda: case(NOISY[1:7], NOISY[1:7] ** 2, linear_se=0.04),
    "step not excluded": lambda: case(NOISY, NOISY**2, linear_se=0.04),
    "smooth alone": lambda: case(RAMP),
    "link refused": lambda: case(RAMP, np.where(np.arange(8) < 4, RAMP**10, RAMP)),
    "link of choices refused": lambda: case(RAMP, np.where(np.arange(8) < 4, RAMP**10, RAMP), tokens=False),
    "never off the ground": lambda: case(RAMP / 2, (RAMP / 2) ** 20, length=20.0),
    "no plateau": lambda: case(RAMP, RAMP**2, length=2.0),
    "shared plateau": lambda: case(FLAT_THEN, FLAT_THEN**10),
    "plateau unresolved": lambda: case(FLAT_THEN, FLAT_THEN**10, linear_se=0.02),
    # one scale beyond the jump: a ramp of any width, of which that scale alone is on the slope, is the same curve
    "jump at the edge": lambda: case(np.where(np.arange(8) < 7, 0.3, 0.6), np.where(np.arange(8) < 7, 0.3, 0.6) ** 10),
    "metric": lambda: case(TOY, TOY**10),
    "progress unresolved": lambda: case(SLOW_THEN, SLOW_THEN**20, length=20.0),
}


def test_the_labels_are_the_ten_agreed_on():
    assert set(LABELS) == {
        "NO_CHANGE", "NON_MONOTONE", "SMOOTH", "METRIC_INDUCED", "THRESHOLD_SURVIVES", "UNEXPLAINED_JUMP", "SHARED_PLATEAU",
        "SEED_BIMODAL", "INSUFFICIENT_SCALES", "INSUFFICIENT_RESOLUTION",
    }  # fmt: skip
    assert len(LABELS) == 10
    assert set(STEPS.values()) == set(LABELS)


def test_every_step_has_a_curve():
    assert set(STEPS) == set(BY_HAND)
    found = judge(together([make() for make in BY_HAND.values()], 12))
    assert dict(zip(BY_HAND, found.step, strict=True)) == {name: name for name in BY_HAND}
    assert list(found.label) == [STEPS[name] for name in BY_HAND]


def test_a_jump_with_one_scale_on_a_side_is_at_the_edge():
    cases = BY_HAND["jump"]()
    evidence = judge(cases).evidence
    assert rule._step(cases, evidence)[0] == "jump"
    assert rule._step(cases, evidence | {"beside": np.array([1.0])})[0] == "jump at the edge"


@pytest.mark.parametrize("step", BY_HAND)
def test_the_twin_goes_the_same_way_by_hand(step):
    one = Cases(*(field[0] for field in BY_HAND[step]()))
    assert twin.judge_one(one, twin.by_hand)[:2] == (STEPS[step], step)


def test_four_scales_decide_nothing():
    cases = together([drawn(truth, 4, 4, n=5000) for truth in TRUTHS] + [drawn("step.5", 3, 4)], 4)
    assert set(judge(cases).label) == {"INSUFFICIENT_SCALES"}


def test_under_eight_scales_no_step_is_a_threshold():
    cases = together([drawn(t, m, m, curves=10) for t in ("step.3", "step.5") for m in (5, 6, 7)], 7)
    found = judge(cases)
    assert not {"THRESHOLD_SURVIVES", "METRIC_INDUCED", "UNEXPLAINED_JUMP"} & set(found.label)
    assert alarms.counts(int((found.label == "INSUFFICIENT_SCALES").sum()), 60, 0.9, 1.0)


def test_a_jump_is_found_and_a_smooth_rise_is_none():
    """A jump of .3 at 8 scales and 1000 items at least 97 times in 100; one of the paper's curves never."""
    curves = 60
    steps, toys = judge(drawn("step.3", 8, 5, curves=curves)), judge(drawn("toy", 8, 6, curves=curves))
    assert alarms.counts(int((steps.label == "THRESHOLD_SURVIVES").sum()), curves, 0.97, 1.0)
    assert alarms.counts(int((toys.label == "THRESHOLD_SURVIVES").sum()), curves, 0.0, 0.01)
    jump, se = steps.evidence["jump"], steps.evidence["jump_se"]
    assert (abs(jump - 0.3) < 0.05).mean() > 0.9 and (se < 0.05).all()


@pytest.mark.parametrize("which", ["exact", "linear"])
def test_one_metric_alone_is_never_metric_induced(which):
    cases = together([drawn(truth, 12, 7, n=5000, curves=3, alone=which) for truth in TRUTHS], 12)
    found = judge(cases)
    assert not {"METRIC_INDUCED", "SHARED_PLATEAU"} & set(found.label)
    if which == "exact":
        assert "THRESHOLD_SURVIVES" not in found.label


def test_scales_close_together_find_a_jump():
    """8 losses over .05 nats: what they are padded with lies far beyond their range."""
    few = np.linspace(-2, -1.95, 8)
    assert judge(case(STEP, STEP**10, x=few, sharp=np.inf)).label[0] == "THRESHOLD_SURVIVES"


def test_a_wide_rise_is_no_threshold_however_coarse_the_scales():
    """Ten scales over 30 decades: a rise over 4 of them is as narrow as the spacing, and no jump in decades."""
    x = np.linspace(0, 30, 10)
    y = 0.2 + 0.4 / (1 + 81.0 ** -((x - 14) / 4))
    assert judge(case(y, x=x)).label[0] != "THRESHOLD_SURVIVES"
    assert judge(case(y, x=x, sharp=np.inf)).label[0] == "THRESHOLD_SURVIVES"


def test_one_scale_off_a_line_is_no_step():
    """A step's far tail that touches one scale and a wide shape's do equally well: rounding must not choose between them."""
    for end in (0, -1):
        y = np.linspace(0.2, 0.8, 8)
        y[end] += 0.02 if end else -0.02
        found = judge(case(y))
        assert found.label[0] == "SMOOTH"
        assert found.evidence["step_slope_over_wide"][0] > 1


@pytest.mark.parametrize("m", range(1, 9))
def test_levels_of_the_isotonic_fit_are_cycles_of_permutations(m):
    poly = np.poly(-np.arange(m))[::-1][1:]  # t (t + 1) ... (t + m - 1)
    np.testing.assert_allclose(rule._levels(m), poly / poly.sum(), rtol=1e-12)


def test_chi_bar_square_by_hand():
    """Three equal means: 1/3, 1/2, 1/6 for one, two, three levels."""
    np.testing.assert_allclose(rule._levels(3), [1 / 3, 1 / 2, 1 / 6])
    c = np.array([0.5, 3.0, 9.0])
    expected = stats.chi2.sf(c, 2) / 3 + stats.chi2.sf(c, 1) / 2
    np.testing.assert_allclose(p_monotone(c, np.full(3, 3)), expected)
    assert p_monotone(np.array([0.0]), np.array([3]))[0] == pytest.approx(1)


def test_chi_bar_square_by_simulation(count):
    draws, m = count(20_000), 6
    y = np.random.default_rng(0).standard_normal((draws, m))
    misfit = np.array([((row - optimize.isotonic_regression(row).x) ** 2).sum() for row in y])
    for level in (0.3, 0.05):
        cut = optimize.brentq(lambda c, p=level: p_monotone(np.array([c]), np.array([m]))[0] - p, 1e-6, 50)
        assert alarms.counts(int((misfit > cut).sum()), draws, level)


def test_company_and_order_change_nothing(mix):
    cases, found = mix
    order = np.random.default_rng(0).permutation(len(found.label))
    same(judge(Cases(*(field[order] for field in cases))), found, order)
    for i in (0, 17, len(order) - 1):
        same(judge(Cases(*(field[i : i + 1] for field in cases))), found, slice(i, i + 1))


def test_padding_and_what_stands_in_it_change_nothing(mix):
    cases, found = mix
    beyond = np.arange(20) >= cases.size[:, None]
    for junk in (0.5, -7.0, np.nan):
        wide = {}
        for name, field in cases._asdict().items():
            if field.ndim == 2:
                field = np.where(beyond, junk, np.pad(field, ((0, 0), (0, 8))))
            wide[name] = field
        same(found, judge(Cases(**wide)))


def test_the_users_flag_changes_nothing(mix):
    cases, found = mix
    with jax.enable_x64(True):
        wide = judge(cases)
        assert jax.config.jax_enable_x64
    same(found, wide)
    with jax.enable_x64(False):
        same(found, judge(cases))


def test_scales_are_padded_to_few_numbers():
    found = rule.padded_to(np.array([1, 5, 12, 13, 24, 25, 48, 49, 700]))
    assert found.tolist() == [12, 12, 12, 24, 24, 48, 48, 96, 768]
