"""How graphs of an image classifier are judged: see `Evaluator`."""

from pathlib import Path
from typing import Any

from service.inference.manifest import MODEL
from service.inference.session import Session
from service.tasks.cards import ClassifierVariant
from service.tasks.classification.manifest import ClassifierManifest
from training.classification.report import write_report
from training.data.images import ImageData
from training.data.lazy import Images
from training.data.splits import division_digest
from training.export.calibration import Floats, Scaling
from training.export.evaluator import BATCH, LabelEvaluator, run_in_batches, sample
from training.export.graph import renew_golden, write_variant_golden
from training.export.layers import Inputs

INPUT = "images"


class ClassificationEvaluator(LabelEvaluator):
    """See `LabelEvaluator`; the inputs are images."""

    data: ImageData

    def __init__(self, data: ImageData) -> None:
        splits = data.train.images, data.validation.images, data.test.images
        super().__init__(data, splits, data.validation.take(data.division[0]).images)

    def answers(self, graph: Path, items: Images) -> Floats:
        return run_in_batches(graph, INPUT, items)[0]

    def calibration(self, count: int) -> list[Inputs]:
        images = self.train[sample(count, len(self.train))]
        return [{INPUT: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]

    def examples(self, count: int) -> Inputs:
        return {INPUT: self.selected[:count]}

    def renew(self, folder: Path, manifest: ClassifierManifest, *, fit: bool) -> ClassifierManifest:
        graph = folder / MODEL
        if fit:
            Session(graph, "cpu").check(folder, manifest)  # since its golden file is renewed
        scaling = self.fit(graph) if fit else Scaling.of(manifest.calibration)
        if fit:
            renew_golden(graph, folder, manifest)
        evaluation = self.evaluate(graph, scaling)
        division = division_digest(self.data.division[1])
        described = manifest.data.model_copy(update={"division": division})
        manifest = manifest.model_copy(update=evaluation.fields | {"data": described})
        variants = tuple(self._renew_variant(folder, manifest, variant, fit) for variant in manifest.variants)
        write_report(folder, evaluation, self.data)
        return manifest.model_copy(update={"variants": variants})

    def _renew_variant(
        self, folder: Path, manifest: ClassifierManifest, variant: ClassifierVariant, fit: bool
    ) -> ClassifierVariant:
        graph = folder / variant.file
        if not fit:
            return variant.model_copy(update=self.evaluate(graph, Scaling.of(variant.calibration)).fields)
        changes: dict[str, Any] = self.finish(graph)
        changes["golden"] = write_variant_golden(graph, variant.name, folder, manifest)
        changes["size"] = graph.stat().st_size
        return variant.model_copy(update=changes)
