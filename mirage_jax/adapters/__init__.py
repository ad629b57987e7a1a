"""Thin readers, one file a format: what a model already said, brought to outcomes and scored by the same metrics."""
