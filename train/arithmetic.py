"""Integer arithmetic for small language models: tasks, tokens, the split of the pairs, the network, and decoding.

A question is text such as `12*34=`, its answer the digits `0408`: every digit a token, both of fixed width, padded with
zeros, so that an answer needs no end. `add2rev` writes the sum with its units first, as carries run.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree

from mirage_jax.outcomes import AnyArray
from mirage_jax.parts import Parts
from train import fit
from train.models import SPREAD, Decoder, Size, spread

VOCABULARY = "0123456789+*="  # a token's id is its place here; a digit's is its value
DIGITS = 10  # classes of an answer's token
HELD_OUT = 10  # one pair in so many


class Task(NamedTuple):
    """A kind of question. Operands have `digits` digits, answers `length`."""

    name: str
    operation: Literal["+", "*"]
    digits: int
    length: int
    units_first: bool = False

    def question(self, a: int, b: int) -> str:
        """What the model reads: `12*34=`."""
        return f"{a:0{self.digits}}{self.operation}{b:0{self.digits}}="

    def answer(self, a: int, b: int) -> str:
        """What it should write: `0408`."""
        found = f"{a + b if self.operation == '+' else a * b:0{self.length}}"
        return found[::-1] if self.units_first else found

    def time(self) -> int:
        """Tokens that the network reads: all but the answer's last."""
        return 2 * self.digits + 2 + self.length - 1


TASKS = {
    "mul2": Task("mul2", "*", 2, 4),
    "add2rev": Task("add2rev", "+", 2, 3, units_first=True),
}


class Questions(NamedTuple):
    """Questions as tokens."""

    prompt: Int[AnyArray, "question prompt"]
    answer: Int[AnyArray, "question L"]


class Network(NamedTuple):
    """A network of some size for a task; equal ones are compiled once."""

    size: Size
    task: Task

    def __call__(self, rngs: Any) -> "Transformer":
        """Make it."""
        return Transformer(self.size, self.task.time(), self.task.length, rngs=rngs)


class Transformer(nnx.Module):
    """Embedded tokens, then a causal decoder: the logits of the digits that follow the last few places."""

    def __init__(self, size: Size, time: int, last: int, *, rngs: nnx.Rngs):
        self.tokens = nnx.Param(spread(SPREAD)(rngs.params(), (len(VOCABULARY), size.d)))
        self.decoder = Decoder(size, time, DIGITS, rngs=rngs)
        self.last = last

    def __call__(self, tokens: Int[Array, "*batch time"]) -> Float[Array, "*batch last 10"]:
        """Logits."""
        # a product, since the gradient of a lookup adds row by row, which is slow on CPUs
        table = self.tokens[...]
        return self.decoder(jax.nn.one_hot(tokens, len(VOCABULARY), dtype=table.dtype) @ table, self.last)


class Decoded(NamedTuple):
    """What one model says to some questions."""

    log_prob: Float[AnyArray, "*batch L"]  # nats, of the right token after the right ones before it
    greedy: Int[AnyArray, "*batch L"]  # always the likeliest token, after those it wrote itself
    sampled: Int[AnyArray, "*batch L"]  # drawn at temperature 1, after those it drew


def tokens(text: str) -> list[int]:
    """Ids of a text's tokens, or a ValueError that names what is none."""
    if set(text) - set(VOCABULARY):
        raise ValueError(f"expected a text of {VOCABULARY!r}, got {text!r}")
    return [VOCABULARY.index(character) for character in text]


def texts(tokens: Int[AnyArray, "text token"]) -> list[str]:
    """The text of each row of tokens."""
    return ["".join(VOCABULARY[token] for token in row) for row in np.asarray(tokens).tolist()]


def questions(task: Task, pairs: Sequence[tuple[int, int]]) -> Questions:
    """A question and its answer for each pair of operands."""
    prompt = [tokens(task.question(a, b)) for a, b in pairs]
    answer = [tokens(task.answer(a, b)) for a, b in pairs]
    return Questions(np.array(prompt, np.int32), np.array(answer, np.int32))


class Split(NamedTuple):
    """All pairs of operands, in two parts."""

    train: list[tuple[int, int]]
    held_out: list[tuple[int, int]]


@cache
def split(digits: int) -> Split:
    """Every tenth pair by a hash of its two numbers in ascending order: a pair and its commuted twin stand on one side."""
    parts: Split = Split([], [])
    for a, b in itertools.product(range(10**digits), repeat=2):
        digest = hashlib.sha256(f"{min(a, b)},{max(a, b)}".encode()).hexdigest()
        parts[int(digest, 16) % HELD_OUT == 0].append((a, b))
    return parts


