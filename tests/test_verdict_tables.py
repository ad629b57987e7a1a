"""The door of `verdict`: every shape that a table can have, and what may not change the verdict."""

import jax
import numpy as np
import pandas as pd
import pytest
from score_tables import PAIR, RISE, STEP, X, counted, edited, label, pair, rows, same

from mirage_jax import InputError, verdict
from mirage_jax.decide.curves import KEY

# --- what comes out ---


def test_columns_and_labels_of_one_pair():
    found = verdict(pair())
    assert list(found.columns[:12]) == [*KEY, "label", "pair", "flips", "sentence"]
    assert list(found["metric"]) == PAIR
    assert list(found["label"]) == ["METRIC_INDUCED", "SMOOTH"]
    assert list(found["pair"]) == ["token_accuracy", ""]
    assert found[["p_flat", "p_monotone", "hump", "emergence", "linearity"]].notna().all(axis=None)


CURVES = {
    "NO_CHANGE": np.full(12, 0.5),
    "SMOOTH": RISE,
    "THRESHOLD_SURVIVES": STEP,
    "NON_MONOTONE": 0.3 + 0.4 * np.abs(X - 9.5) / 2.5,
}


@pytest.mark.parametrize("wanted", CURVES)
def test_plain_curves_of_a_linear_metric(wanted):
    assert label(rows("token_accuracy", CURVES[wanted], se=0.01), "token_accuracy") == wanted


@pytest.mark.parametrize(
    ("scales", "wanted"),
    [(1, "INSUFFICIENT_SCALES"), (4, "INSUFFICIENT_SCALES"), (5, "NO_CHANGE"), (12, "NO_CHANGE")],
)
def test_fewer_than_five_scales_decide_nothing(scales, wanted):
    assert label(rows("token_accuracy", np.full(scales, 0.5)), "token_accuracy") == wanted


@pytest.mark.parametrize("scales", [5, 6, 7])
def test_fewer_than_eight_scales_decide_no_jump(scales):
    p = np.where(np.arange(scales) < scales / 2, 0.3, 0.7)
    found = verdict(pair(p, x=np.linspace(7, 12, scales)))
    assert not found["label"].isin(["THRESHOLD_SURVIVES", "UNEXPLAINED_JUMP"]).any()


def test_many_scales(count):
    scales = count(100)  # 10 in a plain run
    found = verdict(pair(np.linspace(0.3, 0.9, scales), x=np.linspace(7, 12, scales)))
    assert list(found["scales"]) == [scales] * 2
    assert found["label"].iloc[1] == "SMOOTH"


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("metric", [*PAIR, "token_edit_distance"])
def test_a_constant_at_the_bound(metric, level):
    assert label(rows(metric, np.full(12, level), n=10_000), metric) == "NO_CHANGE"


def test_equal_everything():
    assert list(verdict(pair(np.full(12, 1.0), n=10_000))["label"]) == ["NO_CHANGE"] * 2


@pytest.mark.parametrize("n", [1, 2, 30, 1_000_000])
def test_any_number_of_items(n):
    found = verdict(pair(STEP, n=n))
    assert (found["n_low"] == n).all()
    assert found["label"].iloc[1] == ("THRESHOLD_SURVIVES" if n > 1000 else "INSUFFICIENT_RESOLUTION")


# --- what a table may look like ---


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(seed):
    df = pd.concat([pair(), pair(STEP).assign(task="other"), rows("nll", 3 - RISE, se=0.01)], ignore_index=True)
    df["note"] = "an extra column"
    mixed = df.sample(frac=1, random_state=seed)
    same(verdict(df), verdict(mixed[list(mixed.columns[::-1])]))


