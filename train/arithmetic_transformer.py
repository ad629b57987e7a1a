"""Small transformers learn arithmetic: language models of several sizes whose every answer can be scored anew.

Two tasks that teach opposite lessons. `mul2`, the product of two numbers below 100: token accuracy and edit distance improve
smoothly with size where exact match bends. `add2rev`, their sum with the units first: single runs learn a digit or they do
not, under every metric. A tenth of the pairs of operands is held out; greedy and sampled answers are exported.

References:
    Schaeffer, Miranda, Koyejo (2023), section 3, whose models were a service's; Zhao et al. (2025) on runs that differ.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Key, PyTree

from mirage_jax import table
from mirage_jax.adapters import completions
from mirage_jax.estimators import cell
from mirage_jax.parts import Parts
from mirage_jax.progress import track
from mirage_jax.study import Output, main
from mirage_jax.untrusted import csv_text
from train import arithmetic_results as results
from train import fit
from train.arithmetic import TASKS, Decoded, Network, Questions, Task, decoded, questions, split, texts, train
from train.arithmetic_results import Scores, Sets, Trained, chance, model, score
from train.models import Size

NAME = "arithmetic_transformer"
DATA = ()
FAMILY = "arithmetic_transformer"
SAMPLE = 2  # a member's stream of sampled answers; 0 and 1 are its initial weights and minibatches
SEEN, BOOTSTRAP = 2**32 - 2, 2**32 - 1  # streams beside those of the tasks, which are 0, 1, ...


@dataclass(frozen=True)
class Config:
    """Transformers of several sizes on each task, each trained from several seeds."""

    seed: int = 0
    """Of all random draws; the pairs held out do not depend on it."""
    tasks: tuple[str, ...] = ("mul2", "add2rev")
    """Which tasks to learn."""
    mul2_sizes: tuple[str, ...] = ("1x4", "1x8", "1x16", "2x16", "2x24", "2x32")
    """Layers x units of the networks that multiply."""
    mul2_seeds: int = 5
    """Training runs per size."""
    mul2_steps: int = 2000
    """Optimiser steps of every run."""
    mul2_batch: int = 64
    """Questions per step."""
    add2rev_sizes: tuple[str, ...] = ("1x4", "1x6", "1x8", "1x12", "1x16", "1x24")
    """Layers x units of the networks that add."""
    add2rev_seeds: int = 12
    """Training runs per size."""
    add2rev_steps: int = 1200
    """Optimiser steps of every run."""
    add2rev_batch: int = 128
    """Questions per step."""
    learning_rate: float = 0.005
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW."""
    dtype: fit.Dtype = "float32"
    """Of the networks' arithmetic (a CPU may keep more digits); weights and what the optimiser keeps are float32."""
    checkpoints: int = 8
    """Looks at the held-out pairs during training, at most, at about equal ratios of steps; the last is the last step."""
    seen: int = 2000
    """Training pairs that are scored too."""
    exported: int = 8
    """Training runs per size, at most, whose answers are written to outputs."""
    resamples: int = 1000
    """Bootstrap resamples of each interval over items."""

    def __post_init__(self) -> None:
        """Refuse families that cannot be trained."""
        unknown = [name for name in self.tasks if name not in TASKS]
        if unknown or not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"--tasks: expected some of {', '.join(TASKS)}, each once, got {list(self.tasks)}")
        for name in self.tasks:
            plan = self.plan(name)
            if plan.seeds < 1 or plan.batch < 1 or not plan.sizes or len(set(plan.sizes)) < len(plan.sizes):
                raise ValueError(f"--{name}-*: expected seeds >= 1, batch >= 1 and different sizes, got {plan}")
            self.recipe(name)
        if min(self.checkpoints, self.seen, self.resamples) < 1 or self.exported < 0:
            raise ValueError(f"expected checkpoints, seen and resamples >= 1 and exported >= 0: {self}")

    def plan(self, task: str) -> "Plan":
        """How a task's family is trained."""
        sizes, seeds, steps, batch = (getattr(self, f"{task}_{name}") for name in Plan._fields)
        return Plan(
            tuple(sorted(map(Size.read, sizes), key=lambda one: (one.layers * one.d**2, one))), seeds, steps, batch
        )

    def recipe(self, task: str) -> fit.Recipe:
        """How its members are trained."""
        steps = getattr(self, f"{task}_steps")
        return fit.Recipe(steps, self.learning_rate, self.weight_decay, b2=0.99, dtype=self.dtype)


