"""Studies of outputs and scores that others published. Run as `python -m scripts.studies.NAME`."""
