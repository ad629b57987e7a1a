"""Emergence induced in small image classifiers (figure 10 of the paper, on its own data set)."""

from scripts.figures.digits_cnn import READ, draw

__all__ = ["CAPTION", "DATA", "TABLES", "TITLE", "draw"]

TABLES = ("mnist_cnn", "mnist_cnn_curve")
DATA = "MNIST; under the panels, what the files were"
TITLE = "Induced emergence: LeNets of growing width on MNIST"
CAPTION = (
    "Small LeNets trained on MNIST and tested on its 10,000 test images, 5 seeds a width. Quick preset: means of 2x2 pixels "
    "(14x14), the first 10,000 training images, 936 steps, 8 widths; full preset: 28x28, all 60,000, 3,750 steps, 11 widths. "
    f"{READ}"
)
