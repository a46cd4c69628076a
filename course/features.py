"""What a published convolutional network computes of pictures: its first filters, and the feature maps of its groups.

The outputs of the first convolution and of each group are read from the graph as it is served.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from matplotlib.figure import Figure
from onnx import numpy_helper

from course.study import study_parser, table, write_study
from service.inference.manifest import MODEL
from training.data.dataset import DataError
from training.data.images import ImageSplit, load_images
from training.engine.progress import track
from training.report.plots import GUIDE, save_figure

Floats = npt.NDArray[np.float32]
BATCH, MEASURED = 250, 4000
MAPS, CHANNELS = 6, 8
STRONGEST, COUNTED, LEAST_SHOWN = 3, 50, 4
# Inches.
WIDTH = 5.6
FILTERS, EXAMPLE, LIKED, RECORD = "filters.png", "maps.png", "strongest.jpg", "features.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the pictures, their figures and a report."""
    parser = study_parser("course.features", __doc__)
    parser.add_argument("--version", type=Path, default=Path("models/classifier/1"), help="default: %(default)s")
    parser.add_argument("--example", type=int, default=52, help="the test image to follow (default: %(default)s)")
    options = parser.parse_args(arguments)
    data = load_images(options.data, limit=options.limit, seed=options.seed)
    if not 0 <= options.example < len(data.test):
        raise DataError(f"--example {options.example}: there are {len(data.test)} test images.")
    model = onnx.load(options.version / MODEL)
    stages = stages_of(model)
    test = data.test.take(np.arange(min(MEASURED, len(data.test))))
    example = data.test.take(np.array([options.example]))
    strongest, places = strongest_responses(model, stages, test)
    maps = read_stages(model, stages, example.images[:])
    fields = receptive_fields(model, stages)
    options.folder.mkdir(parents=True, exist_ok=True)
    _draw_filters(options.folder / FILTERS, first_filters(model))
    _draw_maps(options.folder / EXAMPLE, example.images[0], maps, strongest)
    _draw_strongest(options.folder / LIKED, test, strongest, places, fields)
    rows = []
    for values, maps_of_stage, field in zip(strongest, maps, fields, strict=True):
        height, width = maps_of_stage.shape[2:]
        share, most = purity(values, test.labels)
        rows.append(
            {
                "channels": values.shape[1],
                "height": height,
                "width": width,
                "field": field,
                "share_of_one_class": round(share, 3),
                "channels_of_one_class": round(most, 3),
            }
        )
    record = {
        "model": f"{options.version.parent.name}/{options.version.name}",
        "images": len(test),
        "side": min(data.shape[:2]),
        "counted": COUNTED,
        "example": {"index": options.example, "label": data.classes[example.labels[0]]},
        "stages": rows,
    }
    (options.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    write_report(options.folder, record, len(data.classes))


def stages_of(model: onnx.ModelProto) -> list[str]:
    """The names of the tensors that enter each group, and of the one that leaves the last, as in `CNN`.

    Raises:
        DataError: the graph is of another network.
    """
    names = {}
    for node in model.graph.node:
        for weight in node.input[1:2]:
            if weight.startswith("network.groups.") and weight.endswith(".convs.0.weight"):
                names[int(weight.split(".")[2])] = node.input[0]
    last = [node.input[0] for node in model.graph.node if node.op_type == "ReduceMax"]
    if not names or len(last) != 1:
        raise DataError("the model is not a convolutional network of this project (--arch cnn).")
    return [*(names[number] for number in sorted(names)), last[0]]


def first_filters(model: onnx.ModelProto) -> Floats:
    """The weights of the first convolution, shape (filters, channels, height, width)."""
    weight = next(each for each in model.graph.initializer if each.name == "network.whiten.weight")
    filters: Floats = numpy_helper.to_array(weight)
    return filters


def read_stages(model: onnx.ModelProto, stages: Sequence[str], images: npt.NDArray[np.uint8]) -> list[Floats]:
    """The maps of each stage, shape (n, channels, height, width)."""
    maps: list[Floats] = _session(model, stages).run(list(stages), {"images": images})
    return maps


def _session(model: onnx.ModelProto, stages: Sequence[str]) -> onnxruntime.InferenceSession:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in stages)
    return onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])


