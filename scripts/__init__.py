"""The one command that reproduces everything, its figures, its claims, and the studies of real outputs."""