def test_the_order_of_metrics_does_not_choose_the_pair():
    # two linear metrics and two continuous companions of one choice: the one taken may not depend on the row order
    df = pd.concat(
        [rows(name, counted(p), se=0.01) for name, p in (
            ("multiple_choice_grade", RISE**3), ("choice_prob", RISE), ("vocab_prob", 0.8 * RISE),
            ("brier_half", 1 - RISE), ("brier_sum", 2 - 2 * RISE))],
        ignore_index=True,
    )  # fmt: skip
    same(verdict(df), verdict(df[::-1]))


def test_the_given_table_is_not_changed():
    df = pair().set_index(pd.Index([f"row {i}" for i in range(24)]))
    before = df.copy(deep=True)
    verdict(df, n={"sum": 10})
    pd.testing.assert_frame_equal(df, before)


class Elsewhere:
    """A frame of another library, as far as the door knows it."""

    def to_pandas(self) -> pd.DataFrame:
        return pair()


def forms() -> dict[str, object]:
    df = pair()
    nullable = df.convert_dtypes(dtype_backend="numpy_nullable")
    return {
        "pyarrow": df.convert_dtypes(dtype_backend="pyarrow"),
        "nullable": nullable,
        "Int64 with NA": nullable.assign(missing=pd.array([pd.NA, *[0] * 23], dtype="Int64")),
        "objects": df.astype(object),
        "categories": df.astype({name: "category" for name in ("task", "metric", "family", "model")}),
        "blank category": df.assign(study=pd.Categorical([None] * 24, ["x"])),
        "blank text": df.assign(study="", source="", setting=None, scale_kind=""),
        "other index": df.set_index(pd.MultiIndex.from_arrays([[0] * 24, range(24, 0, -1)])),
        "to_pandas": Elsewhere(),
        "records": df.to_dict("records"),
        "float32 counts": df.astype({"n": "float32"}),
        "extra columns": df.assign(**{"note": "x", "Score": 3}).assign(extra=[[]] * 24).rename(columns={"extra": 7}),
    }


@pytest.mark.parametrize("form", forms())
def test_forms_of_the_same_table(form):
    same(verdict(forms()[form]), verdict(pair()), check_dtype=False)


def test_the_users_64_bit_flag_does_not_matter():
    with jax.enable_x64(False):
        off = verdict(pair())
    with jax.enable_x64(True):
        on = verdict(pair())
    same(off, on)


def test_a_curve_does_not_depend_on_the_curves_beside_it():
    alone = verdict(pair(length=5))
    others = [pair(STEP).assign(task="a", length=300), pair()[:3].assign(task="z")]
    among = verdict(pd.concat([others[0], pair(length=5), others[1]]))
    keep = [name for name in alone.columns if "q" not in name.split("_")]  # the false discovery rate is of the batch
    same(alone[keep], among.loc[among["task"] == "sum", keep], check_dtype=False, check_exact=False, rtol=1e-9)


def test_ragged_curves():
    df = pd.concat([pair(), pair(RISE[:9]).assign(task="short"), pair(RISE[:3]).assign(task="three")])
    found = verdict(df).set_index(["task", "metric"])
    assert found["scales"].groupby("task").first().to_dict() == {"sum": 12, "short": 9, "three": 3}
    assert (found.loc["three", "label"] == "INSUFFICIENT_SCALES").all()
    assert (found.loc["sum", "label"] == verdict(pair()).set_index("metric")["label"]).all()


def test_duplicate_scales_are_averaged_and_reported():
    df = rows("token_accuracy", np.full(12, 0.5), se=0.01)
    twin = df.iloc[[3]].assign(model="twin", score=0.52)
    found = verdict(pd.concat([df, twin]))
    averaged = verdict(edited(df, 3, "score", 0.51)).loc[0]
    assert found.loc[0, "scales"] == 12
    assert found.loc[0, "label"] == averaged["label"] == "NO_CHANGE"
    assert found.loc[0, "linearity"] == pytest.approx(averaged["linearity"])
    told = {name for name in found if str(found.loc[0, name]) != str(averaged[name])}
    assert told & {"merged", "averaged", "repeats", "models"}, "nothing says that two models share a scale"


