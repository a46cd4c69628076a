import shlex
from pathlib import Path

import pytest

from service.tasks.registry import read_manifest
from tests.tiny import write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics
from training.export.outcome import ask, describe_published


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for write in (write_model, write_autoencoder, write_tabular, write_topics):
        write(folder)
    return folder


def test_what_follows_a_training(models):
    folder = models / "classifier" / "1"
    published, command, report, served = describe_published(models, [folder])
    assert published.startswith(f"published {folder}: accuracy ")
    assert "/v1/predict?model=classifier" in command
    assert report.endswith(str(folder / "report" / "README.md"))
    assert served.startswith(f"serve it: quartet serve --models {models};")
    _, command, *_ = describe_published(models, [folder], candidates={"classifier"})
    assert "model=classifier/1" in command


def test_a_model_of_texts_is_asked_about_one_of_its_own(models):
    words = shlex.split(ask(read_manifest(models / "topics" / "1"), "배송이  빨라요,\n'최고'!"))
    assert words[:3] == ["curl", "--data-raw", "배송이 빨라요, '최고'!"]
    assert "Content-Type: text/plain" in words


@pytest.mark.parametrize("name", ["classifier", "tabular", "topics", "decoder", "encoder", "autoencoder"])
def test_the_command_is_one_that_a_shell_takes(models, name):
    words = shlex.split(ask(read_manifest(models / name / "1")))
    if name == "decoder":
        assert words[-2:] == ["-o", "answer.png"]
        del words[-2:]
    assert words[0] == "curl"
    assert words[-1].startswith("http://127.0.0.1:8000/v1/")
    assert words[-1].endswith(f"?model={name}")
    assert Path("picture.jpg").name in words[2] or words[1] in ("-d", "-X")
