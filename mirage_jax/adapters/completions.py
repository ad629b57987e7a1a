"""Completions in CSV or JSONL: one row per question, scored as token sequences (characters, unless told).

Columns: `completion`, and the right answer either as `target` or, for tables of products, as `a` and `b`. Optional:
`model` (else the file's name), `task`, `id`, and `finish_reason` (anything but empty or `stop`: the answer was cut off or
refused, so the item is missing). An empty completion is unparsed, a null one (JSONL) is missing.

`sample` (0, 1, ...; 0 where there is none) tells several answers to one question apart. Each is an item of its own, in n as
in the mean, and intervals take items for independent, so that they are too narrow where the answers to a question agree
more than those to different ones.

`target_log_probs` are natural log-probabilities of the tokens of the target, one number <= 0 for each token under the
tokeniser in use: a list (JSONL) or its JSON text (CSV). Where every answered row of a model and task has them, the metrics
of likelihood (nll, perplexity) are scored too; some with and some without are refused. A target of probability 0
(-Infinity) leaves these means infinite: they are then left out, or refused if asked for.

`to_jsonl` writes such a file.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mirage_jax import files
from mirage_jax.errors import InputError
from mirage_jax.estimators import cell
from mirage_jax.metrics.facts import METRICS, evaluate, for_outcome, options_of
from mirage_jax.outcomes import Tokens
from mirage_jax.table import setting, signature
from mirage_jax.tokenizers import TOKENIZERS, tokenize
from mirage_jax.untrusted import utf8

Reader = Literal["first-integer", "text"]
INTEGER = re.compile(r"-?[0-9]+")
WHOLE = re.compile(r"-?[0-9]{1,18}")
SCALE_KINDS = ("params", "tokens", "flops")
LEVEL = {"level": "sentence"}  # a table's cell is a mean over items
WRITTEN = ("model", "task", "id", "sample", "target", "completion", "target_log_probs")
ROWS = Path("rows")  # what they are called in a message before they are a file
DIGITS = 6  # significant, of a log-probability in a file; float32 holds seven
FAR = 3e38  # about the largest number of float32
CELLS = 1 << 22  # characters in one padded batch, which bounds the memory whatever a model wrote


class Answers(NamedTuple):
    """What one model answered on one task, in the order of the file."""

    model: str
    task: str
    target: list[str]
    completion: list[str | None]  # None: no answer came
    reader: Reader
    data: str  # SHA-256 of the file
    encoding: str
    where: list[str]  # file and line of each
    target_log_probs: list[list[float] | None]  # of the target's tokens; None where a row has none

    def parsed(self) -> list[str | None]:
        """The answer in each completion: its first integer or its stripped text; empty where unreadable, None if missing."""
        if self.reader == "text":
            return [None if text is None else text.strip() for text in self.completion]
        found = [None if text is None else INTEGER.search(text) for text in self.completion]
        return [
            None if text is None else m.group() if m else "" for text, m in zip(self.completion, found, strict=True)
        ]


def read(path: Path, encoding: str = "utf-8", reader: Reader | None = None) -> list[Answers]:
    """The answers in a file, one entry per model and task.

    Args:
        path: a .csv or .jsonl file.
        encoding: of the text; UTF-8 unless told.
        reader: how an answer is read off a completion: `first-integer` (the default for a, b files) or `text`.

    Raises:
        InputError: not a file, wrong encoding, a missing column, a row that does not fit, two answers to one question.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"expected a .csv or .jsonl file of completions, got {path}")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise InputError(f"--encoding: expected a text encoding such as utf-8 or latin-1, got {encoding}") from None
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        raise InputError(
            f"{path}: not {encoding} at byte {at}; give its encoding, for example --encoding latin-1"
        ) from None
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _json_rows(text, path)
    groups = _grouped(rows, path, reader, files.sha256(content), encoding)
    if not groups:
        raise InputError(f"{path}: expected at least one row, got none")
    return groups


