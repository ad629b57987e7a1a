"""The training program: AdamW by hand, members that do not touch each other, padding, divergence, several devices."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_family
from tiny_family import ITEMS, Config, Network, digest, objective, train

from mirage_jax import progress
from train import fit

ROOT = Path(__file__).resolve().parent.parent
STEPS = Config().steps
EPS = float(np.finfo(np.float32).eps)


def gap(a: Any, b: Any) -> float:
    """The largest difference between two trees of arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def of(member: Any, tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[member], tree)


def start(config: Config) -> tuple[Any, Any]:
    keys = fit.members(jax.random.key(config.seed), config.seeds)
    return keys, fit.initial(Network(config.h), keys)


def from_params(params: Any, **options: Any) -> fit.Fitted:
    """Train three members from parameters of one's own."""
    draw, recipe = fit.minibatch(40, 8), fit.Recipe(STEPS, Config().rate)
    return fit.fit(objective(Network(2)), params, draw, start(Config())[0], ITEMS, recipe, **options)


@pytest.fixture(scope="module")
def three(quick_compile: None) -> fit.Fitted:
    return train(Config())


@lru_cache
def gradient(network: Network) -> Callable[..., Any]:
    return jax.jit(jax.grad(objective(network)))


@pytest.fixture(scope="module")
def tolerance(three: fit.Fitted) -> float:
    """How far two programs of the same arithmetic, with sums in another order, may end apart.

    Each step may round every weight differently, by half an ulp for each of its 20 or so sums: by 10 ulps at the most. What
    that does by the last step is measured: all weights 10 ulps up at the start. No step's error is carried on further than
    that of the first (the learning rate falls, the loss is smooth), so all steps together do STEPS times as much at most.
    """
    up = jax.tree.map(lambda x: x * (1 + 10 * EPS), start(Config())[1])
    moved = gap(from_params(up).params, three.params)
    assert EPS / 2 <= moved < 1e-5
    return STEPS * moved


def by_hand(config: Config, recipe: fit.Recipe, member: int) -> list[list[np.ndarray]]:
    """Weights of one member after every step: AdamW in float64, from the same gradients and picks."""
    keys, params = start(config)
    leaves, form = jax.tree.flatten(of(member, params))
    weights = [np.asarray(x, np.float64) for x in leaves]
    m, v = [0 * x for x in weights], [0 * x for x in weights]
    warm, path = round(0.05 * recipe.steps), [weights]
    for t in range(recipe.steps):
        if t < warm:
            rate = recipe.learning_rate * t / warm
        else:  # a cosine from the peak to .02 of it
            done = (t - warm) / (recipe.steps - warm)
            rate = recipe.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        picks = jax.random.randint(jax.random.fold_in(keys[member], t), (config.batch,), 0, len(ITEMS))
        g = jax.tree.leaves(
            gradient(Network(config.h))(form.unflatten([x.astype(np.float32) for x in weights]), ITEMS, picks)
        )
        g = [np.asarray(x, np.float64) for x in g]
        norm = math.sqrt(sum((x**2).sum() for x in g))
        g = [x * min(1.0, recipe.clip / norm) for x in g]
        m = [0.9 * old + 0.1 * x for old, x in zip(m, g, strict=True)]
        v = [recipe.b2 * old + (1 - recipe.b2) * x**2 for old, x in zip(v, g, strict=True)]
        change = [
            a / (1 - 0.9 ** (t + 1)) / (np.sqrt(b / (1 - recipe.b2 ** (t + 1))) + 1e-8) + recipe.weight_decay * w
            for a, b, w in zip(m, v, weights, strict=True)
        ]
        weights = [w - rate * x for w, x in zip(weights, change, strict=True)]
        path.append(weights)
    return path


def test_a_member_is_trained_by_adamw(three: fit.Fitted, tolerance: float):
    path = by_hand(Config(), fit.Recipe(STEPS, Config().rate), 1)
    assert gap(of(1, three.params), path[-1]) < tolerance


def test_recipes_and_looks_on_the_way(tolerance: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fit, "BLOCK", 20)
    options = {"weight_decay": 0.1, "b2": 0.95, "clip": math.inf}
    fitted = train(Config(), **options)
    path = by_hand(Config(), fit.Recipe(STEPS, Config().rate, **options), 1)
    assert gap(of(1, fitted.params), path[-1]) < tolerance
    assert gap(path[-1], by_hand(Config(), fit.Recipe(STEPS, Config().rate), 1)[-1]) > 0.01
    for mark, look in zip((0, 20, 40, 60), fitted.looks, strict=True):
        expected = sum((x**2).sum() for x in path[mark])
        # of 22 weights below 3 in size
        assert float(look[1]) == pytest.approx(expected, abs=22 * 2 * 3 * tolerance)
    assert fitted.losses.shape == (3, 3) and (fitted.losses[:, 0] > fitted.losses[:, 2]).all()


