import io
from argparse import ArgumentParser

import pytest
import torch
from rich.console import Console

from service.inference.manifest import read_manifest
from training.networks import CNN, MLP, Transfer
from training.recipes import classifier
from training.recipes.classifier import DEFAULTS, NetworkSettings, build

TINY = ["--arch", "cnn", "--widths", "8,8", "--depth", "2", "--epochs", "1", "--batch-size", "10", "--device", "cpu"]


def parse(*options):
    parser = ArgumentParser()
    classifier.add_arguments(parser)
    return parser.parse_args([str(option) for option in options])


def run(*options):
    console = Console(file=io.StringIO(), width=200)
    classifier.run(parse(*options), console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def source(write_parquet, draw, tmp_path_factory):
    splits = {name: draw(10, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    folder = tmp_path_factory.mktemp("data") / "colours"
    return write_parquet(folder, **{name: (split.images, split.labels) for name, split in splits.items()})


@pytest.mark.parametrize(("arch", "kind"), [("cnn", CNN), ("mlp", MLP), ("transfer", Transfer)])
def test_build_gives_the_network_of_each_architecture_for_the_data(colours, arch, kind):
    settings = NetworkSettings(arch=arch, backbone="test_efficientnet", weights="none", network_size=32)
    network = build(settings, colours, seed=0).eval()
    assert isinstance(network, kind)
    assert network(torch.rand(2, 3, 12, 12)).shape == (2, 3)


def test_build_follows_the_seed(colours):
    first, again, other = (build(NetworkSettings(widths=(8, 8)), colours, seed) for seed in (1, 1, 2))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_build_whitens_with_the_training_images(colours):
    first = build(NetworkSettings(widths=(8, 8)), colours, seed=1)
    other = build(NetworkSettings(widths=(8, 8)), colours, seed=2)
    assert torch.equal(first.whiten.weight, other.whiten.weight)
    assert torch.equal(first.whiten.weight[:12], -first.whiten.weight[12:])


@pytest.mark.parametrize(("asked", "size"), [(96, 96), (12, 0), (8, 0), (0, 0)])
def test_images_are_enlarged_for_a_backbone_and_never_shrunk(colours, asked, size):
    settings = NetworkSettings(arch="transfer", backbone="test_efficientnet", weights="none", network_size=asked)
    assert build(settings, colours, seed=0).size == size


@pytest.mark.parametrize("arch", DEFAULTS)
def test_options_left_out_take_the_default_of_the_architecture(arch):
    arguments = parse("--arch", arch)
    assert classifier._override(DEFAULTS[arch], arguments) == DEFAULTS[arch]
    assert classifier._override(NetworkSettings(), arguments) == NetworkSettings(arch=arch)


def test_options_given_override_the_defaults_and_leave_the_others():
    arguments = parse("--widths", "4,5", "--depth", 1, "--dropout", 0.2, "--lr", 0.05, "--epochs", 7, "--freeze")
    network = classifier._override(NetworkSettings(), arguments)
    assert (network.widths, network.depth, network.dropout, network.freeze) == ((4, 5), 1, 0.2, True)
    settings = classifier._override(DEFAULTS["cnn"], arguments)
    assert (settings.lr, settings.epochs) == (0.05, 7)
    assert settings.batch_size == DEFAULTS["cnn"].batch_size


def test_without_publishing_a_draft_that_can_be_read_lies_in_the_run(source, tmp_path):
    said = run(*TINY, "--data", source, "--run-dir", tmp_path / "run", "--models", tmp_path / "models")
    draft = tmp_path / "run" / "export"
    assert "--publish" in said
    assert not (tmp_path / "models").exists()
    assert (draft / "report" / "README.md").is_file()
    manifest = read_manifest(draft)
    assert manifest.max_batch == 30


def test_manifest_says_what_was_done(source, tmp_path):
    run(
        *TINY, "--data", source, "--run-dir", tmp_path / "run", "--models", tmp_path / "models", "--publish",
        "--seed", 5, "--limit", 21, "--name", "tiny", "--data-name", "Colours",
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "models" / "tiny" / "1")
    assert manifest.name == "tiny"
    assert manifest.labels == ("blue", "green", "red")
    assert (manifest.data.name, manifest.data.train, manifest.data.validation, manifest.data.test) == (
        "Colours", 21, 21, 21,
    )  # fmt: skip
    assert (manifest.image.height, manifest.image.width, manifest.image.channels) == (12, 12, 3)
    assert manifest.training.settings["seed"] == 5
    assert manifest.training.settings["widths"] == [8, 8]
    assert manifest.training.epochs_run == manifest.training.best_epoch == 1
    assert manifest.golden.rows == 16
    assert str(tmp_path) not in manifest.model_dump_json()


def test_other_runs_that_do_not_exist_are_named_before_anything_is_trained(source, tmp_path):
    with pytest.raises(ValueError, match="no-such-run"):
        run(*TINY, "--data", source, "--run-dir", tmp_path / "run", "--compare", tmp_path / "no-such-run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
