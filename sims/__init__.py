"""Monte Carlo of per-token errors over model scale and sequence length. Run as `python -m sims.NAME`."""
