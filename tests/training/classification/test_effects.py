import pytest

from training.classification.effects import write_study_section


def row(change: str, kind: str, train: list[float], validation: list[float]) -> dict[str, object]:
    return {
        "change": change,
        "kind": kind,
        "parameters": 1000,
        "train_accuracy": train,
        "validation_accuracy": validation,
        "epochs": 2,
        "train": 60,
        "measured": 20,
        "seconds": 1.0,
    }


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        ([0.97, 0.98], [0.50, 0.51], "higher (0.505 instead of 0.445)"),
        ([0.97, 0.98], [0.50, 0.51], "less is learned by heart"),
        ([0.98, 0.99], [0.44, 0.46], "not clearly different"),
        ([0.98, 0.99], [0.44, 0.46], "the last features alone"),
        # Not clearly different either, but for another reason.
        ([0.65, 0.67], [0.44, 0.46], "even the training images are not learned: it underfits"),
        ([0.65, 0.67], [0.40, 0.41], "lower (0.405 instead of 0.445)"),
        ([0.65, 0.67], [0.40, 0.41], "it underfits"),
    ],
)
def test_a_sentence_says_what_dropout_did_and_why(tmp_path, train, validation, said):
    rows = [row("unchanged", "", [1.0, 0.99], [0.44, 0.45]), row("dropout 0.5", "dropout", train, validation)]
    sentence = write_study_section(tmp_path, rows)[-1]
    assert sentence.startswith("- **dropout 0.5**: validation accuracy is ")
    assert said in sentence
    assert (tmp_path / "study.png").exists()
