"""What a recipe is: one kind of data, from a data set to published versions. The engine knows no other."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from PIL.Image import Image
from torch import nn

from service.inference.cards import ManifestBase
from training.data.dataset import DataError, DataSet
from training.engine.checkpoint import FitState
from training.engine.learner import Learner
from training.engine.settings import FitSettings
from training.options import Options

if TYPE_CHECKING:
    from quartet.captured.items import Captured
    from training.baseline import Baseline
    from training.data.recognise import Recognised, Source
    from training.export.evaluator import Evaluator
    from training.export.histograms import Observed
    from training.export.labelled import Labelled
    from training.export.ood import OodData
    from training.phases import Work
    from training.run import Run

OptionsT = TypeVar("OptionsT", bound=Options)
DataT = TypeVar("DataT", bound=DataSet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version that a recipe makes.

    Attributes:
        write: fills a folder with graph, golden file and record of the report; returns the manifest, its `files` empty.
        network: whose weights `--keep-weights` writes beside the graph.
        ood_data: on which the out-of-distribution score is fitted and measured; None for a version without one.
        observed: of which the histograms are; None for a version without them.
        evaluator: of its variants; None for a version without variants.
        validation: the main figure of a graph on the selection half of validation; by default the evaluator's.
        example: a text to ask the model about.
    """

    name: str
    write: Callable[[Path], ManifestBase]
    network: nn.Module | None = None
    ood_data: "Callable[[], OodData] | None" = None
    observed: "Callable[[], Observed] | None" = None
    evaluator: "Evaluator | None" = None
    validation: Callable[[Path], float] | None = None
    example: str = ""


class Recipe(ABC, Generic[OptionsT, DataT]):
    """One kind of data, from a data set to published versions.

    `training.train.train` calls the steps in the order in which they stand here.

    Attributes:
        name: the command.
        items: what the data consists of, in the plural.
        manifests: of the versions that the recipe makes.
        cross_validates: whether the recipe reads `options.cross_validate` itself.
    """

    name: ClassVar[str]
    items: ClassVar[str]
    manifests: ClassVar[tuple[type[ManifestBase], ...]]
    cross_validates: ClassVar[bool] = False

    def recognise(self, source: "Source") -> "Recognised | None":
        """Says why a source is data for this recipe, and what it tells of the options; None if it is not."""
        return None

    @abstractmethod
    def load(self, options: OptionsT) -> DataT:
        """The data set; raises DataError if it cannot be used."""

    def add(self, data: DataT, items: "Sequence[Captured]") -> DataT:
        """The data with captured items in its training split; raises DataError if the task has no labels to add."""
        raise DataError(f"--add: captured items cannot be added to the data of the task {self.name}: leave it out.")

    @abstractmethod
    def draw(self, data: DataT) -> Image:
        """A picture of some samples."""

    @abstractmethod
    def describe(self, data: DataT) -> str:
        """What follows the numbers of items in the first line, such as ` of 32x32x3, 10 classes`."""

    def choose(self, options: OptionsT, data: DataT) -> tuple[OptionsT, Sequence[str]]:
        """The options with what suits the data where the user left the choice, and lines that say why."""
        return options, ()

    @abstractmethod
    def settings(self, options: OptionsT, data: DataT) -> FitSettings:
        """How the network is trained: the defaults for this data, with what the options say."""

    def fast_precision(self, options: OptionsT, data: DataT) -> Collection[str]:
        """The devices (of `cpu` and `cuda`) on which bfloat16 is faster for the network and as good as float32."""
        return ()

    def model_name(self, options: OptionsT) -> str:
        """The name of the model if `--name` gives none."""
        return self.name

    def run_name(self, options: OptionsT) -> str:
        """The first part of the name of the run's folder."""
        return self.name

    @abstractmethod
    def build(self, run: "Run[OptionsT, DataT]") -> nn.Module:
        """The network, its weights initialised from the seed."""

    def baseline(self, run: "Run[OptionsT, DataT]", network: nn.Module) -> "Baseline | None":
        """Fits the cheap model that the training has to beat; may set the weights that `network` starts from.

        Called in the main process alone, also with `--resume`, and has to come out the same each time.
        """
        return None

    def work(self, run: "Run[OptionsT, DataT]") -> "Sequence[Work]":
        """What follows the training, for the estimate."""
        return ()

    def advice(self, run: "Run[OptionsT, DataT]") -> Sequence[str]:
        """What would be faster, such as `a smaller --image-size`; printed if the estimate is over ten minutes."""
        found = [f"--epochs {run.settings.epochs // 2}"] if run.settings.epochs > 1 else []
        if getattr(run.options, "image_size", run) is not run:
            found.append("a smaller --image-size")
        return [*found, "--limit 1000, for a trial"] if len(run.data.train) > 1000 else found

    def training_network(self, run: "Run[OptionsT, DataT]", network: nn.Module) -> nn.Module:
        """What is trained, if it is more than the network: a module that holds the network as `inner`."""
        return network

    @abstractmethod
    def learner(self, run: "Run[OptionsT, DataT]", network: nn.Module) -> Learner:
        """Training step and validation step."""

    def origin(self, run: "Run[OptionsT, DataT]") -> Mapping[str, Any]:
        """What else a checkpoint must have been made with to be resumed, by name: dataclasses or plain values."""
        options: Any = run.options
        return {"network": options.network}

    @abstractmethod
    def drafts(self, run: "Run[OptionsT, DataT]", network: nn.Module, state: FitState) -> Sequence[Draft]:
        """The versions to publish, of a network on the CPU in evaluation mode; every process calls this."""

    # Of a published version:

    def reload(self, manifest: Any, folder: Path, options: Any) -> DataT:
        """The data that a version was trained on; `options` are of `training.published_options`.

        Raises:
            DataError: the data cannot be read.
            ValueError: there is no way back from the manifest to the data.
        """
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")

    def labelled(self, manifest: Any, options: Any) -> "Labelled":
        """The labelled items of any data, to measure a version on; `options` are `EvaluateOptions`.

        Raises:
            DataError: the data cannot be used.
            ValueError: models of the task cannot be measured on other data.
        """
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")

    def evaluator(self, manifest: Any, folder: Path, data: DataT) -> "Evaluator":
        """Measures graphs of a version; raises ValueError if models of the task have no evaluator."""
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")

    def ood_data(self, manifest: Any, folder: Path, data: DataT, foreign: Mapping[str, str]) -> "OodData":
        """What the out-of-distribution score is fitted and measured on; raises ValueError if there is no such score.

        Args:
            foreign: other data, by what it is; see `training.data.foreign`.
        """
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} have no out-of-distribution score")

    def observed(self, manifest: Any, folder: Path, data: DataT) -> "Observed":
        """The validation items of which the histograms are; raises ValueError if there are none of the task."""
        raise ValueError(f"{manifest.name}: of models of the task {manifest.task} no histograms are kept")
