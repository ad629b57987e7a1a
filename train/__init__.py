"""Experiments that train: families of growing models whose real outputs the instrument scores."""
