"""The one table: what is refused, what comes back, and that no damaged byte is read (R6)."""

import shutil

import numpy as np
import pandas as pd
import pytest

from mirage_jax import cli, files, table
from mirage_jax.errors import InputError

ROW = {
    "study": "s", "source": "simulated", "family": "f", "model": "m", "setting": "K=5", "scale_kind": "params", "scale": 1e9,
    "task": "t", "length": 3, "metric": "exact_match", "score": 0.5, "low": 0.4, "high": 0.6, "se": 0.05, "n": 100,
    "missing": 0, "unparsed": 1, "chance": 0.1, "seed": 0, "signature": "exact_match|v:1",
}  # fmt: skip
ABOUT = {"reuse": {"config_hash": "0123456789abcdef"}, "study": "s"}


def rows(count=4):
    return [ROW | {"model": f"m{i}", "scale": 10.0**i, "score": 0.4 + i / 100} for i in range(count)]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "tables" / "one.parquet"
    table.write(table.frame(rows()), path, ABOUT)
    return path


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.nan}, r"row 1, column score: expected a number \(null only where n = 0\), got nan"),
        ({"score": None, "n": None}, "row 1, column score"),
        ({"score": "0.5"}, "row 1, column score: expected a number, got '0.5'"),
        ({"score": "high"}, "row 1, column score: expected a number, got 'high'"),
        ({"score": True}, "row 1, column score: expected a number, got True"),
        ({"score": np.inf}, "row 1, column score: expected a finite number, got inf"),
        ({"scale": -np.inf}, "row 1, column scale: expected a finite number, got -inf"),
        ({"n": -1}, "row 1, column n: expected a count >= 0, got -1"),
        ({"missing": -1}, "row 1, column missing: expected a count >= 0"),
        ({"n": 1.5}, "row 1, column n: expected a whole number, got 1.5"),
        ({"seed": "0"}, "row 1, column seed: expected a whole number, got '0'"),
        ({"low": 0.7}, "row 1, column low: expected a bound not above the score, got 0.7"),
        ({"high": 0.3}, "row 1, column high: expected a bound not below the score, got 0.3"),
        ({"se": -0.1}, "row 1, column se: expected a number >= 0, got -0.1"),
        ({"source": "guessed"}, "row 1, column source: expected one of simulated, .*, got 'guessed'"),
        ({"scale_kind": "size"}, "row 1, column scale_kind: expected one of params, .*, got 'size'"),
        ({"scale_kind": None}, "row 1, column scale_kind: expected one of"),
        ({"model": ""}, "row 1, column model: expected text, got ''"),
        ({"model": None}, "row 1, column model: expected text, got"),
        ({"model": 7}, "row 1, column model: expected text, got 7"),
        ({"task": 1.5}, "row 1, column task: expected text, got 1.5"),
    ],
)
def test_a_bad_cell_is_named(change, message):
    with pytest.raises(InputError, match=message):
        table.frame([ROW, ROW | {"model": "other"} | change])


def test_missing_and_unknown_columns_are_named():
    df = table.frame([ROW])
    with pytest.raises(InputError, match=r"missing \['score', 'n'\], unknown \['Score'\]"):
        table.check(df.drop(columns="n").rename(columns={"score": "Score"}))
    with pytest.raises(InputError, match=r"unknown \['extra'\]"):
        table.frame([ROW | {"extra": 1}])


def test_no_rows_are_refused():
    for empty in (table.frame([ROW]).iloc[:0], pd.DataFrame()):
        with pytest.raises(InputError, match="expected at least one row, got an empty table"):
            table.check(empty)
    with pytest.raises(InputError, match="expected at least one row"):
        table.frame([])


@pytest.mark.parametrize(
    "change", [{}, {"length": None}, {"scale": None, "scale_kind": None}, {"seed": None, "family": None}]
)
def test_two_scores_for_one_cell_are_named(change):
    with pytest.raises(InputError, match=r"rows 1 and 3 are two scores for one cell \(study=s, .*model=m"):
        table.frame([ROW | {"model": "a"}, ROW | change, ROW | {"model": "b"}, ROW | change | {"score": 0.45}])


@pytest.mark.parametrize("name", table.KEY)
def test_every_part_of_the_key_tells_rows_apart(name):
    other = {"source": "api", "scale_kind": "flops", "length": 4, "scale": 2.0, "seed": 1, "setting": "k=2"}.get(
        name, "other"
    )
    assert len(table.frame([ROW, ROW | {name: other}])) == 2


