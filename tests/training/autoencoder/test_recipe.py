import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from service.inference.manifest import MODEL
from service.inference.session import Session
from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import DENSITY
from service.tasks.registry import read_manifest
from training.autoencoder.options import DEFAULTS, AutoencoderOptions
from training.autoencoder.recipe import AutoencoderRecipe, _judge_epochs
from training.data.images import load_images
from training.options import FitOptions
from training.parser import parse
from training.report.record import read_record
from training.train import train

TINY = ["--latent", 4, "--widths", "8,16", "--epochs", 3, "--batch-size", 20, "--device", "cpu", "--judge-epochs", 3]
# A training of three epochs is worse than its baseline.
TINY += ["--generated", 60, "--components", 2, "--yes"]


def run(*options):
    console = Console(file=io.StringIO(), width=200)
    train(AutoencoderRecipe(), parse(AutoencoderOptions, list(map(str, options)), "autoencoder"), console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def published(tmp_path_factory, colours, write_parquet):
    """The models folder with the three versions, and the console output."""
    folder = tmp_path_factory.mktemp("autoencoder")
    parts = {name: getattr(colours, name) for name in ("train", "validation", "test")}
    source = write_parquet(folder / "data", **{name: (part.images, part.labels) for name, part in parts.items()})
    said = run(*TINY, "--data", source, "--run-dir", folder / "run", "--models", folder / "models", "--publish")
    return folder / "models", said


def test_three_versions_that_can_be_served_are_one_set_of_weights(published, colours):
    models, said = published
    sessions, manifests = {}, {}
    for name in ("autoencoder", "encoder", "decoder"):
        folder = models / name / "1"
        manifests[name] = read_manifest(folder)
        sessions[name] = Session(folder / MODEL, "cpu")
        sessions[name].check(folder, manifests[name])
        assert manifests[name].labels == colours.classes
        assert manifests[name].latent == 4
        assert f"published {folder}" in said
    assert "nothing to resume" not in said
    assert len({manifest.task for manifest in manifests.values()}) == 3
    counted = {name: [each.name for each in manifest.histograms][2:] for name, manifest in manifests.items()}
    assert counted == {"autoencoder": ["error", "unfamiliar"], "encoder": ["latent norm", "unfamiliar"], "decoder": []}
    metrics, baseline = manifests["autoencoder"].metrics, manifests["autoencoder"].baseline
    assert metrics == manifests["decoder"].metrics
    assert (baseline.figure, baseline.test) == ("mse", metrics.pca_mse)
    assert 0 < baseline.model_validation < 1
    images = colours.test.images
    restored, errors, _ = sessions["autoencoder"].run({"images": images})
    latents, _ = sessions["encoder"].run({"images": images})
    np.testing.assert_array_equal(sessions["decoder"].run({"latents": latents})[0], restored)
    assert errors.mean() == pytest.approx(manifests["autoencoder"].metrics.mse, rel=1e-3)


@pytest.mark.parametrize(("asked", "epochs", "expected"), [(None, 4, 1), (None, 12, 4), (None, 40, 6), (9, 4, 9)])
def test_the_judge_is_trained_for_less_than_the_autoencoder(asked, epochs, expected):
    options, settings = SimpleNamespace(judge_epochs=asked), SimpleNamespace(epochs=epochs)
    assert _judge_epochs(SimpleNamespace(options=options, settings=settings)) == expected


def test_the_density_lies_beside_the_decoder_and_is_named_with_its_sha256(published):
    folder = published[0] / "decoder" / "1"
    assert DENSITY in read_manifest(folder).files
    latents, labels = Density.load(folder / DENSITY).draw(20, seed=0)
    assert latents.shape == (20, 4)
    assert set(labels) <= {0, 1, 2}
    assert not (published[0] / "encoder" / "1" / DENSITY).exists()


def test_the_report_shows_what_it_links(published):
    report = published[0] / "autoencoder" / "1" / "report"
    text = (report / "README.md").read_text()
    names = {path.name for path in report.glob("*.png")}
    assert names == {
        "reconstructed.png", "denoised.png", "interpolated.png", "generated.png", "single-against-mixture.png",
        "nearest.png",
        "map.png", "learning-curves.png",
    }  # fmt: skip
    for name in names:
        assert f"({name})" in text
        with Image.open(report / name) as picture:
            assert picture.width > 200
    steps = read_record(report.parent)["read_between"]
    assert {len(row) for row in steps} == {9}
    assert all(0 < likely <= 1 for row in steps for _, likely in row)


def test_the_parts_say_what_they_are_and_link_to_the_whole_model(published):
    for name in ("encoder", "decoder"):
        text = (published[0] / name / "1" / "report" / "README.md").read_text()
        assert text.startswith(f"# {name}\n")
        assert "a part of the model `autoencoder`" in text


def test_a_run_that_ended_is_published_again_without_training(published, capsys, tmp_path):
    models, _ = published
    folder = models.parent
    said = run(
        *TINY, "--data", folder / "data", "--run-dir", folder / "run", "--models", tmp_path, "--publish", "--resume"
    )
    assert "Resuming after epoch 3 of 3" in said
    again = read_manifest(tmp_path / "autoencoder" / "1")
    assert again.metrics.mse == read_manifest(models / "autoencoder" / "1").metrics.mse


def test_pictures_without_labels_are_learned_and_drawn(tmp_path, colours):
    (tmp_path / "pictures").mkdir()
    for number, pixels in enumerate(colours.train.images[:40]):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    said = run(
        *TINY, "--epochs", 1, "--data", tmp_path / "pictures", "--run-dir", tmp_path / "run",
        "--models", tmp_path / "models", "--publish",
    )  # fmt: skip
    assert "images: train " in said
    assert "judge" not in said
    card = read_manifest(tmp_path / "models" / "decoder" / "1")
    assert (card.labels, card.headline) == (("image",), {})
    assert "no labels" in (tmp_path / "models" / "autoencoder" / "1" / "report" / "README.md").read_text()


def test_batches_suit_images_that_are_few_or_large(colours, draw):
    def settings(data, batch_size=None):
        options = AutoencoderOptions(data="", fit=FitOptions(batch_size=batch_size))
        return AutoencoderRecipe().settings(options, data)

    assert settings(colours, 10).batch_size == 10
    assert settings(colours).batch_size == 8  # 120 images
    many = dataclasses.replace(colours, train=draw(1000))
    assert settings(many) == DEFAULTS
    large = dataclasses.replace(colours, train=draw(1000, size=128))
    assert settings(large).batch_size == 32
    assert settings(large).lr == pytest.approx(DEFAULTS.lr / 2)


def test_photographs_are_shrunk_unless_a_size_is_asked_for(png, tmp_path):
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (80 + number, 100, 3), dtype=np.uint8)
        (tmp_path / f"{number}.png").write_bytes(png(pixels))
    assert load_images(str(tmp_path), labelled=False, largest=64).shape == (64, 64, 3)
    assert load_images(str(tmp_path), labelled=False, largest=64, size=96).shape == (96, 96, 3)


def test_captured_items_are_refused():
    with pytest.raises(ValueError, match="captured items have no labels"):
        AutoencoderOptions(data="", add=Path("captures")).check()
