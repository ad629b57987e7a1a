"""Threefry-2x32 with 20 rounds, unrolled so that it fuses with whatever reads it: JAX's own generator without its arrays.

`jax.random.bits` writes every word to memory before anything compares it. Here a word is an expression in registers. Words
are addressed, not iterated: each is a function of key and counter alone, so any chunk of a sweep can be drawn anywhere.

References:
    Salmon, Moraes, Dror, Shaw (2011), "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

from typing import Any

import numpy as np

Word = Any  # uint32, any shape: broadcast against each other

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def block(k0: Word, k1: Word, x0: Word, x1: Word) -> tuple[Word, Word]:
    """The two words of the counter (x0, x1) under the key (k0, k1), all uint32.

    For a key `k` of JAX's, with k0, k1 = jax.random.key_data(k):

        block(k0, k1, 0, i)                     = key_data(jax.random.fold_in(k, i))
        xor of block(k0, k1, i >> 32, i mod 2^32) = jax.random.bits(k, (n,))[i]      (jax_threefry_partitionable on)
    """
    schedule = (k0, k1, k0 ^ k1 ^ PARITY)
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for five in range(5):
        for rotation in ROTATIONS[five % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
            x1 = x0 ^ x1
        x0 = x0 + schedule[(five + 1) % 3]
        x1 = x1 + schedule[(five + 2) % 3] + np.uint32(five + 1)
    return x0, x1
