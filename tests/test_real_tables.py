"""Published scores as rows of the one table: ObsScaling, Pythia, OpenLM, and the verdicts on them."""

import gzip
import importlib
import shutil
from fractions import Fraction
from pathlib import Path

import alarms
import numpy as np
import pandas as pd
import pytest

from mirage_jax import InputError, plotting, table
from mirage_jax.decide.verdicts import verdict
from scripts.claims import verdicts as verdicts_claims
from scripts.claims.record import record
from scripts.studies import bigg, obs_scaling, openlm, pythia

STUDIES = {"obs_scaling": obs_scaling, "pythia": pythia, "openlm": openlm}


def output(study, data_dir: Path):
    folders = {name: data_dir / name for name in study.DATA}
    for folder in folders.values():
        if not folder.is_dir():
            pytest.skip(f"no {folder}")
    return study.run(study.PRESETS["quick"], **folders)


@pytest.fixture(scope="module")
def found(data_dir: Path, request: pytest.FixtureRequest) -> dict:
    """What each study finds on the real data; without --soak verdicts by size alone, each number of scales being compiled."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--soak"):
            for study in (pythia, openlm):
                patch.setattr(study, "verdict", lambda df: verdict(df[df["scale_kind"] == "params"]))
        return {name: output(study, data_dir) for name, study in (STUDIES | {"bigg": bigg}).items()}


@pytest.fixture(scope="module")
def tables(found) -> dict[str, pd.DataFrame]:
    return {name: table.frame([{"study": name, **row} for row in found[name].rows]) for name in STUDIES}


# --- the number of items ---


@pytest.mark.parametrize("n", [7, 100, 1003, 20321, 49_999])
def test_items_are_found_from_scores_alone(n):
    counts = np.random.default_rng(n).choice(np.arange(1, n), size=min(40, n - 1), replace=False)
    want = int(np.lcm.reduce([Fraction(int(k), n).denominator for k in counts]))  # the smallest common denominator
    assert obs_scaling.items_of(counts / n) == want
    assert obs_scaling.items_of([*counts / n, 0, 0, 1]) == want  # these say nothing


def test_items_of_few_or_unrelated_scores_are_unknown():
    assert obs_scaling.items_of([0, 1, 0.5, 0.25]) is None
    assert obs_scaling.items_of(np.random.default_rng(0).random(50)) is None


def test_one_stray_score_of_many_does_not_hide_the_items():
    counts = np.arange(1, 40)
    assert obs_scaling.items_of([*counts / 1003, 0.0085]) == 1003
    assert not obs_scaling.fits_items(0.0085, 1003) and obs_scaling.fits_items(counts / 1003, 1003).all()


def test_items_of_the_sources(tables):
    n = {name: df.groupby("task")["n"].max() for name, df in tables.items()}
    assert n["obs_scaling"]["ipa_transliterate"] == 1003  # of the BIG-bench task
    assert n["obs_scaling"]["parsinlu_qa"] == 1050
    assert n["obs_scaling"].drop(["ipa_transliterate", "parsinlu_qa"]).eq(2000).all()  # lm-eval's arithmetic
    # test sets of known size
    assert n["pythia"][["piqa", "lambada_openai", "arc_easy", "arc_challenge"]].tolist() == [1838, 5153, 2376, 1172]
    shared = ["piqa", "lambada_openai", "arc_easy", "arc_challenge", "winogrande"]
    assert n["openlm"][shared].tolist() == n["pythia"][shared].tolist()  # two sources, two ways to find n
    unknown = n["openlm"].index[n["openlm"].isna()]
    assert list(unknown) == ["bbq", "jeopardy", "mmlu", "mmlu_zeroshot"]  # averages over subtasks


def test_a_score_off_its_task_s_grid_has_no_items(tables):
    df = tables["obs_scaling"]
    odd = df[df["n"].isna()]
    assert set(odd["model"]) == {"Qwen/Qwen-72B", "Qwen/Qwen1.5-72B"} and set(odd["task"]) == {"ipa_transliterate"}
    assert odd[["low", "high", "se"]].isna().all().all()


# --- rows ---


def test_every_study_makes_a_table_that_can_be_written_and_read(tables, tmp_path):
    for name, df in tables.items():
        about = table.provenance(name, {}, {}, "0")
        table.write(df, tmp_path / f"{name}.parquet", about)
        pd.testing.assert_frame_equal(table.read(tmp_path / f"{name}.parquet"), df)
        assert set(df["source"]) == {"published"} and df["seed"].isna().all()
        counted = df[df["n"].notna() & df["metric"].isin(["exact_match", "multiple_choice_grade"])]
        right = counted["score"] * counted["n"].astype(float)
        assert (right - right.round()).abs().max() < 1e-2
        assert (counted["low"] <= counted["score"]).all() and (counted["score"] <= counted["high"]).all()


def test_obs_scaling_holds_the_published_numbers(tables):
    df = tables["obs_scaling"]
    multiplication = df[df["task"] == "2-digit multiplication"].set_index("model")
    for model, score in {
        "EleutherAI/pythia-70m-deduped": 0.007,
        "huggyllama/llama-65b": 0.752,
        "facebook/opt-66b": 0.323,
    }.items():
        assert multiplication.loc[model, "score"] == score
    assert multiplication.loc["meta-llama/Llama-2-7b-hf", "scale"] == pytest.approx(84e21)  # 6 x 7e9 x 2e12
    assert df["model"].nunique() == 84 and df.dropna(subset="scale")["model"].nunique() == 73
    bleu = df[df["metric"] == "bleu_4"].set_index("model")
    assert bleu.loc["meta-llama/Llama-2-70b-hf", "score"] == pytest.approx(0.5306103866311969)
    assert bleu[["low", "high", "se", "chance"]].isna().all().all()
    assert set(df.loc[df["task"] == "parsinlu_qa", "chance"]) == {0.25}


def test_obs_scaling_s_emergence_scores(found):
    scores = found["obs_scaling"].results["scores"].set_index(["family", "task", "metric"])["emergence_inf"]
    want = {  # exact match, BLEU: computed by hand from the same file
        "OPT": (np.inf, 25.0), "BLOOM": (np.inf, 18.6), "GPT-Neo/J": (np.inf, 6.9), "StarCoder": (np.inf, 3.4),
        "Pythia": (0, 12.8), "Llama": (3.6, 2.8),
    }  # fmt: skip
    for family, pair in want.items():
        got = [scores[family, "ipa_transliterate", metric] for metric in ("exact_match", "bleu_4")]
        assert got == pytest.approx(pair, abs=0.05)
    for family, score in {"OPT": 54.0, "Pythia": 25.3, "Qwen1.5": 21.2}.items():
        assert scores[family, "3-digit addition", "exact_match"] == pytest.approx(score, abs=0.05)


def test_pythia_by_size_and_by_step_are_the_same_scores(tables):
    df = tables["pythia"]
    steps = df[(df["scale_kind"] == "step") & (df["scale"] == pythia.LAST)]
    sizes = df[(df["scale_kind"] == "params") & df["task"].isin(steps["task"]) & ~df["family"].isin(["OPT", "BLOOM"])]
    assert sorted(zip(steps["task"], steps["metric"], steps["score"], strict=True)) == sorted(
        zip(sizes["task"], sizes["metric"], sizes["score"], strict=True)
    )
    assert (df["scale"] > 0).all()
    at = df[(df["task"] == "lambada_openai") & (df["scale_kind"] == "params") & (df["family"] == "OPT")]
    assert sorted(at.loc[at["metric"] == "exact_match", "scale"]) == [
        125e6,
        350e6,
        1.3e9,
        2.7e9,
        6.7e9,
        13e9,
        30e9,
        66e9,
    ]
    assert sorted(df.loc[df["family"] == "BLOOM", "scale"].unique()) == [560e6, 1.1e9, 1.7e9, 3e9, 7.1e9]


def test_pythia_s_arithmetic_is_pooled_over_the_first_operand(tables, data_dir):
    raw = pd.read_csv(data_dir / "pythia_evals" / "raw_term_frequency" / "pythia-13b-deduped.csv.gz")
    own = raw[raw["task"].str.contains("addition") & (raw["checkpoint"] == 143_000) & (raw["fewshot"] == 16)]
    df = tables["pythia"]
    (row,) = df[
        (df["task"] == "arithmetic addition") & (df["scale_kind"] == "params") & (df["scale"] == 13e9)
        & (df["setting"] == "shots=16")
    ].to_dict("records")  # fmt: skip
    assert row["n"] == 5000 == 50 * len(own) and row["score"] == pytest.approx(own["acc"].mean(), abs=1e-12)


def test_pythia_says_what_it_leaves_out(found):
    left = found["pythia"].results["left_out"].set_index("reason")["rows"]
    evals = sum(1 for row in found["pythia"].rows if "items:from the errors" in row["signature"])
    sizes = sum(row["scale_kind"] == "params" and row["family"].startswith("Pythia") for row in found["pythia"].rows
                if not row["task"].startswith(("arithmetic", pythia.MMLU)))  # fmt: skip
    assert evals - sizes + left.sum() == 210_765  # every row of the source is kept (the last step twice) or counted


def test_openlm_by_loss_and_by_size(tables):
    df = tables["openlm"]
    loss = df[df["scale_kind"] == "loss"]
    assert loss["model"].nunique() == 104 and loss.groupby("family")["scale"].nunique().tolist() == [34, 35, 35]
    assert (df[df["scale_kind"] == "params"].groupby(["family", "task"]).size() == 6).all()
    piqa = loss[(loss["task"] == "piqa") & (loss["model"] == "c4_original-d=1024_l=24_h=8-0.25")].iloc[0]
    assert piqa["scale"] == pytest.approx(3.52794929) and piqa["score"] == pytest.approx(1112 / 1838, abs=1e-6)
    zero = loss.groupby("task")["score"].min() < 0.05
    assert set(zero.index[zero]) == set(openlm.FREE_FORM)  # of chosen answers some are right by luck


# --- what is made of them ---


def test_every_curve_gets_a_verdict_and_every_claim_a_record(found, tables):
    for name, out in found.items():
        verdicts = out.results["verdicts"]
        key = ["study", "source", "task", "metric", "family", "scale_kind", "setting"]
        rows = table.frame([{"study": name, **row} for row in out.rows]).dropna(subset="scale")
        rows = rows[rows["scale_kind"].isin(verdicts["scale_kind"].unique())]
        assert len(verdicts) == rows.groupby(key, dropna=False).ngroups and not verdicts.duplicated(key).any()
        few = verdicts[verdicts["scales"] < 5]
        assert (few["label"] == "INSUFFICIENT_SCALES").all()
        unknown = set(rows.loc[rows["n"].isna() & rows["scale_kind"].eq("params"), "task"])
        dark = verdicts[verdicts["task"].isin(unknown) & (verdicts["scales"] >= 5)]
        assert (dark["label"] == "INSUFFICIENT_RESOLUTION").all() and (dark["reason"] == "unknown n").all()
        # no linear metric stands beside any of these scores
        assert not verdicts["label"].isin(["METRIC_INDUCED", "SEED_BIMODAL"]).any() and (verdicts["pair"] == "").all()
    results = {f"{name}_{part}": df for name, out in found.items() for part, df in out.results.items()}
    records = {claim.id: record(claim, tables | results) for claim in verdicts_claims.CLAIMS}
    untested = {name for name, told in records.items() if told["status"] == "not testable here"}
    by_size = {"checkpoints_decide"} - set(results["pythia_verdicts"]["scale_kind"].map({"step": "checkpoints_decide"}))
    assert untested == {"annotated_multiple_choice_grade", "annotated_exact_match"} | by_size
    assert records["swap_lowers"]["value"] == pytest.approx(6 / 7)  # of seven families Pythia's rises, from 0
    assert records["progress_before_emergence"]["status"] == "holds" and records["progress_before_emergence"]["n"] == 16
    for name in ("bigg_verdicts", "meta_analysis", "obs_scaling", "pythia", "openlm"):
        module = importlib.import_module(f"scripts.figures.{name}")
        with plotting.style():
            figure = module.draw(*((tables | results)[needed] for needed in module.TABLES))
        assert len(plotting.points(figure)) > 20


def test_the_published_shares_are_stated_beside_what_the_data_give(found):
    scores = found["bigg"].results["scores"]
    note = verdicts_claims._annotated("multiple_choice_grade", scores).note
    sharp = scores[scores["accuracy"] & (scores["emergence_inf"] > 11)]  # a straight line over twelve sizes
    choice = (sharp["metric"] == "multiple_choice_grade").sum()
    assert f"above a straight line, as printed, {choice};" in note and "64 stand under this metric" in note
    assert sum(verdicts_claims.PUBLISHED.values()) == 62  # of 67: 92.5%, the paper's "more than 92%"


def test_p_values_of_curves_are_those_of_their_families():
    rng = np.random.default_rng(1)
    n, families = 200, 400
    right = rng.binomial(n, 0.3, size=(families, 8)) / n
    rows = [
        {"study": "x", "source": "published", "family": str(f), "model": str(m), "task": "t", "metric": "exact_match",
         "scale_kind": "params", "scale": 10.0**m, "score": right[f, m], "se": 0.01, "n": n, "setting": ""}
        for f in range(families) for m in range(8)
    ]  # fmt: skip
    p = pd.DataFrame(obs_scaling.curve_scores(table.frame(rows)))["p"]
    assert alarms.counts(int((p <= 0.1).sum()), families, 0.08, 0.12)  # models that do not improve


def test_models_on_one_curve_of_the_loss_collapse_and_others_do_not():
    loss = np.tile(np.linspace(2.5, 5, 10), 3)
    size = np.repeat([1e7, 1e8, 1e9], 10)

    def found(score):
        rows = pd.DataFrame({"task": "t", "family": "f", "metric": "exact_match", "model": np.arange(30).astype(str)})
        rows = rows.assign(params=size, scale=loss + 1e-3 * (size == 1e8), score=score, n=1000)
        return next(openlm._collapse(rows, openlm.Config(permutations=99)))

    one, apart = found(1 - loss / 5), found(1 - loss / 5 - 0.1 * (size == 1e9))
    assert one["explained"] > 0.99 and one["between"] < 0.2
    assert apart["explained"] < 0.97 and apart["between"] > 0.3 and apart["p"] <= 0.05


# --- files that do not fit ---


def change(path: Path, old: str, new: str) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).decode().replace(old, new, 1).encode(), 1))
    else:
        path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("obs_scaling", "base_llm_emergent_capability_eval.csv", "Model,", "Name,", "expected rows of Model, parsinlu"),
        ("obs_scaling", "base_llm_emergent_capability_eval.csv", "0.089,", "1.089,", "expected a family, shares and BLEU"),
        ("obs_scaling", "base_llm_emergent_capability_eval.csv", "0.089,", "none,", "expected a family, shares and BLEU"),
        ("obs_scaling", "base_llm_emergent_capability_eval.csv", "13b-hf", "7b-hf", "two of meta-llama/Llama-2-7b-hf"),
        ("obs_scaling", "base_llm_benchmark_eval.csv", "Llama-2-7b-hf,", "Lama,", "expected a family, shares and BLEU"),
        ("obs_scaling", "base_llm_benchmark_eval.csv", ",84.0,", ",-84.0,", "expected a family, shares and BLEU"),
        ("openlm_scaling", "openlm_scaling.csv.gz", "c4_loss", "loss", "expected rows of model, dataset"),
        ("openlm_scaling", "openlm_scaling.csv.gz", ",0.20000000298023224", ",1.2", "row 0: expected one accuracy"),
        ("openlm_scaling", "openlm_scaling.csv.gz", ",agi_eval_lsat_rc,", ",agi_eval_lsat_ar,", "row 1: expected one"),
        ("pythia_evals", "evals_tidy.csv.gz", ",value,", ",score,", "expected rows of family, model"),
        ("pythia_evals", "evals_tidy.csv.gz", ",acc,0.31,", ",acc,1.31,", "expected one score and error"),
        ("pythia_evals", "evals_tidy.csv.gz", ",acc,0.31,", ",acc,x,", "column value: expected numbers"),
        ("pythia_evals", "raw_term_frequency/pythia-13b-deduped.csv.gz", ",16,0.02,", ",16,0.03,", "expected one share of 50"),
    ],
)  # fmt: skip
def test_a_published_table_that_does_not_fit_is_refused(data_dir, tmp_path, name, file, old, new, message):
    if not (data_dir / name).is_dir():
        pytest.skip(f"no {data_dir / name}")
    shutil.copytree(data_dir / name, tmp_path / name)
    for path in (tmp_path / name).rglob("*"):
        path.chmod(0o755)
    (tmp_path / name).chmod(0o755)
    change(tmp_path / name / file, old, new)
    (study,) = [s for s in STUDIES.values() if s.DATA == (name,)]
    with pytest.raises(InputError, match=message):
        study.run(study.PRESETS["quick"], **{name: tmp_path / name})


def test_sizes_are_read_as_they_are_written():
    assert [pythia.params(size) for size in ("70m", "1.4b", "12b", "1b1", "7b1", "560m")] == pytest.approx(
        [7e7, 1.4e9, 1.2e10, 1.1e9, 7.1e9, 5.6e8]
    )
