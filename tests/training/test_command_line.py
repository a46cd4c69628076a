"""The command lines of trainings: what they accept, what they say of it, and how early they refuse."""

import os
import subprocess
import sys

import pytest

from quartet.command_line import main
from tests.server import ROOT
from training.command_line import PUBLISHED, data_options, read_command, read_data_command
from training.registry import RECIPES, options_type


def said_by_help(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert not ended.value.code
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("task", RECIPES)
def test_help_shows_every_option_with_a_description(task, capsys):
    said = said_by_help(capsys, "train", "--task", task)
    assert said.startswith("usage: quartet train DATA [-h] [OPTIONS] Trains on ")
    for option in data_options(task):
        assert option in said
    defaults = sys.modules[options_type(task).__module__].DEFAULTS
    for settings in defaults.values() if isinstance(defaults, dict) else [defaults]:
        assert f"by default: --epochs {settings.epochs} --batch-size {settings.batch_size} " in said
    # A description ends with a full stop, which the default follows.
    assert all(before.endswith(".") for before in said.split(" (default")[:-1])


def test_an_option_is_only_where_it_means_something():
    tasks = {
        option: {task for task in RECIPES if option in data_options(task)}
        for option in ("--target", "--image-size", "--teacher", "--batch-size", "--backbone-lr")
    }
    assert tasks == {
        "--target": {"tabular"},
        "--image-size": {"classification", "detection", "autoencoder"},
        "--teacher": {"classification"},
        "--batch-size": set(RECIPES),
        "--backbone-lr": {"classification", "detection", "text"},
    }


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
        ("train", "somewhere", "--task", "classification", "--epochs", "many"): 2,
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
        "    except SystemExit as ended: assert not ended.code, name\n"
        "print({'torch', 'datasets', 'sklearn', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout[-200:] + done.stderr


def test_the_data_comes_first_and_the_rest_is_the_recipes():
    command = read_data_command("train", ["my data", "--epochs", "3", "--yes", "--task", "text", "--wide"])
    assert (command.data, command.task, command.yes) == ("my data", "text", True)
    assert command.rest == ["--epochs", "3", "--wide"]


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["--epochs", "3", "data"], "DATA comes first"),
        (["data", "--epoch", "3"], "--epoch is no option of any task: did you mean --epochs?"),
        (["data", "--task", "text", "--target", "x"], "--target is no option of the task text"),
        (["data", "--task", "texts"], "there is no task 'texts': did you mean text?"),
        (["data", "--data", "x"], "--data is no option"),
        ([], "DATA comes first"),
    ],
)
def test_mistakes_are_refused_by_the_parser(arguments, about, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {about}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "mlp", "--widths", "8,8"], "--widths is for --arch cnn, not mlp"),
        (["--distill", "0.5"], "--distill weights the predictions of a --teacher: name one"),
        (["--candidate"], "--candidate has no effect without --publish: add --publish, or leave it out"),
        (
            ["--arch", "transfer", "--freeze", "--backbone-lr", "1"],
            "--backbone-lr has no effect while the backbone is frozen: leave out --freeze -1",
        ),
    ],
)
def test_options_that_have_no_effect_together_are_refused_before_the_data_is_read(arguments, message, capsys):
    from training.__main__ import main as train

    with pytest.raises(SystemExit) as ended:
        train(["classification", "--data", "nothing", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {message}; see python -m training classification --help\n"


def test_older_names_of_options_and_commands_are_accepted():
    _, given = read_command(["text", "--data", "x", "--start-from", "runs/y"], "")
    assert str(given.init_from) == "runs/y"
    name, given = read_command(["familiarize", "topics", "--data", "x", "--foreign", "a, b=c", "--foreign", "d=e"], "")
    assert (name, given.model, given.foreign) == ("ood", "topics", ("a, b=c", "d=e"))


def test_the_overview_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        read_command(["--help"], "python -m training")
    assert not ended.value.code
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in (*RECIPES, *PUBLISHED))


def test_the_help_of_a_data_command_does_not_show_the_data_again(capsys):
    assert "--data " not in said_by_help(capsys, "train", "--task", "text")


def test_threads_are_told_to_sleep_before_pytorch_is_imported():
    code = (
        "import os, sys\n"
        "from training.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.splitlines()[-1] == "False PASSIVE"
