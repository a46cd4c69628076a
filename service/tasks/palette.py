"""The colour of each class: the same in rendered boxes and in every plot of the reports."""

# Distinct in hue and in lightness: the eight of Okabe and Ito (2008), for all kinds of colour vision, and two more.
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000", "#8C564B", "#7F7F7F",
)  # fmt: skip
_LIGHT = {"#E69F00", "#56B4E9", "#F0E442"}


def class_colour(index: int) -> str:
    """The colour of the class with this index, as `#RRGGBB`; beyond ten classes they repeat."""
    return COLOURS[index % len(COLOURS)]


def ink_on(colour: str) -> str:
    """The colour of text that can be read on one of `COLOURS`."""
    return "black" if colour in _LIGHT else "white"
