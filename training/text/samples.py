"""A sheet of texts."""

import numpy as np
from PIL import Image

from training.data.dataset import stratified_sample
from training.report.samples import LINES, table_of
from training.text.data import TextData


def draw_texts(data: TextData) -> Image.Image:
    """The beginnings of training texts of every class, with their labels."""
    labels = data.train.labels
    chosen = stratified_sample(labels, LINES, 0)
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    return table_of(("label", "text"), ((data.classes[labels[index]], data.train.texts[index]) for index in chosen))