def test_what_a_published_source_leaves_out_is_null():
    bare = {"study": "s", "source": "published", "model": "m", "task": "t", "metric": "bleu", "score": 0.25}
    df = table.frame([bare])
    assert df.loc[0, ["n", "low", "se", "family", "length", "seed"]].isna().all()


def test_a_diverged_seed_is_a_row_without_a_score():
    df = table.frame([ROW | {"score": None, "low": None, "high": None, "se": None, "n": 0, "missing": 100}])
    assert np.isnan(df.loc[0, "score"]) and len(table.flags(df)) == 1


def test_cells_with_many_lost_answers_are_flagged():
    lost = [{"missing": 0, "unparsed": 5}, {"missing": 0, "unparsed": 6}, {"missing": 6, "unparsed": 0}]
    df = table.frame([ROW | {"n": 1000, "model": f"m{i}"} | change for i, change in enumerate(lost)])
    assert table.flags(df)["model"].tolist() == ["m1", "m2"]  # from more than .5 %


# --- round trip ---


def test_round_trip(written):
    df = table.read(written)
    pd.testing.assert_frame_equal(df, table.frame(rows()))
    assert list(df.columns) == list(table.columns)
    assert df["n"].dtype == "Int64" and df["score"].dtype == "float64"


def test_equal_content_gives_equal_bytes(tmp_path):
    one, two = tmp_path / "a" / "t.parquet", tmp_path / "b" / "t.parquet"
    table.write(table.frame(rows()), one, ABOUT)
    shuffled = table.frame(rows())[::-1][::-1]
    shuffled.index = [7, 5, 3, 1]
    shuffled.attrs["note"] = "of no matter"
    table.write(shuffled, two, ABOUT)
    assert one.read_bytes() == two.read_bytes()
    assert one.with_suffix(".json").read_bytes() == two.with_suffix(".json").read_bytes()


def test_a_result_has_free_columns(tmp_path):
    df = pd.DataFrame({"test": ["t"], "p": [0.01]})
    table.write(df, tmp_path / "r.parquet", ABOUT, kind="result")
    pd.testing.assert_frame_equal(table.read(tmp_path / "r.parquet"), df)


def test_a_bad_table_is_not_written(tmp_path):
    df = table.frame(rows())
    df.loc[0, "score"] = np.nan
    with pytest.raises(InputError, match="row 0, column score"):
        table.write(df, tmp_path / "t.parquet", ABOUT)
    with pytest.raises(InputError, match="ends in .parquet"):
        table.write(table.frame(rows()), tmp_path / "t.csv", ABOUT)
    assert not list(tmp_path.iterdir())


# --- damage ---


def damages(data, flips, cuts, seed):
    """Copies of the bytes with one bit flipped, and cut short."""
    rng = np.random.default_rng(seed)
    for at, bit in zip(rng.integers(0, len(data), flips), rng.integers(0, 8, flips), strict=True):
        changed = bytearray(data)
        changed[at] ^= 1 << int(bit)
        yield bytes(changed)
    for at in rng.integers(0, len(data), cuts):
        yield data[:at]


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_no_flip_or_truncation_is_read(written, suffix, count):
    victim = written.with_suffix(suffix)
    whole = victim.read_bytes()
    for seed, bad in enumerate(damages(whole, count(1000), count(200), seed=0)):
        victim.write_bytes(bad)
        with pytest.raises(InputError, match=r"one\.(json|parquet)"):
            table.read(written)
        if seed % 20 == 0:
            assert any(victim.name in fault for fault in table.verify(written.parent))
    victim.write_bytes(whole)
    assert table.verify(written.parent) == []


def test_no_damage_to_the_list_of_sums_is_missed(written, count):
    folder = written.parent.parent
    files.write_sums(folder)
    sums = folder / files.SUMS
    whole = sums.read_bytes()
    for bad in damages(whole, count(1000), count(200), seed=1):
        sums.write_bytes(bad)
        assert any(files.SUMS in fault or "SHA-256" in fault for fault in table.verify(folder))
    sums.write_bytes(whole)
    assert table.verify(folder) == []


def test_parts_of_two_tables_do_not_mix(written):
    other = written.with_name("two.parquet")
    table.write(table.frame(rows(3)), other, ABOUT)
    held = {
        path: path.read_bytes() for path in (written, other, written.with_suffix(".json"), other.with_suffix(".json"))
    }
    for one, two in ((written, other), (written.with_suffix(".json"), other.with_suffix(".json"))):
        one.write_bytes(held[two])
        two.write_bytes(held[one])
        for path in (written, other):
            with pytest.raises(InputError, match=path.stem):
                table.read(path)
        one.write_bytes(held[one])
        two.write_bytes(held[two])