def strongest_responses(
    model: onnx.ModelProto, stages: Sequence[str], split: ImageSplit
) -> tuple[list[Floats], list[npt.NDArray[np.int64]]]:
    """The largest value of each channel in each image, shape (n, channels) for each stage, and where in its map."""
    session = _session(model, stages)
    values: list[list[Floats]] = [[] for _ in stages]
    places: list[list[npt.NDArray[np.int64]]] = [[] for _ in stages]
    for start in track(range(0, len(split), BATCH), "Feature maps"):
        for stage, maps in enumerate(session.run(list(stages), {"images": split.images[start : start + BATCH]})):
            flat = maps.reshape(*maps.shape[:2], -1)
            values[stage].append(flat.max(2))
            places[stage].append(np.stack(np.unravel_index(flat.argmax(2), maps.shape[2:]), -1))
    return [np.concatenate(each) for each in values], [np.concatenate(each) for each in places]


def receptive_fields(model: onnx.ModelProto, stages: Sequence[str]) -> list[int]:
    """How many pixels wide the part of the image is that a value of each stage depends on."""
    shapes = {each.name: each.dims for each in model.graph.initializer}
    field, step, fields = 1, 1, dict[str, int]()
    for node in model.graph.node:
        if set(node.input) & set(stages):
            fields |= {name: field for name in node.input if name in stages and name not in fields}
        if node.op_type == "Conv":
            field += (shapes[node.input[1]][-1] - 1) * step
        elif node.op_type == "MaxPool":
            field, step = field + step, 2 * step
    return [fields[name] for name in stages]


