"""Figures: readable with any eyes, unbroken by any name, equal bytes, and a csv that is what is drawn."""

import itertools
import math

import numpy as np
import pytest
from coloraide import Color  # 8.13: CIEDE2000 and colour-vision filters

from mirage_jax import plotting
from mirage_jax.untrusted import read_csv_text

HOSTILE = [
    r"gpt$\foo$", "$", "_hidden", "__", "=HYPERLINK(\"http://x\")", "+1", "-1", "@sum", "\x1b[31mred\x1b[0m", "a\x00b",
    "\u202eevil", "\ud800", "<script>alert(1)</script>", "%s %d {x} {0}", "\\", "a|b\nc", "\t=1", "x" * 300, "模型-7b",
    "{{7*7}}", "~^&#%_", "", " ", "\u200b=1", "\x9b31m", "${a}$", r"\$", "'=1", "''", "‮", "\u2028", "🙂", "a\rb",
]  # fmt: skip


def hostile_names() -> list[str]:
    """200 names: the list above, its pairs, and each inside ordinary text."""
    pairs = (a + b for a, b in itertools.product(HOSTILE, HOSTILE))
    return [*HOSTILE, *(f"model {h} 7b" for h in HOSTILE), *itertools.islice(pairs, 200 - 2 * len(HOSTILE))]


def figure_of(names, x=(1e6, 1e9)):
    with plotting.style():
        figure, (ax,) = plotting.panels(1, 1)
        for kind, name in enumerate(names):
            plotting.curve(ax, x, (0.1, 0.5), (0.0, 0.4), (0.2, math.nan), label=name, kind=kind)
        plotting.level(ax, 0.25, names[0])
        plotting.log_axis(ax)
        ax.set(title=plotting.text(names[0]), xlabel="parameters", ylabel="score")
        ax.legend()
        return figure, plotting.render(figure, "png")


@pytest.mark.parametrize("batch", range(0, 200, 7))
def test_hostile_names_break_no_figure_and_lose_no_legend_entry(batch):
    names = hostile_names()[batch : batch + 7]
    assert len(hostile_names()) == 200
    figure, png = figure_of(names)
    assert png.startswith(b"\x89PNG")
    shown = [entry.get_text() for entry in figure.axes[0].get_legend().get_texts()]
    assert len(shown) >= len([n for n in names if n.strip()])
    rows = read_csv_text(plotting.points_csv(figure))
    assert rows[0] == plotting.HEADER
    series = {row[1] for row in rows[1:]}
    assert series == {n.encode("utf-8", "backslashreplace").decode() for n in names}
    assert plotting.describe(figure).startswith("Chart with 1 panel.")


def test_points_are_what_is_drawn():
    figure, _ = figure_of(["a"])
    title = figure.axes[0].get_title("left")
    assert plotting.points(figure) == [
        [title, "a", 1e6, 0.1, 0.0, 0.2],
        [title, "a", 1e9, 0.5, None, None],  # one end unknown: no bar
        [title, "a", None, 0.25, None, None],
    ]


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_equal_figures_give_equal_bytes(form):
    def draw():
        with plotting.style():
            figure, (ax,) = plotting.panels(1, 1)
            plotting.curve(ax, [1, 2], [3, 4], label="a")
            return plotting.render(figure, form)

    assert draw() == draw()


def test_pdf_embeds_its_fonts_as_outlines():
    with plotting.style():
        figure, (ax,) = plotting.panels(1, 1)
        ax.set_title("words")
        pdf = plotting.render(figure, "pdf")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


VISION = ("normal", "protan", "deutan", "tritan")


def seen(colour: str, vision: str) -> Color:
    return Color(colour) if vision == "normal" else Color(colour).filter(vision)


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_far_apart_for_every_vision(vision):
    pairs = itertools.combinations(plotting.COLOURS, 2)
    nearest = min(seen(a, vision).delta_e(seen(b, vision), method="2000") for a, b in pairs)
    assert nearest >= 15


def test_colours_are_few_dark_enough_and_apart_in_grey():
    assert len(plotting.COLOURS) <= 8
    white = Color("white")
    assert all(white.contrast(Color(c), method="wcag21") >= 4.5 for c in (*plotting.COLOURS, plotting.GREY))
    lightness = sorted(Color(c).convert("lab-d65")["lightness"] for c in plotting.COLOURS)
    assert min(np.diff(lightness)) >= 3  # CIELAB's just noticeable difference is 2.3


def test_marker_and_line_repeat_the_colour():
    assert len(set(plotting.MARKERS)) == len(set(plotting.LINES)) == len(plotting.COLOURS)


@pytest.mark.parametrize(
    ("value", "words"),
    [(3.5e8, "350M"), (1.3e9, "1.3B"), (1.75e11, "175B"), (1e12, "1T"), (0.01, "0.01"), (47, "47")],
)
def test_scales_in_words(value, words):
    assert plotting.compact(value) == words
