"""Command lines are parsed into dataclasses: what they accept, and what they say of a mistake."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from tests.server import ROOT
from training.parser import current_names, did_you_mean, option_names, parse


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network.

    Attributes:
        widths: filters of each group.
        optimizer: of its weights.
        seed: of its initial weights.
    """

    widths: tuple[int, ...] = (64, 256)
    optimizer: Literal["sgd", "adamw"] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: must be at least 0")


@dataclass(frozen=True, kw_only=True)
class Base:
    """What every command has.

    Attributes:
        data: a folder.
        run_dir: the folder of the run.
        init_from: another run.
    """

    data: str
    run_dir: Path | None = None
    init_from: Annotated[Path | None, tyro.conf.arg(aliases=("--begin-with",))] = None


@dataclass(frozen=True, kw_only=True)
class Options(Base):
    """A command.

    Attributes:
        flip: mirror images left to right.
        lr: the learning rate, or find.
        scale: the range of sizes.
        method: what to try.
        drop: columns to leave out.
        network: the network.
    """

    flip: bool = True
    lr: float | Literal["find"] | None = None
    scale: tuple[float, float] = (0.7, 1.4)
    method: tuple[Literal["int8", "float16"], ...] = ("int8",)
    drop: tuple[str, ...] = ()
    network: Network = field(default_factory=Network)


def read(*arguments: str) -> Options:
    return parse(Options, arguments, "quartet train DATA", data="here")


@pytest.mark.parametrize("widths", [["--widths", "8,16,32"], ["--widths", "8", "16", "32"], ["--widths=8,16,32"]])
def test_a_list_is_written_with_commas_or_with_spaces(widths):
    assert read(*widths).network.widths == (8, 16, 32)


def test_options_are_of_the_dataclass_and_of_those_in_it():
    given = read("--no-flip", "--lr", "3e-4", "--scale", "1,2", "--optimizer", "sgd", "--run_dir", "x", "--drop", "a,b")
    assert given == Options(
        data="here",
        flip=False,
        lr=3e-4,
        scale=(1, 2),
        run_dir=Path("x"),
        drop=("a", "b"),
        network=Network(optimizer="sgd"),
    )
    assert isinstance(given, Options)
    assert read("--method", "int8", "float16").method == ("int8", "float16")
    assert parse(Options, ["--data", "x"], "").data == "x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epoch", "3"], "--epoch is unknown"),
        (["--width", "8"], "--width is unknown: did you mean --widths?"),
        (["--scale", "1,x"], "--scale: 'x' is not a number"),
        (["--lr", "fast"], "--lr: 'fast' is neither a number nor find"),
        (["--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        (["--seed", "-1"], "--seed -1: must be at least 0"),
        (["--optimizer", "adam"], "invalid choice 'adam' for argument '--optimizer'. Expected one of ('sgd', 'adamw')"),
        (["--method", "int7"], "--method: 'int7' is none of int8, float16"),
        (["--scale", "1"], "--scale: '1': takes 2 values"),
        (["--data", "x"], "--data is unknown"),
        (["other"], "other is unknown"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        read(*arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {message}; see quartet train DATA --help\n"


def test_help_is_made_of_the_docstrings_and_the_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert not ended.value.code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert said.startswith("usage: quartet train DATA [-h] [OPTIONS] A command.")
    for words in (
        "--widths INT,… filters of each group. (default: 64,256)",
        "--flip, --no-flip mirror images left to right. (default: True)",
        "--lr FLOAT|{find} the learning rate, or find. (default: unset)",
        "--run-dir PATH the folder of the run. (default: unset)",
        "--scale FLOAT,FLOAT the range of sizes. (default: 0.7,1.4)",
        "--drop STR,… columns to leave out. (default: none)",
    ):
        assert words in said
    assert "--data" not in said


def test_the_names_of_options_are_known_with_their_other_names():
    assert {"--data", "--init-from", "--begin-with", "--widths", "--flip", "--no-flip"} <= option_names(Options)
    assert "--network" not in option_names(Options)


def test_options_with_older_names_are_accepted():
    given = [
        "--start-from",
        "x",
        "--mirror",
        "--from-scratch",
        "--freeze",
        "--keep",
        "--freeze",
        "4",
        "--freeze",
        "-1",
        "--freeze",
    ]
    current = "--init-from x --test-time-flip --weights=none --freeze=-1 --keep --freeze 4 --freeze -1 --freeze=-1"
    assert current_names(given) == current.split()
    assert read("--start-from=y").init_from == Path("y")


def test_parsing_imports_no_library_that_trains():
    code = "import sys, training.parser; print({'torch', 'numpy', 'rich', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_value_or_a_word():
    assert [read(*words).lr for words in ([], ["--lr", "1e-3"], ["--lr", "find"])] == [None, 1e-3, "find"]


@pytest.mark.parametrize(
    ("typed", "known"),
    [("--imgsz", "--image-size"), ("--lr0", "--lr"), ("--batch", "--batch-size"), ("--n-jobs", "--threads")],
)
def test_what_other_tools_call_an_option_is_understood(typed, known):
    names = {"--image-size", "--lr", "--batch-size", "--threads", "--epochs"}
    assert did_you_mean(typed, names) == f": did you mean {known}?"
    assert did_you_mean(typed, names - {known}) != f": did you mean {known}?"
