"""Emergence induced in shallow autoencoders by a threshold (figure 7 of the paper, on CIFAR)."""

from scripts.figures.digits_autoencoder import PANELS, draw

__all__ = ["CAPTION", "DATA", "TABLES", "TITLE", "draw"]

TABLES = tuple(f"cifar_autoencoder{part}" for part in ("", "_curve", "_transitions", "_members"))
DATA = "CIFAR images, named below the panels"
TITLE = "Induced emergence: autoencoders of growing width on natural images"
CAPTION = (
    "Autoencoders with one hidden layer of h GELU units and a linear output on the images named below the panels: grey, "
    "16x16 in the quick preset, colour, 32x32 in the full one, each image shifted and scaled to mean .5 and sd .2; 3 seeds a "
    f"width. {PANELS}Thresholds and widths are ours: the paper prints none."
)