@lru_cache
def objective(network: Network) -> fit.Loss:
    """Mean cross-entropy over the answer's tokens; what stands at the question's places is never predicted."""
    graph = fit.graph(network)

    def loss(params: PyTree, data: PyTree, picks: PyTree) -> Float[Array, ""]:
        prompt, answer = (x[picks] for x in data)
        read = jnp.concatenate([prompt, answer[:, :-1]], axis=1)
        logits = nnx.merge(graph, params)(read).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, answer).mean()

    return loss


def train(
    network: Network,
    keys: Key[Array, " member"],
    data: Questions,
    batch: int,
    recipe: fit.Recipe,
    *,
    marks: Sequence[int] = (),
    look: Callable[[PyTree], PyTree] | None = None,
    kept: Parts | None = None,
) -> fit.Fitted:
    """Train one member per key, all in one program."""
    init, batches = jax.vmap(jax.random.split, out_axes=1)(keys)
    return fit.fit(
        objective(network),
        fit.initial(network, init),
        fit.minibatch(len(data.prompt), batch),
        batches,
        tuple(map(jnp.asarray, data)),
        recipe,
        marks=marks,
        look=look,
        kept=kept,
        label=f"{network.task.name}-{network.size}",
    )


def decode(
    forward: Callable[[Array], Array],
    key: Key[Array, ""],
    prompt: Int[AnyArray, "question prompt"],
    answer: Int[AnyArray, "question L"],
) -> Decoded:
    """Log-probabilities of the right answers, and the answers that the model writes itself, greedily and by sampling.

    Args:
        forward: tokens [..., question, time] -> logits [..., question, L, 10] of what follows the last L places.
        key: of the sampled answers, one draw a question.
        prompt: the questions.
        answer: the right answers.
    """
    first, length = prompt.shape[1], answer.shape[1]
    both = jnp.broadcast_to(prompt, (2, *prompt.shape))
    written = jnp.concatenate([both, jnp.zeros((2, *answer.shape), prompt.dtype)], axis=2)

    def write(written: Array, place: Array) -> tuple[Array, None]:
        logits = jax.lax.dynamic_index_in_dim(forward(written[..., :-1]), place, axis=2, keepdims=False)
        drawn = jax.random.categorical(jax.random.fold_in(key, place), logits[1])
        both = jnp.stack([logits[0].argmax(-1), drawn]).astype(written.dtype)
        return jax.lax.dynamic_update_index_in_dim(written, both, first + place, axis=2), None

    written, _ = jax.lax.scan(write, written, jnp.arange(length))
    right = jnp.concatenate([prompt, answer[:, :-1]], axis=1)
    told = jax.nn.log_softmax(forward(right).astype(jnp.float32))
    log_prob = jnp.take_along_axis(told, answer[..., None], axis=-1)[..., 0]
    return Decoded(log_prob, written[0, :, first:], written[1, :, first:])


def decoded(
    network: Network, params: PyTree, keys: Key[Array, " member"], prompt: AnyArray, answer: AnyArray
) -> Decoded:
    """What every member [member, ...] says to all questions."""
    return _program(jax.default_backend())(network, params, keys, prompt, answer)


@lru_cache
def _program(backend: str) -> Callable[..., Decoded]:
    return jax.jit(_decoded, static_argnums=0, compiler_options=fit.quick_compile(backend, 1))


def _decoded(network: Network, params: PyTree, keys: Array, prompt: AnyArray, answer: AnyArray) -> Decoded:
    graph = fit.graph(network)

    def member(given: tuple[PyTree, Array]) -> Decoded:
        params, key = given
        return decode(nnx.merge(graph, params), key, prompt, answer)

    return jax.lax.map(member, (params, keys))


def answer(network: Network, params: PyTree, prompts: Sequence[str]) -> list[tuple[str, list[float]]]:
    """What one member (parameters without a member axis) answers, greedily, and the log-probability of each token.

    Raises:
        ValueError: a prompt that is no question of the network's task, such as 12*34=.
    """
    task = network.task
    form = re.compile(rf"[0-9]{{{task.digits}}}\{task.operation}[0-9]{{{task.digits}}}=")
    strange = [prompt for prompt in prompts if not form.fullmatch(prompt)]
    if strange or not prompts:
        raise ValueError(
            f"expected questions such as {task.question(12, 34)!r}, got {strange[0] if strange else 'none'!r}"
        )
    family, key = jax.tree.map(lambda x: x[None], params), jax.random.key(0)[None]
    asked = np.array([tokens(prompt) for prompt in prompts], np.int32)
    written = decoded(network, family, key, asked, np.zeros((len(prompts), task.length), np.int32)).greedy[0]
    told = decoded(network, family, key, asked, written).log_prob[0]
    return list(zip(texts(written), np.asarray(told).tolist(), strict=True))