def test_scales_that_nearly_coincide_are_one():
    x = X.copy()
    x[4] = x[3] + 0.01  # gaps of .45
    assert list(verdict(pair(x=x))[["scales", "merged"]].iloc[0]) == [11, 1]


def test_scale_0_is_left_out_and_said():
    df = pd.concat([pair(), rows("exact_match", [0.0]).assign(scale=0, model="none")])
    found = verdict(df)
    assert found["scales"].iloc[0] == 12
    assert any("1 rows at scale 0" in line for line in found.attrs["left_out"])


def test_unknown_metrics_are_left_out_named_and_counted():
    found = verdict(pd.concat([pair(), rows("vibe", RISE), rows("charm", RISE[:2])]))
    assert list(found["metric"]) == PAIR
    (line,) = found.attrs["left_out"]
    assert "14 rows" in line and "charm, vibe" in line
    with pytest.raises(InputError, match=r"vibe.*--metric NAME="):
        verdict(rows("vibe", RISE))


def test_a_missing_cell_and_a_null_scale():
    df = pair()
    found = verdict(df.drop(index=[5, 17]))
    assert list(found["scales"]) == [11, 11] and found["pair"].iloc[0] == "token_accuracy"
    found = verdict(edited(edited(df, 5, "scale", None), 17, "scale", None))
    assert list(found["scales"]) == [11, 11]
    assert any("2 rows without a scale" in line for line in found.attrs["left_out"])


def test_a_score_just_outside_its_bounds_by_rounding():
    p = np.r_[np.linspace(0.1, 1, 11), 1 + 1e-12]
    p[0] = -1e-12
    found = verdict(rows("token_accuracy", p, se=0.01))
    assert found["score_high"].item() == pytest.approx(1) and found["label"].item() == "SMOOTH"


# --- n, tau ---


def test_unknown_n_is_no_resolution_until_it_is_given():
    df = pair().drop(columns=["n", "se"])
    found = verdict(df.assign(n=None))
    assert (found["label"] == "INSUFFICIENT_RESOLUTION").all()
    assert (found["reason"] == "unknown n").all() and (found["se_from"] == "unknown n").all()
    assert found["sentence"].str.contains("unknown").all()
    for without in (df, df.assign(n=None)):
        assert list(verdict(without, n={"sum": 1000})["label"]) == ["METRIC_INDUCED", "SMOOTH"]
    same(verdict(df, n={"sum": 1000}), verdict(df.assign(n=1000)))


def test_n_fills_in_only_what_is_null_of_its_own_task():
    df = pd.concat([pair(), pair().assign(task="b", n=None, se=None), pair().assign(task="c", n=None, se=None)])
    found = verdict(df, n={"sum": 7, "b": 500}).groupby("task")["n_low"].first()
    assert found["sum"] == 1000 and found["b"] == 500
    with pytest.raises(InputError, match="no task d"):
        verdict(df, n={"d": 5})


@pytest.mark.parametrize("n", [0, -5])
def test_n_must_be_a_count(n):
    with pytest.raises(InputError, match="n: .*sum"):
        verdict(pair().assign(n=None), n={"sum": n})


@pytest.mark.parametrize("tau", [-0.1, np.nan, np.inf, 10])
def test_tau_must_be_a_standard_deviation(tau):
    with pytest.raises(ValueError, match="tau"):
        verdict(pair(), tau=tau)


def test_tau_is_used_as_it_stands():
    df = rows("token_accuracy", STEP, n=100_000)
    assert label(df, "token_accuracy", tau=0) == "THRESHOLD_SURVIVES"
    # scores scatter by 2 * .21 beside a step of .4: nothing can be told
    assert label(df, "token_accuracy", tau=2.0) == "INSUFFICIENT_RESOLUTION"
    assert verdict(df, tau=0.3)["scatter"].item() == pytest.approx(0.3)
