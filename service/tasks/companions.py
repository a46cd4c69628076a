"""What lies beside a graph and is needed to serve it: a text model's tokenizer, a decoder's density."""

from pathlib import Path

from tokenizers import Tokenizer

from service.inference.manifest import InvalidModel, Manifest
from service.inference.manifests.classification import TOKENIZER, TextManifest
from service.inference.manifests.coding import DENSITY, DecoderManifest
from service.tasks.generation import Density


def read_companion(folder: Path, manifest: Manifest) -> Tokenizer | Density | None:
    """The companion of a version, whose sha256 has been checked; None where its task has none.

    Args:
        folder: of the version.
        manifest: of the version.

    Raises:
        InvalidModel: it cannot be read.
    """
    try:
        if isinstance(manifest, TextManifest):
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            tokenizer.no_truncation()
            return tokenizer
        if isinstance(manifest, DecoderManifest):
            return Density.load(folder / DENSITY)
    except Exception as error:  # the libraries raise nothing more special
        name = TOKENIZER if isinstance(manifest, TextManifest) else DENSITY
        raise InvalidModel(f"{folder / name} cannot be read: {error}") from error
    return None
