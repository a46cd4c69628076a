"""The client for programs with an event loop: a method for each thing that the service does."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import httpx

from quartet import inputs
from quartet.answers import (
    DecodedImage,
    Detections,
    Encoding,
    GeneratedImage,
    Generation,
    Model,
    Picture,
    Prediction,
    Reconstruction,
    RowPrediction,
    SavedGeneration,
    TextPrediction,
)
from quartet.calls import Calls, Way
from quartet.errors import QuartetError
from quartet.http import Connection
from quartet.lists import Errors
from quartet.options import Invert
from quartet.results import Results, Stream

if TYPE_CHECKING:
    from typing import Unpack

    from quartet.inputs import Image, Images, Latents, ManyLatents, Row, Rows, Text
    from quartet.options import (
        DetectOptions,
        EncodeOptions,
        GenerateOptions,
        ModelOptions,
        PredictOptions,
        RowOptions,
        TextOptions,
    )

# As many as the server explains in a request.
_EXPLAINED = 8


class AsyncClient:
    """A client for programs with an event loop of asyncio: `async with AsyncClient() as client: …`.

    A method takes one item and returns one answer, or takes a list (or an iterator, or a frame) and returns `Results`,
    in order. A list is sent in requests of bounded size, several at a time. With `stream=True` a list gives a `Stream`,
    which yields each answer as it arrives. Options that are None are left to the server; the reference of the
    API describes them.

    All methods raise `ProblemError` (in the class of the problem) if the server refuses or fails, `UnreachableError` if
    there is no answer, and `InvalidItemError` for an item that cannot be sent. An item that fails ends the call; with
    `errors="return"` its error takes its position in the list. A request is retried with backoff and jitter until
    `retry_for` has passed, and not before `Retry-After`, if it is answered 429, 502, 503 or 504, if no connection is
    made, or if the connection breaks. A host name that does not exist and an invalid certificate fail at once.

    Args:
        url: of the server, `http+unix://PATH` for a Unix socket; by default the environment variable QUARTET_URL, or
            else `http://127.0.0.1:8000`.
        timeout: seconds without any data from the server after which an attempt times out.
        retry_for: seconds for which a request that may succeed later is retried; 0 disables retries.
        concurrency: the most requests at a time.
        headers: sent with every request.
        api_key: of the server, if it needs one; by default the environment variable QUARTET_API_KEY.
        transport: of httpx, carries the requests instead of the network.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = 60.0,
        retry_for: float = 60.0,
        concurrency: int = 4,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency}: must be at least 1")
        connection = Connection(
            url,
            timeout=timeout,
            retry_for=retry_for,
            concurrency=concurrency,
            headers=headers,
            api_key=api_key,
            transport=transport,
        )
        self._calls = Calls(connection, concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections."""
        await self._calls.connection.close()

    @overload
    async def predict(  # type: ignore[overload-overlap]  # a path is an iterable of strings, and meant as a path
        self, images: "Image", **options: "Unpack[PredictOptions]"
    ) -> Prediction: ...
    @overload
    async def predict(
        self, images: "Images", *, errors: Literal["raise"] = "raise", **options: "Unpack[PredictOptions]"
    ) -> Results[Prediction]: ...
    @overload
    async def predict(
        self, images: "Images", *, errors: Literal["return"], **options: "Unpack[PredictOptions]"
    ) -> Results[Prediction | QuartetError]: ...
    @overload
    async def predict(
        self,
        images: "Images",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[PredictOptions]",
    ) -> Stream[Prediction]: ...
    @overload
    async def predict(
        self, images: "Images", *, stream: Literal[True], errors: Literal["return"], **options: "Unpack[PredictOptions]"
    ) -> Stream[Prediction | QuartetError]: ...
    async def predict(
        self,
        images: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        coverage: float | None = None,
        strict: bool | None = None,
        level: float | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Classifies an image, or several.

        Args:
            images: a path, the bytes of a file, an open file, a Pillow image or an array of uint8; or several. Type
                checkers take an array for one image: for a stack of images, pass `list(stack)`.
            model: `NAME` or `NAME/VERSION`.
            top_k: the most labels in each answer.
            coverage: adds `label_set`, which contains the true label with this probability.
            strict: no label for an item that is unlike the training data: whose `typicality` is below `level`.
            level: for `strict`; the share of typical items that get no label either.
            errors: what becomes of an item that fails: `raise` ends the call, `return` puts the error into the list.
            progress: whether a bar is shown; None: after a second, on a terminal or in a notebook.
            stream: return a `Stream`, which yields each answer as it arrives.
            timeout: seconds in which each request must be answered, retries included.
        """
        options = {"model": model, "top_k": top_k, "coverage": coverage, "strict": strict, "level": level}
        return await self._calls.images(
            "predict", Prediction.read, images, options, Way(errors, progress, stream, timeout)
        )

    @overload
    async def detect(  # type: ignore[overload-overlap]
        self, images: "Image", **options: "Unpack[DetectOptions]"
    ) -> Detections: ...
    @overload
    async def detect(
        self, images: "Images", *, errors: Literal["raise"] = "raise", **options: "Unpack[DetectOptions]"
    ) -> Results[Detections]: ...
    @overload
    async def detect(
        self, images: "Images", *, errors: Literal["return"], **options: "Unpack[DetectOptions]"
    ) -> Results[Detections | QuartetError]: ...
    @overload
    async def detect(
        self,
        images: "Images",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[DetectOptions]",
    ) -> Stream[Detections]: ...
    @overload
    async def detect(
        self, images: "Images", *, stream: Literal[True], errors: Literal["return"], **options: "Unpack[DetectOptions]"
    ) -> Stream[Detections | QuartetError]: ...
    async def detect(
        self,
        images: Any,
        *,
        model: str | None = None,
        confidence: float | None = None,
        precision: float | None = None,
        recall: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        strict: bool | None = None,
        level: float | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Finds the objects in an image, or in several.

        Args:
            images: as for `predict`.
            model: `NAME` or `NAME/VERSION`.
            confidence: the lowest score of a detection.
            precision: use the lowest threshold that reached this precision on the validation split.
            recall: use the highest threshold that reached this recall on the validation split.
            classes: only these labels.
            max_detections: the most boxes of an image.
            strict: no boxes in an image that is unlike the training data: whose `typicality` is below `level`.
            level: for `strict`; the share of typical images that get no boxes either.
            errors: as for `predict`.
            progress: as for `predict`.
            stream: as for `predict`.
            timeout: as for `predict`.
        """
        options = {
            "model": model,
            "confidence": confidence,
            "precision": precision,
            "recall": recall,
            "classes": None if classes is None else ",".join([classes] if isinstance(classes, str) else classes),
            "max_detections": max_detections,
            "strict": strict,
            "level": level,
        }
        return await self._calls.images(
            "detect", Detections.read, images, options, Way(errors, progress, stream, timeout)
        )

    async def draw_detections(
        self,
        image: "Image",
        *,
        model: str | None = None,
        confidence: float | None = None,
        precision: float | None = None,
        recall: float | None = None,
        classes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Picture:
        """The image with its objects drawn on it by the server; the options are those of `detect`."""
        options = {
            "model": model,
            "confidence": confidence,
            "precision": precision,
            "recall": recall,
            "classes": None if classes is None else ",".join([classes] if isinstance(classes, str) else classes),
        }
        return await self._calls.draw("detect", image, options, timeout)

    @overload
    async def encode(  # type: ignore[overload-overlap]
        self, images: "Image", **options: "Unpack[EncodeOptions]"
    ) -> Encoding: ...
    @overload
    async def encode(
        self, images: "Images", *, errors: Literal["raise"] = "raise", **options: "Unpack[EncodeOptions]"
    ) -> Results[Encoding]: ...
    @overload
    async def encode(
        self, images: "Images", *, errors: Literal["return"], **options: "Unpack[EncodeOptions]"
    ) -> Results[Encoding | QuartetError]: ...
    @overload
    async def encode(
        self,
        images: "Images",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[EncodeOptions]",
    ) -> Stream[Encoding]: ...
    @overload
    async def encode(
        self, images: "Images", *, stream: Literal[True], errors: Literal["return"], **options: "Unpack[EncodeOptions]"
    ) -> Stream[Encoding | QuartetError]: ...
    async def encode(
        self,
        images: Any,
        *,
        model: str | None = None,
        invert: Invert | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """The latents of an image, or of several.

        Args:
            images: as for `predict`.
            model: `NAME` or `NAME/VERSION`.
            invert: whether light and dark are inverted; `auto` looks at the image's edges.
            errors: as for `predict`.
            progress: as for `predict`.
            stream: as for `predict`.
            timeout: as for `predict`.
        """
        return await self._calls.images(
            "encode", Encoding.read, images, {"model": model, "invert": invert}, Way(errors, progress, stream, timeout)
        )

    @overload
    async def reconstruct(  # type: ignore[overload-overlap]
        self, images: "Image", **options: "Unpack[EncodeOptions]"
    ) -> Reconstruction: ...
    @overload
    async def reconstruct(
        self, images: "Images", *, errors: Literal["raise"] = "raise", **options: "Unpack[EncodeOptions]"
    ) -> Results[Reconstruction]: ...
    @overload
    async def reconstruct(
        self, images: "Images", *, errors: Literal["return"], **options: "Unpack[EncodeOptions]"
    ) -> Results[Reconstruction | QuartetError]: ...
    @overload
    async def reconstruct(
        self,
        images: "Images",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[EncodeOptions]",
    ) -> Stream[Reconstruction]: ...
    @overload
    async def reconstruct(
        self, images: "Images", *, stream: Literal[True], errors: Literal["return"], **options: "Unpack[EncodeOptions]"
    ) -> Stream[Reconstruction | QuartetError]: ...
    async def reconstruct(
        self,
        images: Any,
        *,
        model: str | None = None,
        invert: Invert | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """What an autoencoder makes of an image, or of several, and how far that is from it.

        Args:
            images: as for `predict`.
            model: `NAME` or `NAME/VERSION`.
            invert: as for `encode`.
            errors: as for `predict`.
            progress: as for `predict`.
            stream: as for `predict`.
            timeout: as for `predict`.
        """
        options = {"model": model, "invert": invert}
        return await self._calls.images(
            "reconstruct", Reconstruction.read, images, options, Way(errors, progress, stream, timeout)
        )

    async def draw_reconstruction(
        self,
        image: "Image",
        *,
        model: str | None = None,
        invert: Invert | None = None,
        timeout: float | None = None,
    ) -> Picture:
        """The image and its reconstruction side by side; the options are those of `reconstruct`."""
        return await self._calls.draw("reconstruct", image, {"model": model, "invert": invert}, timeout)

    @overload
    async def decode(self, latents: "Latents", **options: "Unpack[ModelOptions]") -> DecodedImage: ...
    @overload
    async def decode(
        self, latents: "ManyLatents", *, errors: Literal["raise"] = "raise", **options: "Unpack[ModelOptions]"
    ) -> Results[DecodedImage]: ...
    @overload
    async def decode(
        self, latents: "ManyLatents", *, errors: Literal["return"], **options: "Unpack[ModelOptions]"
    ) -> Results[DecodedImage | QuartetError]: ...
    @overload
    async def decode(
        self,
        latents: "ManyLatents",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[ModelOptions]",
    ) -> Stream[DecodedImage]: ...
    @overload
    async def decode(
        self,
        latents: "ManyLatents",
        *,
        stream: Literal[True],
        errors: Literal["return"],
        **options: "Unpack[ModelOptions]",
    ) -> Stream[DecodedImage | QuartetError]: ...
    async def decode(
        self,
        latents: Any,
        *,
        model: str | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """The image of latents, or the images of several.

        Args:
            latents: numbers, or what `encode` gave; or several.
            model: `NAME` or `NAME/VERSION`.
            errors: as for `predict`.
            progress: as for `predict`.
            stream: as for `predict`.
            timeout: as for `predict`.
        """
        one = inputs.is_one_vector(latents)
        options = {"model": model}
        return await self._calls.documents(
            "decode",
            "latents",
            DecodedImage.read,
            latents,
            one,
            inputs.latents,
            options,
            Way(errors, progress, stream, timeout),
        )

    @overload
    async def classify_text(  # type: ignore[overload-overlap]
        self, texts: "Text", **options: "Unpack[TextOptions]"
    ) -> TextPrediction: ...
    @overload
    async def classify_text(
        self,
        texts: "Iterable[Text]",
        *,
        errors: Literal["raise"] = "raise",
        **options: "Unpack[TextOptions]",
    ) -> Results[TextPrediction]: ...
    @overload
    async def classify_text(
        self, texts: "Iterable[Text]", *, errors: Literal["return"], **options: "Unpack[TextOptions]"
    ) -> Results[TextPrediction | QuartetError]: ...
    @overload
    async def classify_text(
        self,
        texts: "Iterable[Text]",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[TextOptions]",
    ) -> Stream[TextPrediction]: ...
    @overload
    async def classify_text(
        self,
        texts: "Iterable[Text]",
        *,
        stream: Literal[True],
        errors: Literal["return"],
        **options: "Unpack[TextOptions]",
    ) -> Stream[TextPrediction | QuartetError]: ...
    async def classify_text(
        self,
        texts: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        coverage: float | None = None,
        strict: bool | None = None,
        level: float | None = None,
        explain: bool | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """The topic of a text, or of several.

        Args:
            texts: a string, or a `Path` of a file in UTF-8; or several, such as a column of a frame.
            model: `NAME` or `NAME/VERSION`.
            top_k: the most labels in each answer.
            coverage: adds `label_set`, which contains the true label with this probability.
            strict: no label for an item that is unlike the training data: whose `typicality` is below `level`.
            level: for `strict`; the share of typical items that get no label either.
            explain: adds `words`: what each word does to the likeliest label.
            errors: as for `predict`.
            progress: as for `predict`.
            stream: as for `predict`.
            timeout: as for `predict`.
        """
        one = isinstance(texts, str | os.PathLike)
        options = {
            "model": model,
            "top_k": top_k,
            "coverage": coverage,
            "strict": strict,
            "level": level,
            "explain": explain,
        }
        most = {"most": _EXPLAINED} if explain else {}
        return await self._calls.documents(
            "classify-text",
            "texts",
            TextPrediction.read,
            texts,
            one,
            inputs.text,
            options,
            Way(errors, progress, stream, timeout),
            **most,
        )

    @overload
    async def predict_tabular(self, rows: "Row", **options: "Unpack[RowOptions]") -> RowPrediction: ...
    @overload
    async def predict_tabular(
        self,
        rows: "Rows",
        *,
        errors: Literal["raise"] = "raise",
        **options: "Unpack[RowOptions]",
    ) -> Results[RowPrediction]: ...
    @overload
    async def predict_tabular(
        self, rows: "Rows", *, errors: Literal["return"], **options: "Unpack[RowOptions]"
    ) -> Results[RowPrediction | QuartetError]: ...
    @overload
    async def predict_tabular(
        self,
        rows: "Rows",
        *,
        stream: Literal[True],
        errors: Literal["raise"] = "raise",
        **options: "Unpack[RowOptions]",
    ) -> Stream[RowPrediction]: ...
    @overload
    async def predict_tabular(
        self,
        rows: "Rows",
        *,
        stream: Literal[True],
        errors: Literal["return"],
        **options: "Unpack[RowOptions]",
    ) -> Stream[RowPrediction | QuartetError]: ...
    async def predict_tabular(
        self,
        rows: Any,
        *,
        model: str | None = None,
        top_k: int | None = None,
        strict: bool | None = None,
        level: float | None = None,
        errors: Errors = "raise",
        progress: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Predicts a class or a number from a row, or from several.

        Args:
            rows: a mapping from columns to values, where None and NaN are missing values; or several, or a frame.
            model: `NAME` or `NAME/VERSION`.
            top_k: the most labels in each answer.
            strict: no label for an item that is unlike the training data: whose `typicality` is below `level`.
            level: for `strict`; the share of typical items that get no label either.
            errors: as for `predict`.
            progress: as for `predict`.
            stream: as for `predict`.
            timeout: as for `predict`.
        """
        one = inputs.is_one_row(rows)
        options = {"model": model, "top_k": top_k, "strict": strict, "level": level}
        return await self._calls.documents(
            "predict-tabular",
            "rows",
            RowPrediction.read,
            rows,
            one,
            inputs.row,
            options,
            Way(errors, progress, stream, timeout),
        )

    @overload
    async def generate(self, count: int | None = None, **options: "Unpack[GenerateOptions]") -> Generation: ...
    @overload
    async def generate(
        self, count: int | None = None, *, stream: Literal[True], **options: "Unpack[GenerateOptions]"
    ) -> Stream[GeneratedImage]: ...
    async def generate(
        self,
        count: int | None = None,
        *,
        label: str | int | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        model: str | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Generates new images.

        Args:
            count: how many.
            label: the class of all of them, by name or by its index among the model's labels; None for any.
            seed: gives the same images again; None for a new one.
            temperature: lower gives more typical images, higher more varied ones.
            model: `NAME` or `NAME/VERSION`.
            stream: return a `Stream`, which yields each image as it arrives.
            timeout: seconds in which the answer must be complete, retries included; not for a stream.
        """
        options = {"model": model, "count": count, "label": label, "seed": seed, "temperature": temperature}
        if stream:
            return Stream(self._calls.stream_images(options))
        return await self._calls.generate(options, timeout)

    async def generate_to(
        self,
        path: str | os.PathLike[str],
        count: int | None = None,
        *,
        label: str | int | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        model: str | None = None,
        progress: bool | None = None,
        timeout: float | None = None,
    ) -> SavedGeneration:
        """Generates new images into a file as they arrive: memory does not grow with their number.

        Args:
            path: of the file, which appears only once it is complete: `.png` for a sheet, `.zip` for PNG files with a
                table of labels and latents, `.npz` for arrays.
            count: how many.
            label: as for `generate`.
            seed: as for `generate`.
            temperature: as for `generate`.
            model: as for `generate`.
            progress: as for `predict`; the bar counts bytes.
            timeout: as for `generate`.
        """
        options = {"model": model, "count": count, "label": label, "seed": seed, "temperature": temperature}
        return await self._calls.save(Path(path), options, progress, timeout)

    async def models(self, *, timeout: float | None = None) -> Results[Model]:
        """The served models."""
        return Results(Model.read(model) for model in (await self._calls.get("models", timeout=timeout))["models"])

    async def model(self, name: str, *, timeout: float | None = None) -> Model:
        """A served model, with its manifest."""
        return Model.read(await self._calls.get("models", name, timeout=timeout))
