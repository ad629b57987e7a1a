"""The completions adapter: InstructGPT's real answers, and everything a file can have wrong."""

import json

import numpy as np
import pytest

from mirage_jax import table
from mirage_jax.adapters import completions
from mirage_jax.errors import InputError

MODELS = ("ada-001", "babbage-001", "curie-001", "davinci-003")


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def score(path, **options):
    """Rows of a file by (model, metric, length)."""
    found = [row for answers in completions.read(path) for row in completions.rows(answers, **options)]
    return {(row["model"], row["metric"], row["length"]): row for row in found}


# --- real completions ---


@pytest.fixture(scope="module")
def gpt3(data_dir):
    paths = [data_dir / "gpt3_multiplication" / f"multiplication_data_GPT3-text-{model}_0_100.csv" for model in MODELS]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no {paths[0].parent}")
    names = ("exact_match", "token_edit_distance")
    df = table.frame([
        row for path in paths for answers in completions.read(path, "latin-1")
        for row in completions.rows(answers, metrics=names, by_length=True)
    ])  # fmt: skip
    df["model"] = df["model"].str.extract(r"text-(.*)_0_100", expand=False)
    return df.set_index(["model", "metric", df["length"].fillna(0).astype(int)])


@pytest.mark.parametrize(
    ("model", "exact", "edits", "unparsed", "by_length"),
    [  # data/README.md, scored there independently
        ("ada-001", 0.0054, 3.034, 584, (0.072, 0.078, 0.001, 0.000)),
        ("babbage-001", 0.0482, 2.869, None, (215 / 222, 0.398, 0.028, 0.002)),  # printed .969, rounded twice
        ("curie-001", 0.0881, 2.375, None, (0.532, 0.640, 0.131, 0.018)),
        ("davinci-003", 0.9115, 0.125, None, (1, 1, 0.999, 0.867)),
    ],
)
def test_instructgpt_multiplication(gpt3, model, exact, edits, unparsed, by_length):
    whole = gpt3.loc[(model, "exact_match", 0)]
    assert round(whole["score"], 4) == exact  # the share of 10,000 answers: exact to the last digit
    assert (whole["n"], whole["missing"]) == (10_000, 0)
    assert unparsed in (None, whole["unparsed"])
    assert gpt3.loc[(model, "token_edit_distance", 0), "score"] == pytest.approx(edits, abs=5.001e-4)
    assert [gpt3.loc[(model, "exact_match", L), "score"] for L in (1, 2, 3, 4)] == pytest.approx(
        by_length, abs=5.001e-4
    )
    assert [gpt3.loc[(model, "exact_match", L), "n"] for L in (1, 2, 3, 4)] == [222, 450, 2718, 6610]  # science 3.2


def test_no_answer_of_ada_is_lost(gpt3):
    assert gpt3.loc["ada-001"].query("metric == 'exact_match' and length > 0")["unparsed"].sum() == 584


# --- reading ---


@pytest.mark.parametrize(
    ("completion", "parsed"),
    [
        ("42", "42"),
        (" 42.", "42"),
        ("is -7 or 8", "-7"),
        ("1,000", "1"),
        ("", ""),
        ("none", ""),
        ("٤٢", ""),
        ("007", "007"),
    ],
)
def test_first_integer(tmp_path, completion, parsed):
    path = write(tmp_path / "m.jsonl", json.dumps({"a": 6, "b": 7, "completion": completion}))
    assert completions.read(path)[0].parsed() == [parsed]


def test_text_reader_strips(tmp_path):
    path = write(tmp_path / "m.csv", 'target,completion\nParis," Paris\n"\nRome, \n')
    (answers,) = completions.read(path)
    assert (answers.reader, answers.parsed()) == ("text", ["Paris", ""])


def test_groups_by_model_and_task(tmp_path):
    lines = [{"model": m, "task": t, "target": "x", "completion": "x"} for m in ("a", "b") for t in ("s", "t")]
    path = write(tmp_path / "f.jsonl", "\n\n".join(map(json.dumps, lines)) + "\r\n")
    assert [(g.model, g.task) for g in completions.read(path)] == [("a", "s"), ("a", "t"), ("b", "s"), ("b", "t")]


def test_the_files_name_is_the_model_and_a_byte_order_mark_is_no_column(tmp_path):
    path = write(tmp_path / "davinci.CSV", "\ufeffa,b,completion\n-3,4,-12\n")
    (answers,) = completions.read(path)
    assert (answers.model, answers.task, answers.target) == ("davinci", "multiplication", ["-12"])