def _grouped(
    rows: Iterable[tuple[int, dict[str, Any]]], path: Path, reader: Reader | None, digest: str, encoding: str
) -> list[Answers]:
    groups: dict[tuple[str, str], Answers] = {}
    asked: dict[tuple[str | int, ...], int] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        target, question = _target(row, where)
        model = utf8(row.get("model") or path.stem)
        task = utf8(row.get("task") or ("multiplication" if question else "completions"))
        question = (str(row["id"]),) if row.get("id") not in (None, "") else question
        sample = _sample(row, where)
        if question:
            first = asked.setdefault((model, task, sample, *question), line)
            if first != line:
                which = " x ".join(question) + (f" (sample {sample})" if sample else "")
                raise InputError(f"{where}: a second answer to {which}, first on line {first}")
        chosen = reader or ("first-integer" if "target" not in row else "text")
        group = groups.setdefault((model, task), Answers(model, task, [], [], chosen, digest, encoding, [], []))
        group.target.append(target.strip() if group.reader == "text" else target)
        cut = row.get("finish_reason") not in (None, "", "stop")
        group.completion.append(None if cut else _completion(row, where))
        group.where.append(where)
        group.target_log_probs.append(_log_probs(row, where))
    for group in groups.values():
        _all_or_none(group)
    return list(groups.values())


def _sample(row: dict[str, Any], where: str) -> int:
    value = 0 if row.get("sample") in (None, "") else row["sample"]
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,9}", str(value)):
        raise InputError(f"{where}: sample: expected a whole number >= 0, got {value!r}")
    return int(value)


def _all_or_none(group: Answers) -> None:
    """Refuse a group in which some answered rows have log-probabilities and others have none."""
    rows = zip(group.completion, group.target_log_probs, group.where, strict=True)
    has = [(found is not None, where) for completion, found, where in rows if completion is not None]
    odd = [where for found, where in has if found != has[0][0]]
    if odd:
        raise InputError(
            f"{odd[0]}: target_log_probs: expected in every answered row of a model and task or in none; this one has "
            f"{'none' if has[0][0] else 'them'}, {has[0][1]} has {'them' if has[0][0] else 'none'}"
        )


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(CELLS * 4)  # a model may have written a lot, in one answer
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        _columns(header, path)
        for row in reader:
            if len(row) != len(header):
                if not row:
                    continue
                raise InputError(f"{path}:{reader.line_num}: expected {len(header)} fields, got {len(row)}")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            raise InputError(f"{path}:{line}: expected a JSON object, got {content[:40]!r}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: expected a JSON object, got {content[:40]!r}")
        _columns(list(row), path, line)
        for name in ("model", "task", "finish_reason"):
            if not isinstance(row.get(name), str | None):
                raise InputError(f"{path}:{line}: {name}: expected text, got {row[name]!r}")
        yield line, row


def _columns(names: list[str], path: Path, line: int = 1) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"{path}:{line}: a column stands twice: {', '.join(names)}")
    if "completion" not in names or not ("target" in names or {"a", "b"} <= set(names)):
        raise InputError(
            f"{path}:{line}: expected the columns completion and target, or a, b, completion; got {', '.join(names)}"
        )