def test_the_same_key_gives_the_same_bytes_and_another_key_others(three: fit.Fitted):
    assert digest(train(Config())) == digest(three)
    other = train(replace(Config(), seed=1))
    assert all(gap(of(i, other.params), of(j, three.params)) > 0.1 for i in range(3) for j in range(3))


@pytest.mark.parametrize("seeds", [1, 8])
def test_more_or_fewer_members_leave_the_others_as_they_were(seeds: int, three: fit.Fitted, tolerance: float):
    same = slice(min(seeds, 3))
    fitted = train(replace(Config(), seeds=seeds))
    assert gap(of(same, fitted.params), of(same, three.params)) < tolerance
    assert gap(fitted.losses[same], three.losses[same]) < 20 * tolerance  # its gradient is below 20


def test_every_member_trained_alone_is_itself(three: fit.Fitted, tolerance: float):
    keys, params = start(Config())
    draw, recipe = fit.minibatch(40, 8), fit.Recipe(STEPS, Config().rate)
    for i in range(3):
        one = jax.tree.map(lambda x: x[i : i + 1], params)  # noqa: B023
        alone = fit.fit(objective(Network(2)), one, draw, keys[i : i + 1], ITEMS, recipe)
        assert gap(of(0, alone.params), of(i, three.params)) < tolerance


def test_padded_widths_are_each_what_they_are_alone(three: fit.Fitted, tolerance: float):
    narrow = replace(Config(), h=1)
    keys, params = start(Config())
    stacked = fit.stack([start(narrow)[1], params])
    draw, recipe = fit.minibatch(40, 8), fit.Recipe(STEPS, Config().rate)
    fitted = fit.fit(objective(Network(2)), stacked, draw, jnp.tile(keys, 2), ITEMS, recipe)
    assert gap(of(slice(3, 6), fitted.params), three.params) < tolerance
    zeros = 0
    for padded, own in zip(jax.tree.leaves(fitted.params), jax.tree.leaves(train(narrow).params), strict=True):
        padded = np.array(padded[:3])
        inside = tuple(slice(n) for n in own.shape)
        assert np.abs(padded[inside] - own).max() < tolerance
        padded[inside] = 0
        assert not padded.any()  # the padding, exactly
        zeros += padded.size - own.size
    assert zeros == 3 * (4 + 1 + 4)  # a unit's weights in, bias, weights out


def test_steps_come_in_blocks_of_a_divisor(monkeypatch: pytest.MonkeyPatch, tolerance: float):
    blocks = {1: 1, 7: 7, 60: 60, 100: 100, 101: 1, 103: 1, 200: 100, 202: 2, 600: 100, 936: 78, 3750: 75}
    assert {steps: fit.Recipe(steps, 0.1).block() for steps in blocks} == blocks
    monkeypatch.setattr(fit, "BLOCK", 12)
    config = Config(steps=13)  # prime: thirteen blocks of a step
    fitted = train(config)
    assert fitted.losses.shape == (3, 13) and [float(x) for x in fitted.looks[0]]
    assert gap(of(2, fitted.params), by_hand(config, fit.Recipe(13, config.rate), 2)[-1]) < tolerance
    first = [float(tiny_loss(config, member)) for member in range(3)]
    np.testing.assert_allclose(fitted.losses[:, 0], first, rtol=20 * EPS)


def tiny_loss(config: Config, member: int) -> Any:
    """Loss of the first minibatch, before any step."""
    keys, params = start(config)
    picks = jax.random.randint(jax.random.fold_in(keys[member], 0), (config.batch,), 0, len(ITEMS))
    return objective(Network(config.h))(of(member, params), ITEMS, picks)


def test_looks_are_taken_at_their_marks_and_change_nothing(three: fit.Fitted):
    sums = [tiny_family.look(params) for params in (start(Config())[1], three.params)]
    assert digest(three.looks) == digest(sums)
    assert digest(from_params(start(Config())[1]).params) == digest(three.params)
    for wrong in (1, -60, 120):
        with pytest.raises(ValueError, match="multiples of 60 from 0 to 60"):
            from_params(start(Config())[1], marks=[wrong], look=tiny_family.look)