def test_empty_is_unparsed_and_null_or_cut_off_is_missing(tmp_path):
    rows = [
        {"target": "a", "completion": "a"}, {"target": "b", "completion": ""}, {"target": "c", "completion": None},
        {"target": "d", "completion": "d", "finish_reason": "length"},
        {"target": "e", "completion": "e", "finish_reason": "stop"},
        {"target": "f", "completion": "f", "finish_reason": None},
    ]  # fmt: skip
    found = score(write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows))))[("m", "exact_match", None)]
    assert (found["n"], found["missing"], found["unparsed"], found["score"]) == (4, 2, 1, 0.75)


def test_a_model_that_answered_nothing_has_no_score(tmp_path):
    found = score(write(tmp_path / "m.jsonl", '{"target": "a", "completion": null}'))
    df = table.frame(list(found.values()))
    assert df["score"].isna().all() and (df["n"] == 0).all() and (df["missing"] == 1).all()


def test_scores_do_not_depend_on_the_batches(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = ["target,completion"]
    for _ in range(60):
        target, answer = ("".join(rng.choice(list("abc"), rng.choice([1, 4, 19]))) for _ in range(2))
        lines.append(f"{target},{answer}")
    path = write(tmp_path / "m.csv", "\n".join(lines))
    whole = completions.score_items(completions.read(path)[0])[0]
    monkeypatch.setattr(completions, "CELLS", 64)
    for name, values in completions.score_items(completions.read(path)[0])[0].items():
        np.testing.assert_array_equal(values, whole[name])


def test_a_row_for_each_kind_of_scale(tmp_path):
    path = write(tmp_path / "m.csv", "target,completion\na,a\nb,c\n")
    (answers,) = completions.read(path)
    models = {"m": {"family": "F", "params": 1e9, "flops": 2e20}}
    found = list(completions.rows(answers, models=models, metrics=["exact_match"]))
    assert [(r["family"], r["scale_kind"], r["scale"]) for r in found] == [("F", "params", 1e9), ("F", "flops", 2e20)]


# --- what a file can have wrong ---


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.txt", b"", r"expected a \.csv or \.jsonl file of completions, got .*m\.txt"),
        ("m.csv", b"", r"m\.csv:1: expected the columns completion and target, or a, b, completion; got "),
        ("m.csv", b"a,b\n1,2\n", "expected the columns completion and target, or a, b, completion; got a, b"),
        ("m.csv", b"a,completion\n1,2\n", "expected the columns"),
        ("m.csv", b"a,b,a,completion\n", "a column stands twice: a, b, a, completion"),
        ("m.csv", b"a,b,completion\n", r"m\.csv: expected at least one row, got none"),
        ("m.jsonl", b"\n \n", r"m\.jsonl: expected at least one row, got none"),
        ("m.csv", b"a,b,completion\n1,2,3\n1,two,3\n", r"m\.csv:3: b: expected a whole number, got 'two'"),
        ("m.csv", b"a,b,completion\n1.0,2,3\n", r"m\.csv:2: a: expected a whole number, got '1.0'"),
        ("m.csv", b"a,b,completion\n1_0,2,3\n", "a: expected a whole number, got '1_0'"),
        ("m.csv", "a,b,completion\n١,2,3\n".encode(), "a: expected a whole number"),
        ("m.csv", b"a,b,completion\n" + b"9" * 5000 + b",2,3\n", "a: expected a whole number"),
        ("m.csv", b"a,b,completion\n,2,3\n", "a: expected a whole number, got ''"),
        ("m.csv", b"a,b,completion\n1,2,3\n1,2,4\n", r"m\.csv:3: a second answer to 1 x 2, first on line 2"),
        ("m.csv", b"id,target,completion\nq1,x,y\nq1,x,y\n", "a second answer to q1, first on line 2"),
        ("m.csv", b"a,b,completion\n1,2\n", r"m\.csv:2: expected 3 fields, got 2"),
        ("m.csv", b'a,b,completion\n1,2,"3\n', "m.csv:.*: not CSV"),
        ("m.csv", b"a,b,completion\n1,2,caf\xe9\n", r"m\.csv: not utf-8 at byte 22; give its encoding"),
        ("m.csv", b"target,completion\n,x\n", "target: expected the right answer, got ''"),
        ("m.jsonl", b"[1]\n", r"m\.jsonl:1: expected a JSON object, got '\[1\]'"),
        ("m.jsonl", b'{"target": "a", "completion": "b"}\n{"target": \n', r"m\.jsonl:2: expected a JSON object"),
        ("m.jsonl", b"[" * 100_000, "expected a JSON object"),
        ("m.jsonl", b'{"target": "a"}', r"m\.jsonl:1: expected the columns"),
        ("m.jsonl", b'{"target": "a", "completion": 3}', "completion: expected text or null, got 3"),
        ("m.jsonl", b'{"target": 1.5, "completion": "3"}', "target: expected text or a whole number, got 1.5"),
        ("m.jsonl", b'{"target": null, "completion": "3"}', "target: expected text or a whole number, got None"),
        ("m.jsonl", b'{"a": true, "b": 1, "completion": "3"}', "a: expected a whole number, got True"),
        ("m.jsonl", b'{"model": 3, "target": "a", "completion": "3"}', "model: expected text, got 3"),
        ("m.jsonl", b'{"id": [1], "target": "a", "completion": "a"}\n' * 2, r":2: a second answer to \[1\], first on line 1"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        completions.read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "hex"])
