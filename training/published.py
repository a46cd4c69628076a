"""A published version and the data that it was trained on, for what is done to it afterwards."""

from argparse import Namespace
from pathlib import Path

from tokenizers import Tokenizer

from service.inference.cards import ManifestBase
from service.inference.versions import versions_in
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.classification.evaluator import ClassificationEvaluator
from training.detection.data import load_detection
from training.detection.evaluator import DetectionEvaluator
from training.evaluator import Evaluator
from training.images import load_images
from training.text.data import load_texts
from training.text.evaluator import TextEvaluator
from training.text.tokenizer import to_ids


def find_version(models: Path, model: str) -> Path:
    """The folder of a version.

    Args:
        models: the models folder.
        model: `NAME`, whose newest version is meant, or `NAME/VERSION`.

    Raises:
        ValueError: there is none such.
    """
    name, _, version = model.partition("/")
    found = versions_in(models / name) if (models / name).is_dir() else []
    if not found or (version and version not in found):
        raise ValueError(f"{models / model}: is no published version; give NAME or NAME/VERSION")
    return models / name / (version or found[0])


def evaluator_of(manifest: ManifestBase, folder: Path, arguments: Namespace) -> Evaluator:
    """The evaluator of a version's data.

    Args:
        manifest: of the version.
        folder: likewise.
        arguments: of the command line, see `training.published_options`.

    Raises:
        DataError: the data cannot be read.
        ValueError: they are other data than it was trained on, or its task has no evaluator.
    """
    settings = manifest.training.settings
    seed = int(settings["seed"])
    reading = {"limit": arguments.limit, "bad": arguments.bad, "encoding": arguments.encoding}
    match manifest:
        case ClassifierManifest():
            square = manifest.image.height if manifest.image.height == manifest.image.width else None
            data = load_images(arguments.data, size=square, seed=seed, **reading)
            evaluator: Evaluator = ClassificationEvaluator(data, manifest.calibration.temperature)
            fingerprint = data.fingerprint
        case DetectorManifest():
            size = (manifest.image.height, manifest.image.width)
            photographs = load_detection(arguments.data, size=size, bad=arguments.bad, limit=arguments.limit, seed=seed)
            evaluator, fingerprint = DetectionEvaluator(photographs), photographs.fingerprint
        case TextManifest():
            texts = load_texts(
                arguments.data,
                text_column=arguments.text_column,
                label_column=arguments.label_column,
                validation=arguments.validation,
                seed=seed,
                **reading,
            )
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            train, validation, test = (
                to_ids(tokenizer, part.texts) for part in (texts.train, texts.validation, texts.test)
            )
            evaluator = TextEvaluator(texts, train, validation, test, manifest.calibration.temperature)
            fingerprint = texts.fingerprint
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")
    if fingerprint != manifest.data.fingerprint:
        raise ValueError(
            f"--data {arguments.data}: is not what {manifest.name} was trained on ({manifest.data.name}), or not split "
            "in the same way: its figures would say nothing. Give the data and the options that its recipe had."
        )
    return evaluator
