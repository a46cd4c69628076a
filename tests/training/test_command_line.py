"""The command lines of trainings: what they accept, what they say of it, and how early they refuse."""

import argparse
import dataclasses
import importlib
import subprocess
import sys

import pytest

from quartet.command_line import main
from tests.server import ROOT
from training.autoencoder.density import DensitySettings
from training.autoencoder.network import NetworkSettings as AutoencoderNetwork
from training.autoencoder.options import ReconstructionSettings
from training.classification.architectures import NetworkSettings as ClassifierNetwork
from training.classification.task import ClassificationSettings
from training.command_line import RECIPES, read_data_command, recipe_parser, value_of
from training.data.augment import Augment
from training.detection.augment import BoxAugment
from training.detection.network import NetworkSettings as DetectorNetwork
from training.tabular.network import NetworkSettings as TabularNetwork
from training.text.network import NetworkSettings as TextNetwork
from training.text.options import TextSettings

SETTINGS = {
    "classification": (ClassifierNetwork(), ClassificationSettings(), Augment()),
    "detection": (DetectorNetwork(), BoxAugment()),
    "autoencoder": (AutoencoderNetwork(), ReconstructionSettings(), DensitySettings()),
    "text": (TextNetwork(), TextSettings()),
    "tabular": (TabularNetwork(),),
}


def words_for(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("task", RECIPES)
def test_help_states_every_default_and_states_it_rightly(task):
    # --from-scratch is another way to say --weights none, and comes later.
    actions = {action.dest: action for action in reversed(recipe_parser(task, "")._actions)}
    for settings in SETTINGS[task]:
        for field in dataclasses.fields(settings):
            action = actions.get(field.name)
            if action is None or field.name == "seed":
                continue
            # 0 stands for all, or for what suits the data, which the help says in words.
            if task == "text" and field.name in ("words", "length"):
                continue
            if field.name == "freeze_norms":
                continue
            stated = f"default: {words_for(getattr(settings, field.name))}"
            text = action.help % {**vars(action)} if action.help else ""
            value = getattr(settings, field.name)
            alike = f"default: {value:f}".rstrip("0") if isinstance(value, float) else stated
            assert stated in text or alike in text, f"{task} --{field.name}: {action.help!r} does not say {stated}"
    defaults = importlib.import_module(f"training.{task}.options").DEFAULTS
    for name in ("epochs", "batch_size", "lr", "optimizer", "weight_decay", "warmup", "ema", "patience", "seed"):
        for each in defaults.values() if isinstance(defaults, dict) else [defaults]:
            assert str(getattr(each, name)) in actions[name].help


def test_an_option_is_only_where_it_means_something():
    options = {task: set(recipe_parser(task, "")._option_string_actions) for task in RECIPES}
    assert {task for task, names in options.items() if "--backbone-lr" in names} == {"classification", "detection"}
    assert {task for task, names in options.items() if "--target" in names} == {"tabular"}
    assert {task for task, names in options.items() if "--image-size" in names} == {
        "classification", "detection", "autoencoder",
    }  # fmt: skip


def test_help_and_mistakes_need_no_library():
    code = (
        "import sys; from quartet.command_line import main\n"
        "try: sys.exit(main(sys.argv[1:]))\n"
        "finally: print({'numpy', 'torch', 'datasets', 'pydantic', 'rich'} & set(sys.modules))"
    )
    cases = {
        ("train", "--help"): 0,
        ("train", "--task", "text", "--help"): 0,
        ("train", "somewhere", "--nonsense", "3"): 2,
        ("train", "somewhere", "--task", "text", "--target", "x"): 2,
        ("inspect", "--yes"): 2,
        ("evaluate", "--help"): 0,
        ("quantize", "--help"): 0,
        ("quantize", "somewhere", "--data", "x", "--method", "nonsense"): 2,
    }
    for arguments, status in cases.items():
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == status, f"{arguments}: {done.stderr}"
        assert done.stdout.endswith("set()\n")


def test_the_help_of_no_command_loads_what_trains_or_serves():
    code = (
        "import sys; from quartet.command_line import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit as ended: assert ended.code == 0, name\n"
        "print({'torch', 'datasets', 'sklearn', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout[-200:] + done.stderr


def test_the_data_comes_first_and_the_rest_is_the_recipes():
    command = read_data_command("train", ["my data", "--epochs", "3", "--yes", "--task", "text", "--wide"])
    assert (command.data, command.task, command.yes) == ("my data", "text", True)
    assert command.rest == ["--epochs", "3", "--wide"]
    assert value_of("--target", ["--epochs", "3", "--target=price"]) == "price"
    assert value_of("--target", ["--epochs", "3"]) is None


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["--epochs", "3", "data"], "DATA comes first"),
        (["data", "--epoch", "3"], "--epoch is no option of any task"),
        (["data", "--task", "text", "--backbone", "x"], "--backbone is no option of the task text"),
        (["data", "--data", "x"], "--data is no option"),
        ([], "DATA comes first"),
    ],
)
def test_mistakes_are_refused_by_the_parser(arguments, about, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    assert ended.value.code == 2
    assert about in capsys.readouterr().err


def test_options_that_have_no_effect_together_are_refused_before_the_data_is_read(capsys):
    from training.__main__ import main as train

    assert train(["classification", "--data", "nothing", "--arch", "mlp", "--widths", "8,8"]) == 1
    assert capsys.readouterr().err == "error: --widths is for --arch cnn, not mlp\n"


def test_the_parser_of_a_data_command_does_not_show_the_data_again():
    parser = recipe_parser("text", "quartet train DATA")
    assert "--data " not in parser.format_help()
    assert isinstance(parser, argparse.ArgumentParser)