def test_a_pair_under_another_name_is_named(written):
    for suffix in (".parquet", ".json"):
        written.with_suffix(suffix).rename(written.with_name(f"two{suffix}"))
    assert any("two.parquet" in fault and "one.parquet" in fault for fault in table.verify(written.parent))


def test_same_bytes_of_another_run_do_not_pass_for_this_one(written):
    forged = files.read_json(written.with_suffix(".json"))
    forged["reuse"] = {"config_hash": "f" * 16}
    del forged["checksum"]
    forged["checksum"] = files.sha256(files.to_json(forged).encode())
    files.write(written.with_suffix(".json"), files.to_json(forged))
    with pytest.raises(InputError, match="come from different runs"):
        table.read(written)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "nonsense", '{"checksum": NaN}', '{"checksum": "00"}', "[" * 100_000, "\udc00"]
)
def test_what_is_not_a_sidecar_is_refused(written, content):
    written.with_suffix(".json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=r"one\.json"):
        table.read(written)


@pytest.mark.parametrize("key", ["sha256", "reuse", "kind", "file"])
def test_a_sidecar_without_its_parts_is_refused(written, key):
    sidecar = files.read_json(written.with_suffix(".json"))
    del sidecar[key], sidecar["checksum"]
    sidecar["checksum"] = files.sha256(files.to_json(sidecar).encode())
    files.write(written.with_suffix(".json"), files.to_json(sidecar))
    assert any("one." in fault for fault in table.verify(written.parent))


def test_a_table_without_its_sidecar_is_named(written):
    written.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"has no sidecar: expected .*one\.json"):
        table.read(written)
    assert any("one.parquet" in fault for fault in table.verify(written.parent))


# --- mirage verify ---


def test_verify_names_the_damaged_file_and_ends_with_2(written, capsys):
    folder = written.parent.parent
    shutil.copy(written, folder / "copy.bin")
    files.write_sums(folder)
    assert cli.main(["verify", str(folder)]) == 0
    assert "every file is as it was written" in capsys.readouterr().out
    (folder / "copy.bin").write_bytes(b"other")
    (folder / "new.txt").write_text("unlisted")
    written.with_suffix(".json").write_bytes(b"{}")
    assert cli.main(["verify", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for name in ("copy.bin: content differs", "new.txt: not listed", "one.json is not a table's sidecar"):
        assert name in error


@pytest.mark.parametrize("name", ["absent", "empty", "file"])
def test_verify_of_nothing_ends_with_2(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert cli.main(["verify", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_signature_holds_every_option(monkeypatch):
    assert table.signature("em", tokens="characters", data="1a").startswith("em|data:1a|tokens:characters|v:")
    seen = {table.signature("em", **how) for how in ({}, {"K": 1}, {"K": 2}, {"c": 1}, {"K": 1, "c": 1})}
    before = table.signature("em")
    monkeypatch.setattr(table, "VERSION", "9.9.9")
    assert len(seen | {table.signature("em"), before, table.signature("f1")}) == 7


def test_config_hash_depends_on_all_of_it():
    seen = {
        table.config_hash(s, c)
        for s, c in (("a", {}), ("b", {}), ("a", {"k": 1}), ("a", {"k": "1"}), ("a", {"k": [1]}))
    }
    assert len(seen) == 5
    assert table.config_hash("a", {"x": 1, "y": 2}) == table.config_hash("a", {"y": 2, "x": 1})


def test_settings_are_sorted_text_and_come_back():
    text = table.setting(K=5, c=0.1, a="x")
    assert text == "K=5;a=x;c=0.1"
    assert table.read_setting(text) == {"K": "5", "a": "x", "c": "0.1"}
    assert table.read_setting(None) == table.read_setting(float("nan")) == table.read_setting("") == {}


def test_rows_are_selected_by_their_setting():
    df = pd.DataFrame({"setting": ["K=5;c=0.1", "K=50", None, "K=5"], "score": [1, 2, 3, 4]})
    assert table.select(df, K=5)["score"].tolist() == [1, 4]
    assert table.select(df, K=5, c=None)["score"].tolist() == [4]
    assert table.select(df, K=None)["score"].tolist() == [3]
    empty = table.select(df, K=7)
    assert list(empty.columns) == ["setting", "score"] and empty.empty