@pytest.mark.parametrize(("steps", "rate"), [(0, 0.1), (1, 0.0), (1, math.nan), (1, math.inf)])
def test_a_recipe_that_cannot_be_followed_is_refused(steps: int, rate: float):
    with pytest.raises(ValueError, match="steps >= 1 and a learning rate above 0"):
        fit.Recipe(steps, rate)


@pytest.mark.parametrize("bad", [1e30, math.nan])
def test_a_diverged_member_is_named_and_touches_no_other(bad: float, three: fit.Fitted, capsys: Any):
    _, params = start(Config())
    params = jax.tree.map(lambda x: x.at[1].set(bad * (1 + x[1])), params)
    with progress.shown(quiet=True):
        fitted = from_params(params)
    assert fitted.finite().tolist() == [True, False, True]
    assert digest(of([0, 2], fitted.params)) == digest(of([0, 2], three.params))
    assert digest(fitted.losses[[0, 2]]) == digest(three.losses[[0, 2]])
    said = capsys.readouterr()
    assert said.err == "training: member 1 diverged by step 60: it has no score\n" and not said.out


def test_weights_that_are_no_numbers_after_the_last_step_are_a_divergence(capsys: Any):
    params = {"a": np.ones((3, 2)), "b": np.array([[1.0], [np.inf], [1.0]])}
    fitted = fit.Fitted(params, np.ones((3, 4), np.float32), [])
    assert fitted.finite().tolist() == [True, False, True]
    fit._name_diverged(fitted, "numbers", 5)
    assert capsys.readouterr().err == "numbers: member 1 diverged: it has no score\n"


def test_bf16_rounds_the_arithmetic_and_not_the_weights(three: fit.Fitted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fit, "BLOCK", 20)
    fitted = train(Config(), dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(fitted.params)} == {np.dtype("float32")}
    # Adam's step is at most the learning rate whatever the gradient's size: two paths end at most 2 STEPS rates apart
    assert 0 < gap(fitted.params, three.params) < 2 * STEPS * Config().rate
    assert (fitted.losses[:, -1] < fitted.losses[:, 0]).all()
    # bf16 has 8 bits: the loss at the end goes with float32's to a few per cent
    np.testing.assert_allclose(fitted.losses.mean(1), three.losses[:, 0], rtol=0.05)


def test_initial_members_are_their_keys_own():
    assert digest(of(slice(2), start(Config(seeds=5))[1])) == digest(start(Config(seeds=2))[1])
    assert fit.size(Network(2)) == 4 * 2 + 2 + 2 * 4 + 4


def test_progress_shows_the_loss_and_the_time_left(capsys: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fit, "BLOCK", 20)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setenv("CI", "1")  # no terminal
    with progress.shown():
        fitted = train(Config())
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["h-2: 33%", "h-2: 67%", "h-2: 100%"]
    for line, losses in zip(lines, fitted.losses.T, strict=True):
        found = re.fullmatch(r"h-2: \d+%, \d+ s left, loss ([\d.]+)", line)
        assert found and float(found[1]) == pytest.approx(losses.mean(), rel=0.005)


FOUR = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np, tiny_family as tiny
from dataclasses import replace
from train import fit
assert len(jax.devices()) == 4
told = []
for seeds in (4, 1):
    fitted = tiny.train(replace(tiny.Config(), seeds=seeds))
    found = jax.tree.leaves(fitted.params)
    told.append([len(found[0].sharding.device_set), [np.asarray(x).tolist() for x in found], fitted.losses.tolist()])
print(json.dumps([[dict(fit.Split(seeds, jax.devices()).mesh.shape) for seeds in (4, 6, 1)], *told]))
"""


def test_four_devices_give_the_same_members(three: fit.Fitted, tolerance: float):
    env = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    code = [sys.executable, "-c", FOUR, str(ROOT / "tests")]
    done = subprocess.run(code, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    shapes, four, one = json.loads(done.stdout)
    # whole members to each device; 6 go in threes to pairs of devices that share minibatches; 1 has all four at its own
    assert shapes == [{"member": 4, "item": 1}, {"member": 2, "item": 2}, {"member": 1, "item": 4}]
    assert four[0] == one[0] == 4
    for found, count in ((four, 3), (one, 1)):
        params = [np.asarray(x, np.float32)[:count] for x in found[1]]
        assert gap(params, jax.tree.leaves(of(slice(count), three.params))) < tolerance
        assert gap(np.float32(found[2])[:count], three.losses[:count]) < 20 * tolerance
