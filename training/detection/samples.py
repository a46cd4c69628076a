"""A sheet of annotated images."""

import numpy as np
from PIL import Image, ImageDraw

from service.tasks.palette import class_colour
from training.detection.data import DetectionData
from training.report.samples import sheet_of, to_picture, with_legend

_COLUMNS, _ROWS, _TILE = 4, 3, 320


def draw_boxes(data: DetectionData) -> Image.Image:
    """Training images with their boxes, each class in its colour."""
    count = min(_COLUMNS * _ROWS, len(data.train))
    chosen = np.sort(np.random.default_rng(0).choice(len(data.train), count, replace=False))

    def tile(index: int) -> tuple[Image.Image, str]:
        picture = to_picture(data.train.images[index])
        scale = _TILE / max(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        canvas = ImageDraw.Draw(picture)
        labels = data.train.labels[index]
        for box, label in zip(data.train.fitted_boxes(index), labels, strict=True):
            canvas.rectangle(tuple((box * scale).tolist()), outline=class_colour(int(label)), width=2)
        names = ", ".join(data.classes[label] for label in np.unique(labels))
        return picture, names or "nothing"

    sheet = sheet_of([tile(int(index)) for index in chosen], _TILE, _COLUMNS)
    return with_legend(sheet, ((name, class_colour(index)) for index, name in enumerate(data.classes)))
