"""The benchmarks run, agree with their peers, and write what they print. How fast they are is asserted nowhere."""

import itertools
import json
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from scripts.bench import __main__ as bench
from scripts.bench import metrics, montecarlo, train
from scripts.bench.timing import in_turns
from train import fit

pytestmark = pytest.mark.usefixtures("quick_compile")

FIELDS = {"metric", "length", "vocabulary", "error_rate", "batch", "peer", "ratio", "ours_s", "peer_s"}


def test_metrics_bench_writes_every_row(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert bench.main(["metrics", "--quick", "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    rows = written["rows"]
    aligned = [row for row in rows if row["peer"].startswith("rapidfuzz ")]
    cells = {(row["metric"], row["length"], row["vocabulary"], row["error_rate"]) for row in aligned}
    assert len(cells) == len(aligned) == 2 * 5 * 2  # the quick run takes one vocabulary
    assert all(FIELDS <= set(row) for row in rows)
    assert {row["form"] for row in aligned} == {"word", "double_word", "host"}
    assert {row["metric"] for row in rows} >= {"rouge_l", "bleu_4", "brier_sum", "expected_calibration_error"}
    for row in rows:
        per_pair = row["peer_s"] / row.get("peer_batch", row["batch"]), row["ours_s"] / row["batch"]
        assert row["ratio"] == pytest.approx(per_pair[0] / per_pair[1])
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    assert written["devices"] and written["cpus"]


def test_montecarlo_bench_writes_every_row(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert bench.main(["montecarlo", "--quick", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    peers = {"naive", "numpy"} | ({"numba", "numba_threefry", "numba_xorshift"} if find_spec("numba") else set())
    assert {(row["engine"], row["against"]) for row in rows} == set(itertools.product(montecarlo.ENGINES, peers))
    assert len(rows) == len(montecarlo.ENGINES) * len(peers)
    for row in rows:
        assert {"engine", "against", "ratio", "tokens_per_s", "peak_mib"} <= set(row)
        assert min(row["ratio"], row["tokens_per_s"], row["peak_mib"], *row["ns_per_token"].values()) > 0
    said = capsys.readouterr().out
    assert ("numba is not installed" in said) == (find_spec("numba") is None)


def test_an_engine_that_miscounts_is_refused():
    right = montecarlo._engine("exact_law", jax.random.key(0), 4096)()
    montecarlo._agree("exact_law", right, 4096)
    with pytest.raises(AssertionError, match="exact_law does not count what it should"):
        montecarlo._agree("exact_law", right * 2, 4096)


def test_train_bench_writes_every_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "SIDES", {8: 4})
    out = tmp_path / "out.json"
    assert bench.main(["train", "--quick", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    peers = {"the same": [train.MEMBERS]} | ({"PyTorch": [1, train.MEMBERS]} if find_spec("torch") else {})
    assert [row["members"] for row in rows] == [*peers.get("PyTorch", []), *peers["the same"]]
    for row in rows:
        assert any(row["against"].startswith(peer) for peer in peers)
        assert row["ratio"] == pytest.approx(row["member_steps_per_s"] / row["peer_per_s"])
    said = capsys.readouterr().out
    assert ("torch is not installed" in said) == (find_spec("torch") is None)
    assert "no GPU: no row of 256 members against one" in said


def test_a_peer_that_trains_another_net_is_refused():
    case = train.Case(8, fit.Recipe(4, 0.01), 1)
    params = train.first_member(fit.initial(case.network, case.keys()))
    wrong: Any = SimpleNamespace(first=lambda: (2.5, train.as_torch(params)))
    with pytest.raises(AssertionError, match="other: loss 2.5, ours"):
        train.agree("other", case, train.ours_of(case), wrong)


def test_the_peer_learns_at_our_rate():
    recipe = fit.Recipe(40, 0.01)
    rate = train.Case(8, recipe, 1).rate
    assert [rate(step) for step in (0, 1, 2, 21, 40)] == pytest.approx(
        [0, 0.005, 0.01, 0.01 * (0.02 + 0.98 / 2), 0.0002]
    )


def test_a_row_whose_sides_disagree_is_refused(monkeypatch):
    monkeypatch.setattr(metrics.alignment, "edit_distance", lambda target, *rest: target[:, 0] * 0 - 1)
    with pytest.raises(AssertionError, match="token_edit_distance"):
        next(metrics.rows(quick=True))


def test_a_peer_that_is_absent_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(metrics.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    assert list(metrics.rows(quick=True)) == []
    assert "rouge_score is not installed: no row against it" in capsys.readouterr().out


@pytest.mark.parametrize("args", [["speed"], ["metrics", "--json", "/proc/out.json", "--quick"]])
def test_bad_use_is_one_line_and_2(args, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "rows", lambda quick: iter([{"metric": "none"}]))
    assert bench.main(args) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_sides_take_turns():
    said = []
    ours, peer = in_turns((lambda: said.append("ours"), lambda: said.append("peer")), 3)
    assert [side for side, _ in itertools.groupby(said)] == ["ours", "peer"] * 4
    assert ours >= 0 and peer >= 0