class Plan(NamedTuple):
    """A task's family: sizes from small to large, and how each is trained."""

    sizes: tuple[Size, ...]
    seeds: int
    steps: int
    batch: int


PRESETS = {
    "quick": Config(),
    "full": replace(
        Config(),
        mul2_sizes=(*Config().mul2_sizes, "2x48", "2x64", "2x96"),
        mul2_seeds=10,
        mul2_steps=10_000,
        add2rev_seeds=64,
        checkpoints=16,
        resamples=4000,
    ),
}


def run(config: Config, kept: Parts | None = None) -> Output:
    """Train every size of each task from every seed; score greedy answers and likelihoods, during training and after it."""
    key = jax.random.key(config.seed)
    rows, frames, exports = [], [], {}
    for i, name in enumerate(TASKS):
        if name not in config.tasks:
            continue
        task, own = TASKS[name], jax.random.fold_in(key, i)
        sets = _sets(task, config.seen, key)
        family = list(_family(config, task, sets, own, kept))
        rows += [row for of in family for row in _rows(config, task, sets, of)]
        frames.append(results.of_task(jax.random.fold_in(own, BOOTSTRAP), config.resamples, task, sets, family))
        exports |= _exports(task, sets.held_out, family, config.exported)
    joined = {name: pd.concat([of[name] for of in frames], ignore_index=True) for name in frames[0]}
    df = table.frame([{"study": NAME, **row} for row in rows])
    joined |= results.of_table(df, joined.pop("losses"), config.seed)
    return Output(rows, joined, exports)


def _sets(task: Task, count: int, key: Key[Array, ""]) -> Sets:
    """What is learned and asked; the pairs are the same for every task, those seen are drawn from the training pairs."""
    pairs = split(task.digits)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, SEEN), len(pairs.train)))
    picked = np.sort(order[:count])
    learned, held_out = (questions(task, own) for own in pairs)
    return Sets(learned, held_out, Questions(*(part[picked] for part in learned)))