def test_an_unknown_encoding_is_refused(tmp_path, encoding):
    path = write(tmp_path / "m.csv", "a,b,completion\n1,2,3\n")
    with pytest.raises(InputError, match=f"--encoding: expected a text encoding .*, got {encoding}"):
        completions.read(path, encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "UTF-8"])
def test_other_encodings(tmp_path, encoding):
    path = write(tmp_path / "m.csv", "target,completion\né,é\n", encoding)
    assert completions.read(path, encoding)[0].target == ["é"]


def test_models(tmp_path):
    path = write(tmp_path / "models.csv", "\ufeffmodel,family,params,flops\na,F,1.3e9,\n\nb,,7,2e20\n")
    assert completions.read_models(path) == {"a": {"family": "F", "params": 1.3e9}, "b": {"params": 7.0, "flops": 2e20}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"models\.csv: expected the columns model, family, params, tokens, flops; got"),
        ("name,params\na,1\n", "got name, params"),
        ("model,params,size\na,1,2\n", "got model, params, size"),
        ("model,params,params\na,1,2\n", "got model, params, params"),
        ("model,params\na\n", r"models\.csv:2: expected 2 fields, got 1"),
        ("model,params\na,1\na,2\n", r"models\.csv:3: expected one line per model, got 'a' twice"),
        ("model,params\n,1\n", "expected one line per model, got ''"),
        ("model,params\na,7b\n", r"models\.csv:2: params: expected a positive number such as 1\.3e9, got '7b'"),
        ("model,params\na,0\n", "expected a positive number"),
        ("model,params\na,-1\n", "expected a positive number"),
        ("model,params\na,nan\n", "expected a positive number"),
        ("model,params\na,1_000\n", "expected a positive number"),
        ("model,params\na," + "9" * 400 + "\n", "expected a positive number"),
        ('model,params\na,"1\n', "expected CSV in UTF-8"),
    ],
)
def test_bad_models_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        completions.read_models(write(tmp_path / "models.csv", content))


# --- signatures (R10) ---


def signatures(path, encoding="utf-8", reader=None, **options):
    (answers,) = completions.read(path, encoding, reader)
    return {row["metric"]: row["signature"] for row in completions.rows(answers, **options)}


def test_a_signature_changes_with_whatever_changes_the_number(tmp_path, monkeypatch):
    path = write(tmp_path / "m.csv", "target,completion\n7,é 7\n")
    base = signatures(path)
    assert len(set(base.values())) == len(base)  # the metric
    assert base == signatures(path)
    other = write(tmp_path / "n.csv", "target,completion\n7,e 7\n")
    changed = {"reader": signatures(path, reader="first-integer"), "data": signatures(other)}
    changed["encoding"] = signatures(path, "latin-1")  # "Ã© 7": one character more, one edit more
    monkeypatch.setattr(table, "VERSION", "9.9.9")
    changed["version"] = signatures(path)
    for what, found in changed.items():
        assert not set(found.values()) & set(base.values()), what
    for part in ("tokens:characters", "reader:text", "aggregate:mean", f"data:{completions.read(path)[0].data[:8]}"):
        assert all(part in text for text in base.values())
