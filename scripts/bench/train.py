"""The training program against PyTorch eager, on one LeNet of full width at 8x8 and at 28x28.

Ours is `train.fit.fit` as the families call it, minibatches and losses included. The peer is the same network trained as one
would write it: `torch.nn`, clipped gradients, AdamW, a loop over steps; it takes our weights, minibatches and learning rates,
and trains members one after another. Several forms of it run (threads, optimiser) and the fastest is the peer. A row is refused
unless both sides give the same loss and gradients at the start, and the same mean loss of the first block of steps, in which
the optimisers show. Compilation is outside the clock. Images and labels are drawn: speed does not look at them.
"""

import importlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PyTree

from mirage_jax import progress
from mirage_jax.progress import echo
from scripts.bench.timing import in_turns
from train import fit, lenet
from train.models import CLASSES, lenet_widths

SIDES = {8: 400, 28: 50}  # pixels a side, and steps of one run
MEMBERS, ON_GPU = 8, 256  # trained together
ITEMS, BATCH = 2048, 64
CLOSE = 1e-4  # of the largest entry of a gradient: sums of some 10^4 terms in another order, each rounded to 6e-8
DRIFT = 0.01  # of the mean loss of a block: such differences grow as training goes on


@dataclass(frozen=True)
class Case:
    """One training run of some members, as both sides get it."""

    side: int
    recipe: fit.Recipe
    members: int

    @property
    def network(self) -> lenet.Network:
        """The net, at LeNet-5's own widths."""
        return lenet.Network(lenet_widths(1.0), self.side)

    def keys(self) -> jax.Array:
        """One a member."""
        return fit.members(jax.random.key(0), self.members)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of noise, labelled by a linear rule, so that there is something to learn."""
        draw = np.random.default_rng(0)
        images = draw.standard_normal((ITEMS, self.side, self.side), dtype=np.float32)
        rule = draw.standard_normal((self.side**2, CLASSES), dtype=np.float32)
        return images, (images.reshape(ITEMS, -1) @ rule).argmax(1).astype(np.int32)

    def picks(self) -> np.ndarray:
        """Minibatches of the first member, [step, batch], as `fit` draws them."""
        pick, key = fit.minibatch(ITEMS, BATCH), self.keys()[0]
        steps = jnp.arange(self.recipe.steps)
        return np.asarray(jax.vmap(lambda step: pick(jax.random.fold_in(key, step)))(steps))

    def rate(self, step: int) -> float:
        """Learning rate of a step, written again from `fit.optimiser`."""
        warm, peak = round(fit.WARM_UP * self.recipe.steps), self.recipe.learning_rate
        if step < warm:
            return peak * step / warm
        cosine = (1 + math.cos(math.pi * (step - warm) / (self.recipe.steps - warm))) / 2
        return peak * (fit.FLOOR + (1 - fit.FLOOR) * cosine)


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every row, as it is measured; `quick` has few steps and two repeats."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        torch = None
        echo("torch is not installed: no row against it")
    gpu = jax.default_backend() == "gpu"
    if torch and gpu and not torch.cuda.is_available():
        torch = None
        echo("torch sees no GPU: no row against it")
    if not gpu:
        echo(f"no GPU: no row of {ON_GPU} members against one")
    for side, steps in SIDES.items():
        recipe = fit.Recipe(4 if quick else steps, 0.01)
        sizes = [1, MEMBERS, *([ON_GPU] if gpu else [])]
        cases = {size: Case(side, recipe, size) for size in sizes}
        ours = {size: ours_of(case) for size, case in cases.items()}
        peers = forms(torch, cases[1], gpu) if torch else {}
        for name, peer in peers.items():
            agree(name, cases[1], ours[1], peer)
        peers = likely(peers)
        runs = [*ours.values(), *(peer.train for peer in peers.values())]
        seconds = dict(zip([*ours, *peers], in_turns(runs, 2 if quick else 5), strict=True))
        known = {"side": side, "params": fit.size(cases[1].network), "batch": BATCH, "steps": recipe.steps}
        rate = {size: size * recipe.steps / seconds[size] for size in sizes}
        if peers:
            best = min(peers, key=seconds.__getitem__)
            for size in (1, MEMBERS):
                theirs = recipe.steps / seconds[best]
                yield known | {
                    "members": size, "against": f"PyTorch {torch.__version__} eager, {best}", "ratio": rate[size] / theirs,
                    "member_steps_per_s": rate[size], "peer_per_s": theirs,
                    "peers": {name: recipe.steps / seconds[name] for name in peers},
                }  # fmt: skip
        for size in sizes[1:]:
            yield known | {
                "members": size, "against": "the same, one at a time", "ratio": rate[size] / rate[1],
                "member_steps_per_s": rate[size], "peer_per_s": rate[1],
            }  # fmt: skip


def ours_of(case: Case) -> Callable[[], fit.Fitted]:
    """A run of `fit` from the first weights on."""
    params, keys, data = fit.initial(case.network, case.keys()), case.keys(), case.data()
    loss, pick = lenet.objective(case.network), fit.minibatch(ITEMS, BATCH)

    def train() -> fit.Fitted:
        with progress.shown(quiet=True):
            fitted = fit.fit(loss, params, pick, keys, data, case.recipe)
        return jax.block_until_ready(fitted)

    return train


class Peer:
    """The first member in PyTorch, eager."""

    def __init__(self, torch: Any, case: Case, threads: int, fused: bool, device: str):
        self.torch, self.case, self.threads, self.fused, self.device = torch, case, threads, fused, device
        self.weights = [torch.as_tensor(x) for x in as_torch(first_member(fit.initial(case.network, case.keys())))]
        images, labels = case.data()
        self.images = torch.as_tensor(images[:, None], device=device)
        self.labels = torch.as_tensor(labels, dtype=torch.int64, device=device)
        self.picks = torch.tensor(case.picks(), dtype=torch.int64, device=device)
        self.rates = [case.rate(step) for step in range(case.recipe.steps)]

    def net(self) -> Any:
        """The network with our first weights."""
        nn, weights = self.torch.nn, self.weights
        small, flat = self.case.side <= 8, weights[4].shape[1]
        k = weights[0].shape[-1]
        net = nn.Sequential(
            nn.Conv2d(1, weights[0].shape[0], k, padding=k // 2), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(weights[0].shape[0], weights[2].shape[0], k, padding=k // 2 if small else 0), nn.Tanh(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(flat, weights[4].shape[0]), nn.Tanh(),
            nn.Linear(weights[4].shape[0], weights[6].shape[0]), nn.Tanh(), nn.Linear(weights[6].shape[0], CLASSES),
        )  # fmt: skip
        with self.torch.no_grad():
            for own, given in zip(net.parameters(), weights, strict=True):
                own.copy_(given)
        return net.to(self.device)

    def loss(self, net: Any, step: int) -> Any:
        """Mean cross-entropy of a step's minibatch."""
        pick = self.picks[step]
        return self.torch.nn.functional.cross_entropy(net(self.images[pick]), self.labels[pick])

    def first(self) -> tuple[float, list[np.ndarray]]:
        """Loss and gradients of the first minibatch, with the first weights."""
        net = self.net()
        loss = self.loss(net, 0)
        loss.backward()
        return loss.item(), [p.grad.cpu().numpy() for p in net.parameters()]

    def train(self) -> np.ndarray:
        """Losses of all steps."""
        self.torch.set_num_threads(self.threads)
        net, recipe = self.net(), self.case.recipe
        form = {"fused": True} if self.fused else {}
        adamw = self.torch.optim.AdamW(
            net.parameters(), betas=(0.9, recipe.b2), weight_decay=recipe.weight_decay, **form
        )
        losses = []
        for step, rate in enumerate(self.rates):
            adamw.param_groups[0]["lr"] = rate
            loss = self.loss(net, step)
            adamw.zero_grad()
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            adamw.step()
            losses.append(loss.detach())
        return self.torch.stack(losses).cpu().numpy()