def purity(values: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """How much the images that excite a channel most are of one class.

    Returns:
        The mean share of the commonest class among the `COUNTED` strongest images of each channel, and the fraction
        of the channels where it is at least 0.8.
    """
    strongest = labels[np.argsort(-values, axis=0, kind="stable")[:COUNTED]]
    shares = np.array([np.bincount(column).max() / len(column) for column in strongest.T])
    return float(shares.mean()), float((shares >= 0.8).mean())


def write_report(folder: Path, record: dict[str, Any], classes: int) -> None:
    """Writes the report of what `main` has drawn."""
    example, counted = record["example"], record["counted"]
    write_study(
        folder,
        "# Filters and feature maps",
        f"What `{record['model']}` computes, read from its graph.",
        f"![The filters of the first convolution]({FILTERS})",
        "The filters of the first convolution, each of 2 x 2 pixels and three colours; grey is 0. The lower row has "
        "the opposite of each filter of the upper row. These filters are not trained: they are the directions in which "
        "patches of the training images vary, the commonest variation last.",
        f"![A picture, and the maps of each stage that it excites most]({EXAMPLE})",
        f"A test image ({example['label']}) and what becomes of it. Each row has the {MAPS} maps of a stage in which "
        "this image stands out most against other images. Dark is a strong response.",
        f"![Parts of test images that excite some channels most]({LIKED})",
        f"{CHANNELS} channels of each stage, evenly spaced and not selected. Each column has the parts of "
        f"{record['images']:,} test images that excite the channel most; a part is what the channel sees, at least "
        f"{LEAST_SHOWN} x {LEAST_SHOWN} pixels.",
        table(
            ("stage", "channels", "map", "sees", "mean share of one class", "channels with a share of 0.8"),
            [
                (
                    stage_name(number),
                    row["channels"],
                    f"{row['height']} x {row['width']}",
                    f"{row['field']} x {row['field']}" if row["field"] < record["side"] else "the whole image",
                    f"{row['share_of_one_class']:.2f}",
                    f"{100 * row['channels_of_one_class']:.0f} %",
                )
                for number, row in enumerate(record["stages"])
            ],
        ),
        f"The share of one class: of the {counted} test images that excite a channel most, how many are of the "
        f"commonest class among them. {counted} random images would have about {_by_chance(classes, counted):.2f}.",
    )


def stage_name(number: int) -> str:
    """How a stage is called, counted from 0."""
    return f"group {number}" if number else "first convolution"


def _by_chance(classes: int, counted: int) -> float:
    drawn = np.random.default_rng(0).integers(classes, size=(2000, counted))
    return float(np.mean([np.bincount(row).max() for row in drawn]) / counted)


def _draw_filters(path: Path, filters: Floats) -> None:
    half = len(filters) // 2
    figure = Figure(figsize=(WIDTH, 2.3 * WIDTH / half), layout="constrained")
    for axis, kernel in zip(figure.subplots(2, half).ravel(), filters, strict=False):
        axis.axis("off")
        axis.imshow(0.5 + 0.5 * kernel.transpose(1, 2, 0) / np.abs(kernel).max())
    save_figure(figure, path)


def _draw_maps(path: Path, image: npt.NDArray[np.uint8], maps: Sequence[Floats], strongest: Sequence[Floats]) -> None:
    top, *parts = _blocks(len(maps) + 1, 1.28)
    top.suptitle(f"the image: {image.shape[0]} x {image.shape[1]} pixels", x=0.02, ha="left")
    _show(_grid(top, 1, MAPS)[0, 0], image)
    for number, (part, stage, usual) in enumerate(zip(parts, maps, strongest, strict=True)):
        mine = stage[0]
        part.suptitle(f"{stage_name(number)}: {mine.shape[1]} x {mine.shape[2]}", x=0.02, ha="left")
        standing_out = (mine.max((1, 2)) - usual.mean(0)) / usual.std(0).clip(1e-6)
        for axis, channel in zip(_grid(part, 1, MAPS)[0], np.argsort(-standing_out, kind="stable"), strict=False):
            axis.set_visible(True)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set(visible=True, color=GUIDE)
            axis.imshow(mine[channel], cmap="Greys", vmin=0, vmax=max(mine[channel].max(), 1e-6))
    save_figure(top.figure, path)


def _draw_strongest(
    path: Path,
    split: ImageSplit,
    strongest: Sequence[Floats],
    places: Sequence[npt.NDArray[np.int64]],
    fields: Sequence[int],
) -> None:
    sides = split.images.shape[1:3]
    parts = _blocks(len(strongest), 0.36 + STRONGEST * WIDTH / CHANNELS)
    for number, (part, values, where, field) in enumerate(zip(parts, strongest, places, fields, strict=True)):
        seen = f"{field} x {field} pixels" if field < min(sides) else "the whole image"
        part.suptitle(f"{stage_name(number)}: sees {seen}", x=0.02, ha="left")
        channels = np.linspace(0, values.shape[1] - 1, CHANNELS).round().astype(int)
        # The map's cells lie evenly over the image.
        scale = np.array(sides) / (where.max((0, 1)) + 1)
        for column, channel in zip(_grid(part, STRONGEST, CHANNELS).T, channels, strict=True):
            for axis, index in zip(column, np.argsort(-values[:, channel], kind="stable"), strict=False):
                middle = (where[index, channel] + 0.5) * scale
                window = tuple(_window(at, field, side) for at, side in zip(middle, sides, strict=True))
                _show(axis, split.images[index][window])
    save_figure(parts[0].figure, path)


def _blocks(count: int, height: float) -> list[Any]:
    """Parts of a figure, below each other, each of this height in inches."""
    figure = Figure(figsize=(WIDTH, count * height))
    return [*np.atleast_1d(np.asarray(figure.subfigures(count, 1)))]


def _grid(part: Any, rows: int, columns: int) -> Any:
    """Axes below the heading of a part, invisible until something is shown."""
    top = 1 - 0.3 / (part.bbox.height / part.figure.dpi)
    places = {"left": 0.01, "right": 0.99, "top": top, "bottom": 0.02, "wspace": 0.06, "hspace": 0.06}
    grid = part.subplots(rows, columns, squeeze=False, gridspec_kw=places)
    for axis in grid.ravel():
        axis.set_visible(False)
    return grid


def _show(axis: Any, image: npt.NDArray[np.uint8]) -> None:
    axis.set_visible(True)
    axis.axis("off")
    axis.imshow(image.squeeze(), cmap="gray" if image.shape[-1] == 1 else None, vmin=0, vmax=255)


def _window(centre: float, field: int, side: int) -> slice:
    field = min(max(field, LEAST_SHOWN), side)
    start = min(max(0, round(centre - field / 2)), side - field)
    return slice(start, start + field)


if __name__ == "__main__":
    main()