def _family(config: Config, task: Task, sets: Sets, key: Key[Array, ""], kept: Parts | None) -> Iterator[Trained]:
    """Train the members of every size, and ask them."""
    plan, recipe = config.plan(task.name), config.recipe(task.name)
    keys = fit.members(key, plan.seeds)
    sampling = jax.vmap(lambda one: jax.random.fold_in(one, SAMPLE))(keys)
    block = recipe.block()
    marks = np.unique(np.geomspace(recipe.steps // block, 1, config.checkpoints).round().astype(int))
    asked = [Questions(*map(jnp.asarray, part)) for part in _parts(sets)]
    for one in track(plan.sizes, f"{NAME} {task.name}"):
        network = Network(one, task)

        def look(params: PyTree, at: int = 0, network: Network = network) -> Decoded:
            return decoded(network, params, sampling, *asked[at])

        fitted = train(
            network, keys, sets.train, plan.batch, recipe, marks=(marks * block).tolist(), look=look, kept=kept
        )
        held_out = Decoded(*(np.stack(part) for part in zip(*fitted.looks, strict=True)))
        parts = [look(fitted.params, at) for at in range(1, len(asked))]
        seen = Decoded(*(np.concatenate(part, axis=1)[:, : len(sets.seen.prompt)] for part in zip(*parts, strict=True)))
        finite = np.all(np.isfinite(held_out.log_prob), axis=(2, 3))
        last = fitted.finite() & np.all(np.isfinite(seen.log_prob), axis=(1, 2))
        finite = np.concatenate([finite[:-1], (finite[-1] & last)[None]])
        yield Trained(one, fit.size(network), marks * block, fitted.losses[:, marks - 1].T, held_out, seen, finite)


def _parts(sets: Sets) -> Iterator[Questions]:
    """What is asked, in parts of one shape, so that one program asks them all: the pairs held out, then those seen."""
    count, seen = len(sets.held_out.prompt), len(sets.seen.prompt)
    yield sets.held_out
    for begin in range(0, seen, count):
        yield Questions(*(part[np.arange(begin, begin + count) % seen] for part in sets.seen))


def _rows(config: Config, task: Task, sets: Sets, of: Trained) -> Iterator[dict[str, Any]]:
    """A row per member, metric and slice: at the last step whole answers and their first L tokens, before it whole ones.

    A diverged member has no score and n = 0, so that nothing averages it in.
    """
    guess = chance(sets.train.answer)
    how = {"config": table.config_hash(NAME, asdict(config))[:8], "decoding": "greedy"}
    common = {
        "source": "trained",
        "family": FAMILY,
        "model": model(task, of.size),
        "task": task.name,
        "missing": 0,
        "unparsed": 0,
    }

    def rows(scores: Scores, finite: np.ndarray, length: int, **about: Any) -> Iterator[dict[str, Any]]:
        """Of scores [seed, item] under each metric."""
        for metric, values in scores.items():
            told = {"metric": metric, "length": length, "chance": guess[length][metric]}
            told["signature"] = table.signature(metric, **how)
            for seed, ok in enumerate(finite):
                yield common | about | told | {"seed": seed} | (cell(values[seed], metric) if ok else {"n": 0})

    last = Decoded(*(part[-1] for part in of.held_out))
    for name, asked, said in (("held_out", sets.held_out, last), ("seen", sets.seen, of.seen)):
        at = {"scale_kind": "params", "scale": of.params}
        for length in range(1, task.length + 1):
            scores = score(asked.answer, said, length)
            how_cut = table.setting(slice="prefix", split=name)
            yield from rows(scores, of.finite[-1], length, setting=how_cut, **at)
            if length == task.length:
                yield from rows(scores, of.finite[-1], length, setting=table.setting(split=name), **at)
    scores = score(sets.held_out.answer, of.held_out, task.length)
    setting = table.setting(size=of.size, split="held_out")
    for i, step in enumerate(of.marks):
        here = {metric: values[i] for metric, values in scores.items()}
        yield from rows(here, of.finite[i], task.length, scale_kind="step", scale=int(step), setting=setting)


def _shown(of: Trained, exported: int) -> list[int]:
    """Members whose answers are exported."""
    return np.flatnonzero(of.finite[-1])[:exported].tolist()


def _name(task: Task, of: Trained, seed: int) -> str:
    return f"{model(task, of.size)}-seed{seed}"


def _exports(task: Task, asked: Questions, family: list[Trained], exported: int) -> dict[str, str]:
    """Answers to the pairs held out, greedy ones with the log-probabilities of the right tokens, and sampled ones.

    The log-probabilities are the same however the model answers, so they stand once.
    """
    prompt, target = texts(asked.prompt), texts(asked.answer)

    def lines(kind: Literal["greedy", "sampled"]) -> Iterator[dict[str, Any]]:
        for of in family:
            for seed in _shown(of, exported):
                said, told = texts(getattr(of.held_out, kind)[-1, seed]), of.held_out.log_prob[-1, seed].tolist()
                about = {"model": _name(task, of, seed), "task": task.name}
                for i, question in enumerate(prompt):
                    row = about | {"id": question, "target": target[i], "completion": said[i]}
                    yield row | {"target_log_probs": told[i]} if kind == "greedy" else row

    models = [[_name(task, of, seed), FAMILY, of.params] for of in family for seed in _shown(of, exported)]
    return {
        f"{task.name}_models.csv": csv_text(["model", "family", "params"], models),
        f"{task.name}.jsonl": completions.to_jsonl(lines("greedy")),
        f"{task.name}_sampled.jsonl": completions.to_jsonl(lines("sampled")),
    }


if __name__ == "__main__":
    main(sys.modules[__name__])
