"""What stands behind a verdict: facts, standard errors, pairs, scale kinds, seeds, missing items."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats  # scipy 1.17.1
from score_tables import PAIR, RISE, STEP, X, counted, label, pair, rows, same

from mirage_jax import InputError, verdict

# --- facts ---


def test_facts_by_text_are_what_METRICS_would_say():
    names = {"exact_match": "mine", "token_accuracy": "yours"}
    given = {"mine": "discontinuous,higher,0..1", "yours": "linear,higher,0..1"}
    found = verdict(pair().replace({"metric": names}), facts=given)
    assert list(found["label"]) == ["METRIC_INDUCED", "SMOOTH"]
    assert list(found["pair"]) == ["yours", ""]


def test_percents_by_facts_against_METRICS_are_the_same_curve():
    df = pair()
    percents = df.assign(score=100 * df["score"], se=100 * df["se"])
    given = {"exact_match": "discontinuous,higher,0..100", "token_accuracy": "linear,higher,0..100"}
    found, plain = verdict(percents, facts=given), verdict(df)
    free = [name for name in plain if name not in ("score_low", "score_high", "chance")]  # these in the user's units
    same(found[free], plain[free], check_exact=False, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found["score_high"], 100 * plain["score_high"])


@pytest.mark.parametrize(
    "text",
    ["", "linear", "linear,higher", "linear,higher,0..1,", "smooth,higher,0..1", "linear,up,0..1", "linear,higher,1..0",
     "linear,higher,0..0", "linear,higher,0-1", "linear,higher,nan..1", "linear,higher,inf..inf", "linear,higher,0..x",
     "LINEAR,higher,0..1", "linear,higher,-inf..inf"],
)  # fmt: skip
def test_bad_facts_are_refused_with_the_form(text):
    with pytest.raises(InputError, match=r"metric vibe: expected linear\|nonlinear\|discontinuous"):
        verdict(rows("vibe", RISE), facts={"vibe": text})


def test_facts_of_an_absent_metric_are_refused():
    with pytest.raises(InputError, match="no metric vibe"):
        verdict(pair(), facts={"vibe": "linear,higher,0..1"})


@pytest.mark.parametrize("curve", ["RISE", "STEP", "dip"])
def test_lower_is_better_is_the_same_curve_mirrored(curve):
    p = {"RISE": RISE, "STEP": STEP, "dip": 0.3 + 0.4 * np.abs(X - 9.5) / 2.5}[curve]
    up = verdict(rows("m", p, se=0.01), facts={"m": "nonlinear,higher,0..1"})
    down = verdict(rows("m", 1 - p, se=0.01), facts={"m": "nonlinear,lower,0..1"})
    shared = [n for n in up if n not in ("score_low", "score_high", "sentence")]
    shared.remove("chance")
    same(up[shared], down[shared], check_exact=False, rtol=1e-5, atol=1e-7)
    assert down["score_low"].item() == pytest.approx(1 - up["score_low"].item())


@pytest.mark.parametrize(
    ("metric", "scores", "se"),
    [("brier_sum", 2 * (1 - STEP), 0.02), ("token_edit_distance", 7 * (1 - STEP), 0.07), ("nll", 9 * (1 - STEP), 0.09),
     ("brier_half", 1 - STEP, 0.01), ("target_log_prob", 4 * (STEP - 1), 0.04)],
)  # fmt: skip
def test_metrics_of_either_direction_jump_alike(metric, scores, se):
    found = verdict(rows(metric, scores, se=se)).loc[0]
    assert found["label"] == "UNEXPLAINED_JUMP"  # of one metric
    assert found["jump_from"] < 10**9.5 < found["jump_to"]
    assert label(rows(metric, scores[::-1], se=se), metric) == "NON_MONOTONE"


def test_a_falling_metric_is_not_said_to_rise():
    found = verdict(rows("token_edit_distance", 5 * (1 - RISE), se=0.02)).loc[0]
    assert found["label"] == "SMOOTH" and "rises" not in found["sentence"]


# --- standard errors ---


def source(metric, p=RISE, **columns):
    found = verdict(rows(metric, p, **columns)).loc[0]
    return found["se_from"], found["median_se"]


def test_the_standard_error_and_what_told_it():
    flat, floor = (
        np.full(12, 0.5),
        0.005,
    )  # verdict.md section 13: a floor in quadrature; (.25/L)/(n+1) inside the variance
    extra = 0.25 / 1001 / 1000
    cases = [
        (dict(se=0.02), "se", 0.02**2 + extra),
        (dict(low=0.46, high=0.53), "interval", (0.04 / 1.96) ** 2 + extra),
        (dict(low=0.5, high=0.53), "interval", (0.03 / 1.96) ** 2 + extra),
        (dict(low=0.46, high=0.53, se=0.02), "se", 0.02**2 + extra),
        (dict(), "score and n", 0.25 / 1000 + extra),
        (dict(se=0.0), "se", extra),
        (dict(se=0.02, n=None), "se", 0.02**2),
    ]
    for columns, wanted, variance in cases:
        assert source("token_accuracy", flat, **columns) == (
            wanted, pytest.approx(np.sqrt(variance + floor**2), rel=1e-6))  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"se": 1e-9}, {"se": 0.3}, {"low": 0.0, "high": 1.0}])
def test_shares_are_judged_by_their_counts_whatever_se_says(more):
    found = verdict(rows("exact_match", counted(STEP**2), **more)).loc[0]
    plain = verdict(rows("exact_match", counted(STEP**2))).loc[0]
    assert found["se_from"] == "counts"
    assert (found["label"], found["median_se"]) == (plain["label"], plain["median_se"])
    assert found["median_se"] == pytest.approx(np.sqrt(0.25 / 1000 * 0.6 + 0.005**2), rel=0.25)  # .09 and .49


@pytest.mark.parametrize("metric", PAIR)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_no_spread_is_no_certainty(metric, level):
    found = verdict(rows(metric, np.full(12, level), n=20, se=0.0)).loc[0]
    assert (
        found["label"] == "INSUFFICIENT_RESOLUTION" or found["median_se"] > 0.25 / 20
    )  # a twentieth could be one item
    one_off = np.full(12, level)
    one_off[-1] = abs(level - 0.05)  # one of twenty
    assert label(rows(metric, one_off, n=20, se=0.0), metric) in ("INSUFFICIENT_RESOLUTION", "NO_CHANGE")


@pytest.mark.parametrize("columns", [{}, {"se": 0.02}, {"low": 0.0, "high": 1.0}])
def test_shares_of_unknown_many_items_are_not_judged(columns):
    found = verdict(rows("exact_match", STEP, n=None, **columns)).loc[0]
    assert (found["label"], found["reason"]) == ("INSUFFICIENT_RESOLUTION", "unknown n")


# --- pairs ---


def test_a_pair_needs_equal_keys_but_for_the_metrics_own_options():
    for column, other in {"study": "b", "source": "api", "family": "g", "setting": "shots=2", "length": 7}.items():
        df = pair(length=5).astype(object)
        df[column] = {"study": "a", "source": "simulated", "family": "f", "setting": "shots=0", "length": 5}[column]
        assert verdict(df)["pair"].iloc[0] == "token_accuracy", column
        df.loc[df["metric"] == "token_accuracy", column] = other
        found = verdict(df)
        assert list(found["pair"]) == ["", ""], column
        assert found["label"].iloc[0] != "METRIC_INDUCED", column


def test_a_metric_pairs_with_itself_at_another_option():
    sharp = rows("subset_accuracy", RISE**5, setting="K=5;shots=2", se=0.01)
    df = pd.concat([sharp, rows("subset_accuracy", RISE, setting="K=1;shots=2", se=0.01)], ignore_index=True)
    found = verdict(df)
    assert list(found["pair"]) == ["subset_accuracy K=1", ""]
    assert list(found["label"]) == ["METRIC_INDUCED", "SMOOTH"]
    df.loc[12:, "setting"] = "K=1;shots=3"
    assert list(verdict(df)["pair"]) == ["", ""]


@pytest.mark.parametrize("column", ["model", "seed"])
def test_other_models_or_seeds_are_no_pair_and_said(column):
    df = pair().assign(seed=0)
    df.loc[20, column] = "else" if column == "model" else 1
    found = verdict(df)
    assert found["pair"].iloc[0] == "" and found["label"].iloc[0] != "METRIC_INDUCED"
    assert "token_accuracy" in found["unpaired"].iloc[0]


def test_the_linear_metric_is_never_induced_by_itself():
    for p in (RISE**5, STEP):
        df = pd.concat([rows("token_accuracy", p, se=0.01), rows("exact_match", counted(p))], ignore_index=True)
        found = verdict(df).set_index("metric")
        assert found.loc["token_accuracy", "pair"] == "" and found.loc["token_accuracy", "label"] != "METRIC_INDUCED"
        assert found.loc["exact_match", "pair"] == "token_accuracy"


def test_a_narrow_jump_of_one_metric_is_unexplained():
    assert label(rows("exact_match", counted(STEP)), "exact_match") == "UNEXPLAINED_JUMP"
    assert label(rows("token_accuracy", STEP), "token_accuracy") == "THRESHOLD_SURVIVES"
    assert list(verdict(pair(STEP))["label"]) == ["THRESHOLD_SURVIVES"] * 2


def test_a_continuous_companion_stands_beside_an_unpaired_metric():
    df = pd.concat([rows("multiple_choice_grade", counted(STEP)), rows("brier_half", 1 - RISE, se=0.01)])
    found = verdict(df).loc[0]
    assert (found["label"], found["pair"]) == ("UNEXPLAINED_JUMP", "")
    assert (found["continuous_pair"], found["continuous_label"]) == ("brier_half", "SMOOTH")
    paired = verdict(pd.concat([pair(), rows("token_edit_distance", 5 * (1 - RISE), se=0.02)])).loc[0]
    assert (paired["pair"], paired["continuous_pair"], paired["continuous_label"]) == ("token_accuracy", "", "")


def test_metrics_of_other_outcomes_are_no_pair():
    found = verdict(pd.concat([rows("multiple_choice_grade", counted(STEP)), rows("token_accuracy", RISE, se=0.01)]))
    assert list(found["pair"]) == ["", ""]


def test_a_threshold_must_show_under_every_continuous_metric():
    df = pd.concat([pair(STEP), rows("token_edit_distance", 5 * (1 - RISE), se=0.02)])
    found = verdict(df).set_index("metric")["label"]
    assert found["token_accuracy"] == found["exact_match"] == "UNEXPLAINED_JUMP"


# --- the axis ---


@pytest.mark.parametrize("kind", ["params", "flops", "tokens", "step", None])
def test_kinds_on_which_more_is_better(kind):
    assert list(verdict(pair(scale_kind=kind))["label"]) == ["METRIC_INDUCED", "SMOOTH"]


def test_a_loss_is_read_from_right_to_left():
    loss = np.tile(4 - (X - 7) / 2.5, 2)
    found = verdict(pair(STEP).assign(scale_kind="loss", scale=loss)).iloc[1]
    assert found["label"] == "THRESHOLD_SURVIVES"
    assert found["scale_low"] == pytest.approx(4) and found["scale_high"] == pytest.approx(2)
    assert found["jump_from"] > 3 > found["jump_to"]
    assert "loss of" in found["sentence"] and "nats" in found["sentence"]


def test_an_error_rate_is_read_from_right_to_left():
    found = verdict(pair().assign(scale_kind="error_rate", scale=np.tile(10.0 ** (7 - X) / 2, 2)))
    assert list(found["label"]) == ["METRIC_INDUCED", "SMOOTH"]
    assert found["scale_low"].iloc[0] == pytest.approx(0.5)


def test_kinds_do_not_mix():
    df = pd.concat([pair().assign(scale_kind="params"), pair(STEP).assign(scale_kind="flops")])
    assert verdict(df).groupby("scale_kind")["label"].agg(list).to_dict() == {
        "params": ["METRIC_INDUCED", "SMOOTH"], "flops": ["THRESHOLD_SURVIVES"] * 2}  # fmt: skip


def test_chance_is_where_the_plateau_lies():
    right = 0.25 + 0.75 * RISE**5
    df = pd.concat([rows("exact_match", counted(right), chance=0.25), rows("token_accuracy", RISE, se=0.01)])
    found = verdict(df).loc[0]
    assert (found["label"], found["chance"]) == ("METRIC_INDUCED", 0.25)
    assert label(df.assign(chance=None), "exact_match") != "METRIC_INDUCED"


# --- seeds ---


def seeded(seeds: int, modes: bool, draw) -> pd.DataFrame:
    """Repeats with noise .02; with modes, half of the seeds at .2 and half at .8 at the middle scales."""
    lone = np.where(np.arange(12) < 4, 0.2, 0.8)
    late = np.where(np.arange(12) < 8, 0.2, 0.8)
    of = [(lone if s % 2 and modes else late) + 0.02 * draw.standard_normal(12) for s in range(seeds)]
    return pd.concat([rows("token_accuracy", p, seed=s) for s, p in enumerate(of)], ignore_index=True)


def test_ten_seeds_in_two_groups_are_bimodal():
    df = seeded(10, True, np.random.default_rng(1))
    found = verdict(df).loc[0]
    assert (found["label"], found["seeds"], found["scales"]) == ("SEED_BIMODAL", 10, 12)
    assert "0.6 apart" in found["sentence"].replace("0.60", "0.6").replace("0.61", "0.6").replace("0.59", "0.6")
    assert verdict(seeded(10, False, np.random.default_rng(1)))["label"].item() == "THRESHOLD_SURVIVES"


def test_the_scatter_is_measured_on_repeats():
    # logit(p) of every seed scatters by .5: that of a mean of 4 by .25
    draw = np.random.default_rng(2)
    logit = np.log(RISE / (1 - RISE)) + 0.5 * draw.standard_normal((4, 12))
    df = pd.concat([rows("token_accuracy", 1 / (1 + np.exp(-z)), n=100_000, seed=s) for s, z in enumerate(logit)])
    # relative error of an sd from 36 degrees of freedom: 1 / sqrt(72)
    assert verdict(df)["scatter"].item() == pytest.approx(0.25, rel=4.5 / np.sqrt(72))


def test_a_diverged_seed_is_left_out_and_counted():
    df = seeded(4, False, np.random.default_rng(3))
    gone = (df["seed"] == 2) & (df["model"] == "m5")
    diverged = df.assign(score=df["score"].where(~gone), n=df["n"].where(~gone, 0))
    found = verdict(diverged)
    assert any("1 rows without a score" in line for line in found.attrs["left_out"])
    same(found, verdict(df[~gone]))


def test_seeds_of_unknown_n_raise_nothing():
    df = seeded(10, True, np.random.default_rng(1)).assign(n=None)
    assert verdict(df)["label"].item() == "INSUFFICIENT_RESOLUTION"
    assert verdict(df, n={"sum": 1000})["label"].item() == "SEED_BIMODAL"


# --- items that are missing ---


@pytest.mark.parametrize("metric", PAIR)
@pytest.mark.parametrize(("missing", "flips"), [(0, False), (1, False), (400, True)])
def test_flips(metric, missing, flips):
    # 1000 of 1400 items at 1/2: the others wrong make .36, the others right .64, 9 standard errors off
    df = rows(metric, np.full(12, 0.5), missing=[0] * 11 + [missing])
    found = verdict(df).loc[0]
    assert (found["label"], found["flips"]) == ("NO_CHANGE", flips)
    assert found["missing"] == missing


def test_flips_of_the_pair_are_flips():
    df = pair(np.full(12, 0.8), n=10_000)
    df["missing"] = np.where(df.index == 23, 5000, 0)  # of token accuracy's largest model
    assert list(verdict(df)["flips"]) == [True, True]


def test_no_flips_where_nothing_is_judged():
    df = rows("token_accuracy", np.full(12, 0.5), n=None, se=0.01, missing=[0] * 11 + [1])
    assert not verdict(df)["flips"].item()  # one item of an unknown many is no reason to turn a verdict


def test_flagged_and_unparsed_are_counted():
    df = rows("token_accuracy", RISE, missing=[5, 6] + [0] * 10, unparsed=[0, 0, 6] + [0] * 9)
    found = verdict(df).loc[0]  # 5 of 1005 is below .005, 6 of 1006 and 6 of 1000 are above
    assert (found["flagged"], found["unparsed"], found["missing"]) == (2, 6, 11)


# --- a batch ---


def test_q_values_are_those_of_benjamini_and_hochberg():
    draw = np.random.default_rng(4)
    df = pd.concat([pair(draw.binomial(400, np.full(12, 0.8)) / 400, n=400).assign(task=f"t{i}") for i in range(8)])
    found = verdict(df)
    for test in ("flat", "link"):
        p = found[f"p_{test}"].dropna()
        want = stats.false_discovery_control(p)
        np.testing.assert_allclose(found.loc[p.index, f"q_{test}"], want, rtol=1e-9)
    assert found["q_link"].isna().sum() == 8  # the linear metrics' own rows have no link


def test_no_law_of_exact_match_is_asked_of_a_metric_of_partial_credit():
    """Edit distance is (1 - p) L here, yet no power of p: it is smooth, beside its pair or by itself."""
    df = pd.concat([pair(RISE), rows("token_edit_distance", 5 * (1 - RISE), se=0.02)], ignore_index=True)
    found = verdict(df).set_index("metric")
    assert found.loc["token_edit_distance", "label"] == "SMOOTH"
    bent = np.where(np.arange(len(RISE)) % 2, 0.08, 0.0) + RISE  # what no relation gives, and what is not monotone
    df = pd.concat([pair(RISE), rows("rouge_l", bent, se=0.001)], ignore_index=True)
    alone = verdict(df).set_index("metric").loc["rouge_l"]
    assert alone["pair"] == "" and alone["unpaired"] == "no single relation takes token_accuracy to it"
    assert alone["label"] == verdict(rows("rouge_l", bent, se=0.001))["label"].item()
