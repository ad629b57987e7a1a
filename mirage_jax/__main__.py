"""`python -m mirage_jax` is `mirage`."""

from mirage_jax.cli import command

command()
