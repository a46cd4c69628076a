from service.inference.cards import Step, Use
from service.inference.manifest import MANIFEST
from service.tasks.registry import read_manifest
from training.__main__ import main
from training.export import history


def test_a_card_is_rendered_again_from_its_manifest(publish_colours, capsys):
    models = publish_colours()
    folder = models / "colours" / "1"
    before = (folder / "report" / "README.md").read_text()
    step = Step(kind="evaluate", uses=(Use(split="test", purpose=history.FIGURES, items=36),))
    (folder / MANIFEST).write_text(history.with_step(read_manifest(folder), step).model_dump_json())
    assert main(["card", "colours", "--models", str(models)]) == 0
    assert "rendered " in capsys.readouterr().out
    card = (folder / "report" / "README.md").read_text()
    assert card != before
    assert "was evaluated in step 2. Whether step 1 evaluated" in card
