"""Target string length: enumerations by brute force, laws against simulation, figure and claims."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from alarms import counts, histogram, sigmas

from mirage_jax import evaluate, plotting, scaling, sweep, table
from scripts.claims import resolution as claims
from scripts.claims.record import record
from scripts.figures import answer_length as figure
from sims import answer_length, processes
from sims.answer_length import MODES, PROFILES, TASKS, answers

SMALL = answer_length.Config(samples=256, scales=2, lengths=(1, 2, 4, 5))


@pytest.fixture(scope="module")
def counted():
    return sweep.run(answer_length.jobs(SMALL))


@pytest.fixture(scope="module")
def output(counted):
    return answer_length.rows(SMALL, counted)


def test_shares_of_digits_are_the_known_ones():
    # science, 3.2
    known = {
        "products_0_99": {1: 0.0222, 2: 0.0450, 3: 0.2718, 4: 0.6610},
        "products_10_99": {3: 0.1840, 4: 0.8160},
        "sums_1000_9999": {4: 0.3951, 5: 0.6049},
    }
    for name, shares in known.items():
        found = {r["length"]: r["share"] for r in answer_length.lengths_of(name) if r["counted"] == "digits"}
        assert found == pytest.approx(shares, abs=5e-5) and sum(found.values()) == pytest.approx(1)
    assert [answers(name).pairs.sum() for name in TASKS] == [10**4, 90**2, 9000**2]


def test_no_task_has_answers_of_one_to_five_tokens_however_separators_count():
    of = {(r["task"], r["counted"]): set() for name in TASKS for r in answer_length.lengths_of(name)}
    for row in (r for name in TASKS for r in answer_length.lengths_of(name)):
        of[row["task"], row["counted"]].add(row["length"])
    assert of["products_0_99", "digits and thousands commas"] == {1, 2, 3, 5}
    assert of["products_10_99", "digits and an end token"] == {4, 5}
    assert not any({1, 2, 3, 4, 5} <= lengths for lengths in of.values())
    slices = answer_length.strata(answer_length.Config())
    assert {(mode, length) for name, mode, length in slices if name == "products_10_99"} == {
        ("answer_length", 3), ("answer_length", 4), *itertools.product(("prefix", "suffix"), (1, 2, 3, 4))
    }  # fmt: skip


def test_slices_and_guesses_by_brute_force():
    texts = [str(a * b) for a in range(100) for b in range(100)]
    for mode, length in itertools.product(MODES, (1, 2, 3, 4)):
        own = [t for t in texts if (len(t) == length if mode == "answer_length" else len(t) >= length)]
        cut = [t[-length:] if mode == "suffix" else t[:length] for t in own]
        of = answers("products_0_99")
        pairs = of.pairs[answer_length.stratum(of, mode, length)]
        slices = Counter()
        for text, n in zip(answer_length.scored(of, mode, length), pairs, strict=True):
            slices[f"{text:0{length}}"] += int(n)
        assert slices == Counter(cut)
        found = answer_length.guesses("products_0_99", mode, length)
        assert found["constant"] == pytest.approx(max(Counter(cut).values()) / len(cut))
        known = {d: Counter(c for c, t in zip(cut, own, strict=True) if t[-1] == d) for d in "0123456789"}
        assert found["knows_last"] == pytest.approx(sum(max(c.values(), default=0) for c in known.values()) / len(cut))
        places = [max(Counter(c[k] for c in cut).values()) / len(cut) for k in range(length)]
        assert found["by_place"] == pytest.approx(np.prod(places))


def test_digits_of_sums_and_their_pairs():
    of = answers("sums_1000_9999")
    assert of.value[[0, -1]].tolist() == [2000, 19998] and of.pairs[[0, 1, -1]].tolist() == [1, 2, 1]
    at = int(np.searchsorted(of.value, 12_034))
    assert of.digits[at].tolist() == [1, 2, 0, 3, 4] and of.size[at] == 5
    assert of.digits[int(np.searchsorted(of.value, 9_876))].tolist() == [9, 8, 7, 6, 0]


def test_the_last_digits_depend_on_as_many_operand_digits():
    a, b = np.meshgrid(np.arange(100), np.arange(100))
    for k in (1, 2):
        last = {(x, y): set() for x in range(10**k) for y in range(10**k)}
        for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
            last[x % 10**k, y % 10**k].add(x * y // 10 ** (k - 1) % 10)
        assert all(len(digits) == 1 for digits in last.values())
    tens = [
        len({x * y // 10 % 10 for x in range(p, 100, 10) for y in range(q, 100, 10)})
        for p in range(10)
        for q in range(10)
    ]
    assert max(tens) == 10  # units alone do not tell the tens
    product, total = TASKS["products_10_99"], TASKS["sums_1000_9999"]
    assert answer_length.weights("last_easy", product, 4) == pytest.approx(np.array([2, 2, 2, 1]) / 1.75)
    assert answer_length.weights("last_easy", total, 5) == pytest.approx(np.array([4, 4, 3, 2, 1]) / 2.8)
    assert answer_length.weights("first_easy", total, 5) == pytest.approx(np.array([1, 2, 3, 4, 4]) / 2.8)
    assert answer_length.weights("equal", total, 5).tolist() == [1.0] * 5


def test_laws_of_whole_answers_are_the_papers_and_slices_part():
    loss = np.array([0.1, 0.7, 2.0])
    p = np.exp(-loss)
    for name, mode, length in answer_length.strata(answer_length.Config()):
        equal = answer_length.laws(name, mode, length, "equal", loss)
        assert equal["exact_match"] == pytest.approx(p**length)
        assert equal["token_edit_distance"] == pytest.approx(length * (1 - p))
        for profile in PROFILES if mode == "answer_length" else ():
            assert answer_length.laws(name, mode, length, profile, loss)["exact_match"] == pytest.approx(p**length)
    first, last = (
        answer_length.laws("sums_1000_9999", mode, 2, "last_easy", loss)["exact_match"] for mode in ("prefix", "suffix")
    )
    mirrored = answer_length.laws("sums_1000_9999", "prefix", 2, "first_easy", loss)["exact_match"]
    assert np.all(last > first) and mirrored == pytest.approx(last)


def test_laws_are_those_of_the_process_of_rates_by_position():
    task = TASKS["products_10_99"]
    rates = 1 - answer_length.success("last_easy", task, 4, np.array(0.6))
    prefix = processes.prefix_law("by_position", 4, rates)
    law = answer_length.laws("products_10_99", "answer_length", 4, "last_easy", np.array(0.6))
    assert law["exact_match"] == pytest.approx(prefix[-1])
    law = answer_length.laws("products_10_99", "prefix", 4, "last_easy", np.array(0.6))
    assert law["token_edit_distance"] == pytest.approx(processes.counts_law("by_position", 4, rates) @ np.arange(5))


def test_simulated_scores_follow_their_laws(output):
    df = table.frame([{"study": "answer_length", **row} for row in output.rows])
    keys = ["task", "setting", "length", "scale", "metric"]
    law = df[df["source"] == "closed_form"].set_index(keys)["score"]
    drawn = df[df["source"] == "simulated"].set_index(keys)
    assert (drawn["n"] == SMALL.samples).all() and len(drawn) == len(law)  # as many answers for every length
    exact = drawn.xs("exact_match", level="metric").join(law.xs("exact_match", level="metric").rename("law"))
    some = exact[exact.index.get_level_values("length") != 1].iloc[::5]
    assert len(some) > 20
    assert counts(np.rint(some["score"] * SMALL.samples), SMALL.samples, some["law"])
    assert drawn.xs("exact_match", level="metric")["chance"].notna().all()
    loss = scaling.cross_entropy(1e7)
    one = answer_length.guesses("products_0_99", "suffix", 1)["constant"]
    assert exact.loc[("products_0_99", "mode=suffix;profile=equal", 1, 1e7), "law"] == pytest.approx(np.exp(-loss))
    assert one == pytest.approx(0.27)


def test_items_are_drawn_as_pairs_of_operands_are_and_err_at_their_rates():
    draw = np.random.default_rng(0)
    found = answer_length.items(draw, 20_000, "products_10_99", "suffix", 2, "last_easy", 0.8)
    target, given = np.asarray(found.target), np.asarray(found.predicted)
    assert target.shape == (20_000, 2)
    of = answers("products_10_99")
    text = answer_length.scored(of, "suffix", 2)
    pmf = np.bincount(text, weights=of.pairs, minlength=100) / of.pairs.sum()
    assert histogram(np.bincount(target @ [10, 1], minlength=100), pmf)
    wrong = target != given
    law = answer_length.laws("products_10_99", "suffix", 2, "last_easy", np.array(0.8))
    assert counts(np.sum(~wrong.any(1)), 20_000, law["exact_match"])
    mean = wrong.sum(1)
    assert abs(mean.mean() - law["token_edit_distance"]) <= sigmas() * mean.std() / np.sqrt(20_000)
    shifts = (given - target)[wrong] % 10
    assert histogram(np.bincount(shifts, minlength=10), np.array([0, *[1 / 9] * 9]))


def test_edit_distance_is_below_the_mismatches(output):
    found = answer_length.items(np.random.default_rng(0), 5000, "sums_1000_9999", "suffix", 5, "equal", 2.0)
    edits = np.asarray(evaluate(found, "token_edit_distance")["token_edit_distance"])
    mismatches = (np.asarray(found.target) != np.asarray(found.predicted)).sum(1)
    assert np.all(edits <= mismatches) and edits.mean() < mismatches.mean()
    df = table.frame([{"study": "answer_length", **row} for row in output.rows])
    rows = df[df["metric"] == "token_edit_distance"]
    law, drawn = (rows[rows["source"] == source] for source in ("closed_form", "simulated"))
    gap = drawn["score"].to_numpy() - law["score"].to_numpy()
    assert gap.sum() <= sigmas() * np.sqrt((drawn["se"] ** 2).sum())


def test_shards_add_up_and_draws_go_by_value(counted, monkeypatch):
    monkeypatch.setattr(sweep, "PART", 1 << 21)
    jobs = answer_length.jobs(SMALL)
    assert len(sweep.plan(jobs)) > 4
    shards = [sweep.run(jobs, shard=(i, 2))["answers"] for i in (1, 2)]
    assert np.array_equal(sum(shards), counted["answers"])
    fewer = dataclasses.replace(SMALL, lengths=(4,))
    kept = [i for i, ((_, _, length), _, _) in enumerate(answer_length._cells(SMALL)) if length == 4]
    assert np.array_equal(sweep.run(answer_length.jobs(fewer))["answers"], counted["answers"][kept])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 0}, "samples >= 1"),
        ({"scales": 1}, "scales >= 2"),
        ({"lengths": (0,)}, "expected lengths from 1 to 5, got (0,)"),
        ({"lengths": (6,)}, "expected lengths from 1 to 5, got (6,)"),
        ({"lengths": ()}, "expected lengths from 1 to 5, got ()"),
        ({"c": float("nan")}, "expected finite c and alpha"),
        ({"alpha": 0.0}, "alpha must be negative, got 0.0"),
        ({"c": -1.0}, "c must be positive, got -1.0"),
    ],
)
def test_refusals_are_one_line(change, said):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(SMALL, **change)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_figure_draws_and_claims_decide(output):
    rows = table.frame([{"study": "answer_length", **row} for row in output.rows])
    tables = {"answer_length": rows} | {f"answer_length_{name}": frame for name, frame in output.results.items()}
    with plotting.style():
        drawn = figure.draw(*(tables[name] for name in figure.TABLES))
        assert len(drawn.axes) == 4 and len(plotting.points(drawn)) > 30
        assert plotting.render(drawn, "png")
    told = {c.id: record(c, tables) for c in claims.CLAIMS if set(c.needs) <= set(tables)}
    assert {name: told[name]["status"] for name in told} == {
        "answer_length_sweep": "fails", "answer_length_slices": "mixed", "answer_length_powers": "mixed",
        "answer_length_chance": "fails",
    }  # fmt: skip
    assert told["answer_length_sweep"]["value"] == 2 / 5
    assert told["answer_length_chance"]["value"] == pytest.approx(24.2, abs=0.05)