def forms(torch: Any, case: Case, gpu: bool) -> dict[str, Peer]:
    """PyTorch by threads and by form of AdamW, by name."""
    threads = [1] if gpu else sorted({1, os.cpu_count() or 1})
    return {
        f"{count} thread{'s' * (count > 1)}, {'fused' if fused else 'default'} AdamW": Peer(
            torch, case, count, fused, "cuda" if gpu else "cpu"
        )
        for count, fused in itertools.product(threads, (False, True))
    }


def likely(peers: dict[str, Peer]) -> dict[str, Peer]:
    """Those that in one run take less than twice the time of the fastest: two threads on busy cores can take 30 times."""
    seconds = {}
    for name, peer in peers.items():
        begun = time.perf_counter()
        peer.train()
        seconds[name] = time.perf_counter() - begun
    return {name: peer for name, peer in peers.items() if seconds[name] < 2 * min(seconds.values())}


def as_torch(params: PyTree) -> list[np.ndarray]:
    """Our arrays of one member in the shapes and the order of the peer's: channels before rows before columns."""
    params, arrays = nnx.to_pure_dict(params), []
    for layer in ("conv1", "conv2", "hidden1", "hidden2", "logits"):
        kernel, bias = (np.asarray(params[layer][name]) for name in ("kernel", "bias"))
        if layer.startswith("conv"):
            kernel = kernel.transpose(3, 2, 0, 1)
        elif layer == "hidden1":
            kernel = kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)
        else:
            kernel = kernel.T
        arrays += [kernel.copy(), bias.copy()]
    return arrays


def agree(name: str, case: Case, ours: Callable[[], fit.Fitted], peer: Peer) -> None:
    """Refuse a peer that does not compute what we do."""
    params, picks = first_member(fit.initial(case.network, case.keys())), case.picks()[0]
    value, grads = jax.jit(jax.value_and_grad(lenet.objective(case.network)))(params, case.data(), picks)
    loss, theirs = peer.first()
    assert abs(loss - value) <= CLOSE * loss, f"{name}: loss {loss}, ours {value}"  # noqa: S101
    for own, other in zip(as_torch(grads), theirs, strict=True):
        apart = np.abs(own - other).max() / np.abs(other).max()
        assert apart <= CLOSE, f"{name}: a gradient is {apart} of its largest entry from ours"  # noqa: S101
    mean, block = ours().losses[0, 0], peer.train()[: case.recipe.block()].mean()
    assert abs(mean - block) <= DRIFT * block, f"{name}: mean loss {block} of the first block, ours {mean}"  # noqa: S101


def first_member(params: PyTree) -> PyTree:
    """Its parameters alone."""
    return jax.tree.map(lambda x: x[0], params)