def _target(row: dict[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
    """The right answer, and what the question is known by."""
    if "target" in row:
        if isinstance(row["target"], bool) or not isinstance(row["target"], str | int):
            raise InputError(f"{where}: target: expected text or a whole number, got {row['target']!r}")
        if not str(row["target"]).strip():
            raise InputError(f"{where}: target: expected the right answer, got {row['target']!r}")
        return str(row["target"]), ()
    for name in ("a", "b"):
        if isinstance(row[name], bool) or not WHOLE.fullmatch(str(row[name])):
            raise InputError(f"{where}: {name}: expected a whole number, got {row[name]!r}")
    a, b = int(row["a"]), int(row["b"])
    return str(a * b), (str(a), str(b))


def _completion(row: dict[str, Any], where: str) -> str | None:
    value = row["completion"]
    if not isinstance(value, str | None):
        raise InputError(f"{where}: completion: expected text or null, got {value!r}")
    return value


def _log_probs(row: Mapping[str, Any], where: str) -> list[float] | None:
    value = row.get("target_log_probs")
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InputError(f"{where}: target_log_probs: expected a JSON list, got {value[:40]!r}") from None
    if not isinstance(value, list):
        raise InputError(f"{where}: target_log_probs: expected a list of numbers, got {str(value)[:40]!r}")
    for one in value:
        number = isinstance(one, float | int) and not isinstance(one, bool)
        if not number or not (-FAR <= one <= 0 or one == -math.inf):
            raise InputError(f"{where}: target_log_probs: expected numbers <= 0, got {str(one)[:40]!r}")
    return [float(one) for one in value]


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """Text of a JSONL file that `read` reads back: a line for each row, keys sorted, everything beyond ASCII escaped.

    Log-probabilities are rounded to DIGITS = 6 significant digits of float32, and what is written of those that are read
    back is the same text. -inf becomes -1e999, which is JSON, where -Infinity is not, and reads as -inf.

    Args:
        rows: with `target` and `completion` (None: no answer came) and any of `model`, `task`, `id`, `sample` and
            `target_log_probs`; None is left out. numpy's numbers and arrays will do.

    Raises:
        InputError: another column, or a row that `read` would refuse.
    """
    text = "".join(_line(row, f"{ROWS}:{number}") for number, row in enumerate(rows, start=1))
    _grouped(_json_rows(text, ROWS), ROWS, None, "", "utf-8")
    return text


def _line(given: Mapping[str, Any], where: str) -> str:
    unknown = sorted(set(given) - set(WRITTEN))
    if unknown:
        raise InputError(f"{where}: expected columns among {', '.join(WRITTEN)}; got {', '.join(unknown)}")
    row = {name: value for name, value in given.items() if value is not None or name == "completion"}
    found = row.pop("target_log_probs", None)
    parts = {name: json.dumps(value.item() if isinstance(value, np.generic) else value) for name, value in row.items()}
    if found is not None:
        with np.errstate(over="ignore"):
            numbers = np.asarray(found, np.float32)
        if numbers.ndim != 1:
            raise InputError(f"{where}: target_log_probs: expected a list of numbers, got shape {numbers.shape}")
        rounded = [float(f"{one:.{DIGITS}g}") + 0.0 for one in numbers]  # -0.0 becomes 0.0
        parts["target_log_probs"] = f"[{', '.join('-1e999' if x == -math.inf else json.dumps(x) for x in rounded)}]"
    return f"{{{', '.join(f'{json.dumps(name)}: {parts[name]}' for name in sorted(parts))}}}\n"


def read_models(path: Path) -> dict[str, dict[str, Any]]:
    """models.csv (`model`, and any of `family, params, tokens, flops`) by model name; empty cells are left out."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected CSV in UTF-8: {error}") from None
    header = rows[0] if rows else []
    known = ("model", "family", *SCALE_KINDS)
    if "model" not in header or not set(header) <= set(known) or len(set(header)) < len(header):
        raise InputError(f"{path}: expected the columns {', '.join(known)}; got {', '.join(header)}")
    models: dict[str, dict[str, Any]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{path}:{line}: expected {len(header)} fields, got {len(row)}")
        entry: dict[str, Any] = {name: cell for name, cell in zip(header, row, strict=True) if cell != ""}
        name = entry.pop("model", "")
        if not name or name in models:
            raise InputError(f"{path}:{line}: expected one line per model, got {name!r} {'twice' if name else ''}")
        for kind in set(SCALE_KINDS) & set(entry):
            entry[kind] = _positive(entry[kind], f"{path}:{line}: {kind}")
        models[name] = entry
    return models


def _positive(cell: str, where: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?([eE]\+?[0-9]{1,2})?", cell) or not 0 < float(cell) < math.inf:
        raise InputError(f"{where}: expected a positive number such as 1.3e9, got {cell!r}")
    return float(cell)


def allowed(tokenizer: str = "characters", likelihood: bool = True) -> tuple[str, ...]:
    """The metrics that completions allow, with or without log-probabilities of the targets."""
    one = tokenize(["0"], ["0"], tokenizer)
    return for_outcome(one._replace(target_log_prob=np.zeros((1, 1), np.float32)) if likelihood else one)


def score_items(
    answers: Answers, metrics: Sequence[str] | None = None, tokenizer: str = "characters"
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Per-item scores of each metric (NaN where missing), and which items are unparsed.

    Items are scored in batches of like length, so that one long answer does not widen all the others. Without `metrics`
    these are all that the tokens allow and that every target has (no numeric match of targets that are no numbers).

    Raises:
        InputError: log-probabilities that are not one for each token of the target, or a metric that was asked for and
            that needs them where there are none, or that is not a finite number for every target.
    """
    parsed = answers.parsed()
    has = any(p is not None and f is not None for p, f in zip(parsed, answers.target_log_probs, strict=True))
    names = tuple(metrics) if metrics else allowed(tokenizer, has)
    likely = [name for name in names if "target_log_prob" in METRICS[name].needs]
    if likely and not has and any(text is not None for text in parsed):
        raise InputError(f"{answers.where[0]}: {likely[0]} needs target_log_probs in every answered row")
    options: dict[str, Any] = LEVEL if any("level" in METRICS[name].options for name in names) else {}
    scores = {name: np.full(len(parsed), np.nan) for name in names}
    answered = [i for i, answer in enumerate(parsed) if answer is not None]
    width = {i: 1 << max(len(answers.target[i]), len(parsed[i] or ""), 1).bit_length() for i in answered}
    for size in sorted(set(width.values())):
        group = [i for i in answered if width[i] == size]
        step = max(CELLS // size, 1)
        for batch in (group[at : at + step] for at in range(0, len(group), step)):
            outcome = tokenize([answers.target[i] for i in batch], [parsed[i] or "" for i in batch], tokenizer)
            if likely:
                outcome = outcome._replace(target_log_prob=_likelihoods(answers, batch, outcome, tokenizer))
            for name, values in evaluate(outcome, names, **options).items():
                scores[name][batch] = np.asarray(values)
    for name in names:
        undefined = [i for i in answered if not np.isfinite(scores[name][i])]
        if undefined and metrics:
            target = answers.target[undefined[0]]
            raise InputError(f"{name} has no value for {len(undefined)} targets, the first of them {target[:40]!r}")
        if undefined:
            del scores[name]
    return scores, np.array([answer == "" for answer in parsed])


def _likelihoods(answers: Answers, batch: Sequence[int], outcome: Tokens, tokenizer: str) -> np.ndarray:
    """Log-probabilities [items, width] of the targets' tokens, 0 behind their ends."""
    out = np.zeros(outcome.target.shape, np.float32)
    for row, (i, tokens) in enumerate(zip(batch, outcome.target_length.tolist(), strict=True)):
        found = answers.target_log_probs[i] or []
        if len(found) != tokens:
            raise InputError(
                f"{answers.where[i]}: target_log_probs: expected {tokens} numbers, one for each token of the target "
                f"{answers.target[i][:40]!r} ({tokenizer}), got {len(found)}"
            )
        out[row, :tokens] = found
    return out


def rows(
    answers: Answers,
    study: str = "score",
    models: dict[str, dict[str, Any]] | None = None,
    metrics: Sequence[str] | None = None,
    by_length: bool = False,
    tokenizer: str = "characters",
) -> Iterator[dict[str, Any]]:
    """Table rows of one model: a row per metric and kind of scale, of all items and, if asked, of each target length."""
    scores, unparsed = score_items(answers, metrics, tokenizer)
    facts = (models or {}).get(answers.model, {})
    scales = {kind: facts[kind] for kind in SCALE_KINDS if kind in facts} or {None: None}
    length = np.array([len(TOKENIZERS[tokenizer](target)) for target in answers.target])
    strata = [(None, np.ones(length.size, bool))]
    strata += [(int(at), length == at) for at in np.unique(length)] if by_length else []
    for metric, values in scores.items():
        options = {key: value for key, value in options_of(metric, **LEVEL).items() if value is not None}
        how = signature(
            metric,
            **options,
            aggregate="mean",
            data=answers.data[:8],
            encoding=answers.encoding,
            reader=answers.reader,
            tokens=tokenizer,
        )
        for at, chosen in strata:
            found = cell(values[chosen], metric)
            for kind, scale in scales.items():
                yield found | {
                    "study": study, "source": "api", "family": facts.get("family"), "model": answers.model,
                    "scale_kind": kind, "scale": scale, "task": answers.task, "length": at, "metric": metric,
                    "unparsed": int(unparsed[chosen].sum()), "signature": how, "setting": setting(**options) or None,
                }  # fmt: skip
