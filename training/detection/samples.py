"""A sheet of annotated images."""

import numpy as np
from PIL import Image, ImageDraw

from service.tasks.palette import class_colour
from training.detection.data import DetectionData
from training.report.samples import sheet_of

_COLUMNS, _ROWS = 4, 3


def draw_boxes(data: DetectionData) -> Image.Image:
    """Training images with their boxes, each class in its colour."""
    count = min(_COLUMNS * _ROWS, len(data.train))
    tiles = []
    for index in np.sort(np.random.default_rng(0).choice(len(data.train), count, replace=False)):
        image, labels = Image.fromarray(data.train.images[index]), data.train.labels[index]
        canvas, line = ImageDraw.Draw(image), max(1, max(image.size) // 160)
        for box, label in zip(data.train.fitted_boxes(int(index)), labels, strict=True):
            canvas.rectangle(tuple(box.tolist()), outline=class_colour(int(label)), width=line)
        names = ", ".join(data.classes[label] for label in np.unique(labels))
        tiles.append((np.asarray(image), names or "nothing"))
    return sheet_of(tiles, _COLUMNS, 2.6, [(name, class_colour(index)) for index, name in enumerate(data.classes)])
