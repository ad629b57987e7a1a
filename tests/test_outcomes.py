"""Outcomes: what `check` lets through. What it refuses is in test_metrics.py, through the one door `evaluate`."""

import jax
import numpy as np
import pytest

from mirage_jax import Attempts, Choices, Errors, Tokens
from mirage_jax.outcomes import check

IDS = np.zeros((2, 3), np.int32)
ITEM = Choices(np.log(np.full((1, 2), 0.5)), np.ones((1, 2), bool), np.array([[1.0, 0.0]]))


@pytest.mark.parametrize(
    "outcome",
    [
        Tokens(IDS, np.array([0, 3]), IDS[:, :1], np.array([1, 0])),  # lengths of 0, other widths
        Tokens(IDS - 9, np.array([0, 0]), IDS - 9, np.array([0, 0])),  # anything may lie under the padding
        Tokens(IDS, np.array([1, 2]), IDS, np.array([1, 2]), np.where([[1, 0, 0], [1, 1, 0]], -np.inf, np.nan)),
        Tokens(IDS[0], np.array(3), IDS[0], np.array(3)),  # one sample, no batch axis
        Tokens(IDS.reshape(1, 2, 3), np.full((1, 2), 3), IDS.reshape(1, 2, 3), np.full((1, 2), 3)),
        ITEM,
        ITEM._replace(log_prob=np.array([[-1.0, -np.inf]])),
        ITEM._replace(log_prob=np.array([[-1.0, 7.0]]), real=np.array([[True, False]])),
        Errors(np.array([0.0, np.inf])),
        Attempts(np.array([1, 9]), np.array([0, 9])),
    ],
)
def test_what_a_model_can_have_done_is_let_through(outcome):
    check(outcome)


def test_vocabulary_bounds_only_real_tokens():
    check(Tokens(IDS + 8, np.array([0, 0]), IDS + 8, np.array([0, 0])), vocabulary=3)
    check(Tokens(IDS + 2, np.array([3, 3]), IDS + 2, np.array([3, 3])), vocabulary=3)


@pytest.mark.parametrize("outcome", [Errors(np.ones(2, np.float32)), ITEM, Attempts(np.array([2]), np.array([1]))])
def test_outcomes_are_pytrees(outcome):
    again = jax.tree.map(lambda field: field, outcome)
    assert type(again) is type(outcome)
    assert len(jax.tree.leaves(outcome)) == sum(field is not None for field in outcome)


def test_numbers_beyond_32_bits_are_refused_not_wrapped():
    from mirage_jax import evaluate

    with pytest.raises(ValueError, match="below 2"):
        evaluate(Tokens(np.array([[2**32 + 5]]), np.array([1]), np.array([[5]]), np.array([1])), "exact_match")
    with pytest.raises(ValueError, match="below 2"):
        evaluate(Attempts(np.array([2**32 + 10]), np.array([2])), "pass_at_k", k=1)


def test_lists_are_read_as_arrays():
    from mirage_jax import evaluate

    assert evaluate(Tokens([[1, 2]], [2], [[1, 2]], [2]), "exact_match")["exact_match"].tolist() == [1.0]
    with pytest.raises(ValueError, match="whole number K"):
        evaluate(Attempts([4], [2]), "subset_accuracy", K=1.5)
