"""`mirage verdict` and `mirage plan`: what is read, what is refused in one line, and what comes out."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_cli import run, tree

from mirage_jax import InputError, cli, files, table
from mirage_jax.decide import read
from mirage_jax.untrusted import read_csv_text

DECADES = np.linspace(7, 12, 8)
TOY = np.exp(-0.2 * 10 ** (0.3 * (12 - DECADES)))  # rate per token, the paper's power law
STEP = np.where(DECADES > 9.5, 0.6, 0.3)


def scores() -> pd.DataFrame:
    """A metric-induced jump (8 tokens, toy rate) and a threshold (2 tokens, the rate itself steps), each with its rate."""
    rows = []
    for task, p, length in (("toy", TOY, 8), ("step", STEP, 2)):
        for metric, values in (("exact_match", p**length), ("token_accuracy", p)):
            for at, score in zip(DECADES, values, strict=True):
                model = f"{at:.1f}"
                row = {"task": task, "metric": metric, "family": "f", "model": model, "scale": round(10**at)}
                rows.append(row | {"score": round(float(score), 3), "n": 1000, "length": length})
    return pd.DataFrame(rows)


LABELS = {
    ("toy", "exact_match"): "METRIC_INDUCED", ("toy", "token_accuracy"): "SMOOTH",
    ("step", "exact_match"): "THRESHOLD_SURVIVES", ("step", "token_accuracy"): "THRESHOLD_SURVIVES",
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores().to_csv("t.csv", index=False)
    return tmp_path


def labels(text: str) -> dict[tuple[str, str], str]:
    return {(row["task"], row["metric"]): row["label"] for row in json.loads(text)["verdicts"]}


# --- what comes out ---


@pytest.mark.parametrize("verb", ["verdict", "plan"])
def test_help_imports_nothing_heavy(verb):
    done = run("-X", "importtime", "-m", "mirage_jax", verb, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: mirage {verb}")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"jax", "numpy", "pandas", "pyarrow", "scipy", "jinja2"}


def test_the_listing_groups_and_counts_by_label(here, capsys):
    assert cli.main(["verdict", "t.csv"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert shown.err == ""
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads == ["SMOOTH: 1", "METRIC_INDUCED: 1", "THRESHOLD_SURVIVES: 2"]
    at = lines.index("METRIC_INDUCED: 1")
    assert lines[at + 1] == "  toy · exact_match · f (length 8)"
    assert lines[at + 2].startswith("    exact_match looks flat over")
    assert any(line.startswith("    What would change it:") for line in lines[at:])


def test_json_is_one_document_and_nothing_else(here, capsys):
    frame = scores()
    frame.loc[len(frame)] = frame.loc[0].to_dict() | {"metric": "unknown"}
    frame.to_csv("t.csv", index=False)
    assert cli.main(["verdict", "t.csv", "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert document["schema_version"] == 1 and document["table"] == "t.csv"
    assert labels(shown.out) == LABELS
    assert document["counts"]["THRESHOLD_SURVIVES"] == 2 and document["counts"]["NO_CHANGE"] == 0
    assert document["verdicts"][1]["needs_items"] is None  # NaN in the frame
    assert document["left_out"][0].startswith("1 rows of metrics without known facts (unknown)")
    assert shown.err.startswith("left out: 1 rows of metrics without known facts (unknown)")


def test_csv_is_alone_on_standard_output_too(here, capsys):
    assert cli.main(["verdict", "t.csv", "--csv"]) == 0
    shown = capsys.readouterr()
    found = list(csv.DictReader(io.StringIO(shown.out)))
    assert {(row["task"], row["metric"]): row["label"] for row in found} == LABELS and shown.err == ""


def test_files_are_written_and_named(here, capsys):
    forms = ["--csv", "out/v.csv", "--json", "out/v.json", "--html", "out/v.html"]
    assert cli.main(["verdict", "t.csv", *forms]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.splitlines() == ["out/v.csv", "out/v.json", "out/v.html"]
    assert labels(Path("out/v.json").read_text()) == LABELS
    header, *rows = read_csv_text(Path("out/v.csv").read_bytes().decode())
    assert [row[header.index("label")] for row in rows] == list(LABELS.values())
    assert "THRESHOLD_SURVIVES: 2" in Path("out/v.html").read_text()
    assert cli.main(["verdict", "t.csv", *forms, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_label_to_fail_on_ends_with_4(here, capsys):
    assert cli.main(["verdict", "t.csv", "--fail-on", "SMOOTH,NO_CHANGE", "--json"]) == 4
    shown = capsys.readouterr()
    assert shown.err == "--fail-on: 1 SMOOTH\n" and labels(shown.out) == LABELS
    assert cli.main(["verdict", "t.csv", "--fail-on", "NO_CHANGE", "--json"]) == 0


def test_hostile_text_is_shown_as_codes_and_kept_in_files(here, capsys):
    name = "=evil\x1b]0;x\x07\nforged: 1 \u202e\x7f<b>{0}%s"
    frame = scores().replace("toy", name)
    frame.loc[len(frame)] = frame.loc[0].to_dict() | {"metric": "odd\nforged"}
    frame.to_csv("t.csv", index=False)
    assert cli.main(["verdict", "t.csv"]) == 0
    assert cli.main(["verdict", "t.csv", "--csv"]) == 0
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert not set(said) & set("\x1b\x07\u202e\x7f") and r"=evil\x1b]0;x\x07\x0aforged: 1 \u202e\x7f<b>{0}%s" in said
    assert not any(line.startswith("forged") for line in said.splitlines())
    assert cli.main(["verdict", "t.csv", "--csv", "v.csv", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["verdicts"][0]["task"] == name and not set(text) & set("\x1b\x07\u202e\x7f")
    stored = Path("v.csv").read_bytes().decode()
    header, *rows = read_csv_text(stored)
    assert rows[0][header.index("task")] == name and "'=evil" in stored


# --- what is read ---


def test_columns_are_renamed(here, capsys):
    renamed = scores().rename(columns={"score": "acc,none", "family": "org", "n": "items"})
    renamed.assign(score="not a number").to_csv("t.csv", index=False)  # gives way to the column that is named
    assert cli.main(["verdict", "t.csv", "--json", "--map", "score=acc,none,family=org", "--map", "n=items"]) == 0
    assert labels(capsys.readouterr().out) == LABELS


def test_items_and_facts_from_the_command_line(here, capsys):
    frame = scores().drop(columns="n").replace({"token_accuracy": "mine", "step": "a=b"})
    frame.loc[frame["metric"] == "mine", "score"] *= 100
    frame.to_csv("t.csv", index=False)
    given = ["--n", "toy=1000", "--n", "a=b=1000", "--metric", "mine=linear,higher,0..100", "--json"]
    assert cli.main(["verdict", "t.csv", *given]) == 0
    found = labels(capsys.readouterr().out)
    assert found["a=b", "mine"] == "THRESHOLD_SURVIVES" and found["toy", "exact_match"] == "METRIC_INDUCED"


def test_order_does_not_matter_and_empty_numbers_are_null(here, capsys):
    frame = scores().sample(frac=1, random_state=0)
    frame["se"] = ["nan", "", "NaN", " "] * (len(frame) // 4)
    frame.to_csv("t.csv", index=False)
    assert cli.main(["verdict", "t.csv", "--json"]) == 0
    assert labels(capsys.readouterr().out) == LABELS


def test_unequal_numbers_of_scales_are_judged_each(here, capsys):
    frame = scores()
    frame[~((frame["task"] == "toy") & (frame["scale"] > 1e8))].to_csv("t.csv", index=False)
    assert cli.main(["verdict", "t.csv", "--json"]) == 0
    found = labels(capsys.readouterr().out)
    assert found["toy", "exact_match"] == "INSUFFICIENT_SCALES" and found["step", "exact_match"] == "THRESHOLD_SURVIVES"


def test_parquet_ours_and_others(here, capsys):
    scores().to_parquet("other.parquet")
    Path("other.json").write_text("{}")  # someone's, not a sidecar
    full = table.frame(
        [row | {"study": "s", "source": "api", "scale_kind": "params"} for row in scores().to_dict("records")]
    )
    table.write(full, here / "ours.parquet", table.provenance("s", {}, {}, "0"))
    for name in ("other.parquet", "ours.parquet"):
        assert cli.main(["verdict", name, "--json"]) == 0
        assert labels(capsys.readouterr().out) == LABELS
    data = bytearray(Path("ours.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    Path("ours.parquet").write_bytes(data)
    assert cli.main(["verdict", "ours.parquet"]) == 2
    assert "ours.parquet is damaged" in capsys.readouterr().err


def test_text_is_kept_and_numbers_are_float64(here):
    cells = "task,metric,family,model,scale,score,extra\nNA,exact_match,,nan,1e9, .5 ,1_0\nNaN,None,007,a,+1.,-2E-1,\n"
    Path("t.csv").write_text("\ufeff" + cells)
    df = read.read_table(Path("t.csv"), {})
    assert df["task"].tolist() == ["NA", "NaN"] and df["model"].tolist() == ["nan", "a"]
    assert df["family"].tolist() == ["", "007"] and df["metric"].tolist() == ["exact_match", "None"]
    assert df["scale"].tolist() == [1e9, 1.0] and df["score"].tolist() == [0.5, -0.2]
    assert df["extra"].tolist() == ["1_0", ""]  # no column of ours: left alone


@pytest.mark.parametrize(
    "cell", ["1_000", "١٢", "50%", "0x10", "1,5", "inf", "NA", "null", "1e", ".", "--1", "1 2", "½"]
)
def test_what_is_no_number_is_refused_by_row_and_column(here, cell):
    Path("t.csv").write_text(f'task,score\na,1\nb,"{cell}"\n')
    with pytest.raises(InputError, match=r"t.csv: row 1, column score: text where a number belongs: '.*'") as raised:
        read.read_table(Path("t.csv"), {})
    assert ("a percentage is written as a share" in str(raised.value)) == (cell == "50%")


def test_renames_divide_at_commas_before_a_name():
    assert read.renames(["score=acc,none,n=k=v", "task=t"]) == {"score": "acc,none", "n": "k=v", "task": "t"}


# --- what is refused ---

HEAD = "task,metric,family,model,scale,score,n\n"
ROW = "t,exact_match,f,m,1e9,.5,10\n"
V = ["verdict", "bad.csv"]
BAD = {
    "no table": (["verdict"], "", "the following arguments are required: TABLE"),
    "missing": (["verdict", "absent.csv"], "", "No such file or directory: absent.csv"),
    "folder": (["verdict", "sub"], "", "expected a .csv or .parquet file, got a folder: sub"),
    "here": (["verdict", ".", "--csv", "x"], "", "expected a .csv or .parquet file, got a folder: ."),
    "fits": ([*V, "--fits", "SGI"], HEAD + ROW, "bad.csv: fits: expected"),
    "other kind": (["verdict", "notes.txt"], "", "expected a .csv or .parquet file, got notes.txt"),
    "empty": (V, "", "bad.csv: expected a table, got an empty file"),
    "header alone": (V, HEAD, "bad.csv: expected at least one row, got none"),
    "no parquet": (["verdict", "bad.parquet"], "", "bad.parquet: not a Parquet file that can be read"),
    "not utf-8": (V, b"task\ncaf\xe9\n", "bad.csv: not UTF-8 at byte 8"),
    "ragged": (V, HEAD + ROW + "t,exact_match\n", "bad.csv: row 1: expected 7 cells, got 2"),
    "open quote": (V, HEAD + ROW + '"t\n', "bad.csv: row 1: not CSV: unexpected end of data"),
    "two columns": (V, "task,task\n1,2\n", "bad.csv: two columns are called task"),
    "columns": (V, "task,score\nt,1\n", "bad.csv: expected the columns task, metric"),
    "text": (V, HEAD + ROW + ROW.replace(".5", "high"), "bad.csv: row 1, column score: text where a number belongs: 'high'"),
    "percent": (V, HEAD + ROW.replace(".5", "50"), "bad.csv: row 0, column score: expected exact_match in [0, 1], got 50; if"),
    "twice": (V, HEAD + ROW + ROW, "bad.csv: rows 0 and 1 are two scores for one cell"),
    "half an item": (V, HEAD + ROW.replace(",10", ",.5"), "bad.csv: row 0, column n: expected a whole number, got 0.5"),
    "facts": (V, HEAD + ROW.replace("exact_match", "x"), "bad.csv: no row to judge: 1 rows of metrics without known facts (x)"),
    "map form": ([*V, "--map", "score"], ROW, "--map: expected OURS=THEIRS, got 'score'"),
    "map twice": ([*V, "--map", "n=a,n=b"], ROW, "--map: n is given twice, as 'a' and 'b'"),
    "map ours": ([*V, "--map", "scor=n"], HEAD + ROW, "--map: scor is no column of the table: did you mean score?"),
    "map theirs": ([*V, "--map", "n=Scale_"], HEAD + ROW, "--map: bad.csv has no column Scale_: did you mean scale?"),
    "n form": ([*V, "--n", "t"], HEAD + ROW, "--n: expected TASK=ITEMS, got 't'"),
    "n number": ([*V, "--n", "t=1e3"], HEAD + ROW, "--n: t: expected a number of items, got '1e3'"),
    "n task": ([*V, "--n", "u=5"], HEAD + ROW, "bad.csv: n: the table has no task u"),
    "metric form": ([*V, "--metric", "x=linear"], HEAD + ROW, "metric x: expected linear|nonlinear|discontinuous"),
    "metric twice": ([*V, *(2 * ["--metric", "x=y"])], HEAD + ROW, "--metric: 'x' is given twice"),
    "tau": ([*V, "--tau", "-1"], HEAD + ROW, "--tau: expected a standard deviation of logit(score) in [0, 10), got -1"),
    "tau text": ([*V, "--tau", "1_0"], HEAD + ROW, "argument --tau: expected a number, got '1_0'"),
    "label": ([*V, "--fail-on", "THRESHOLD"], HEAD + ROW, "--fail-on: 'THRESHOLD' is no label: did you mean THRESH"),
    "two outputs": ([*V, "--csv", "--json"], HEAD + ROW, "--csv and --json name one place, -"),
    "one file": ([*V, "--csv", "x", "--html", "x"], HEAD + ROW, "--csv and --html name one place, x"),
    "over itself": ([*V, "--csv", "bad.csv"], HEAD + ROW, "--csv: bad.csv belongs to the table that is read"),
    "over the sidecar": ([*V, "--json", "./bad.json"], HEAD + ROW, "--json: bad.json belongs to the table that is read"),
    "html to stdout": ([*V, "--html", "-"], HEAD + ROW, "--html: expected a name for a file, got -"),
    "into a folder": ([*V, "--html", "sub"], HEAD + ROW, "--html: expected a name for a file, got a folder: sub"),
    "plan alone": (["plan"], "", "the following arguments are required: --jump, --width, --decades"),
    "plan text": (["plan", "--jump", "x", "--width", "1", "--decades", "4"], "", "--jump: expected a number, got 'x'"),
    "plan jump": (["plan", "--jump", "2", "--width", "1", "--decades", "4"], "", "--jump: expected a share of the metric"),
    "plan level": (["plan", "--jump", ".5", "--width", "1", "--decades", "4", "--level", ".6"], "", "--level: expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_2_and_writes_nothing(here, case, capsys):
    args, content, message = BAD[case]
    (here / "sub").mkdir()
    files.write(here / "bad.csv", content)
    files.write(here / "bad.parquet", "PAR1 and no more")
    before = tree(here)
    assert cli.main(args) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1 and shown.out == ""
    assert message in shown.err
    assert tree(here) == before


def test_nothing_is_half_written(here, capsys):
    Path("file").write_text("")
    before = tree(here)
    assert cli.main(["verdict", "t.csv", "--csv", "v.csv", "--html", "file/v.html"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert tree(here) == before
