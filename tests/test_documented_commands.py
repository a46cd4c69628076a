"""Every command that a page prints is one: it exists, and takes the options that it is printed with."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from quartet import completion, feedback, keys
from quartet.adopt import command_line as adopt
from quartet.captured import command_line as captured
from quartet.command_line import COMMANDS
from quartet.conformance import command_line as conformance
from quartet.offline import command_line as offline
from quartet.remote import command_line as remote
from quartet.remote.command_line import VERBS
from quartet.replay import command_line as replay
from service.__main__ import make_parser
from tests.server import ROOT
from training.command_line import PUBLISHED, read_command, read_data_command, recipe_options
from training.registry import RECIPES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
FENCE = re.compile(r"```sh\n(.*?)```", re.DOTALL)
SCRIPTS = "".join(
    path.read_text() for name in ("benchmarks", "course", "examples") for path in (ROOT / name).rglob("*.py")
)
MAKEFILE = (ROOT / "Makefile").read_text()
# What stands for something else, as in usage lines.
PLACEHOLDER = re.compile(r"…|\[-|\{\{|\b(TASK|MODEL|NAME|DATA|COMMAND)\b")
# Programs that pages write before they run them.
WRITTEN = ("stream.py",)
OURS = ("quartet", "python", "make", "torchrun")


def printed(text: str) -> Iterator[list[str]]:
    """The commands of a page: those in its blocks, and those in its sentences."""
    for block in FENCE.findall(text):
        variables: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            if assigned := re.fullmatch(r'(\w+)="(.*)"', line):
                variables[assigned[1]] = " ".join(assigned[2].split())
                line = assigned[2]
            yield split(line)
    for inline in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        yield split(inline)


def split(line: str) -> list[str]:
    """A command without the settings before it; empty for what is none of the project's."""
    if PLACEHOLDER.search(line.partition("#")[0]):
        return []
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # part of a document between quotation marks
        return []
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    words[:1] = [word.removeprefix(".venv/bin/") for word in words[:1]]
    return words if words[:1] and words[0] in OURS and len(words) > 1 else []


def takes(task: str, arguments: list[str]) -> bool:
    """Whether a recipe takes these options."""
    try:
        recipe_options(task, arguments, "", data="")
    except SystemExit:
        return False
    return True


def check_script_options(arguments: list[str]) -> None:
    """Of scripts, whose parsers are made together with what they measure; several share some options."""
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in SCRIPTS, option


def accept(words: list[str]) -> None:
    """Ends with an error where a command does not exist or does not take its options."""
    match words:
        case ["make", target, *settings]:
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
            for name, equals, _ in (setting.partition("=") for setting in settings):
                assert equals, settings
                assert f"$({name})" in MAKEFILE, name
        case ["quartet", "--help" | "--version"]:
            pass
        case ["quartet", "train" | "inspect" as name, *rest] if rest:
            command = read_data_command(name, rest)
            assert any(takes(task, command.rest) for task in ([command.task] if command.task else RECIPES))
        case ["quartet", name] | ["python", "-m", "service" | "training", name] if name.isalpha():  # in a sentence
            assert name in (*COMMANDS, *RECIPES, *PUBLISHED)
        case ["quartet", name, *_] if name in PUBLISHED:
            read_command(words[1:], "quartet")
        case ["python", "-m", "training", _, *_]:
            read_command(words[3:], "python -m training")
        case ["torchrun", *rest]:
            read_command(rest[rest.index("training") + 1 :], "python -m training")
        case ["quartet", "serve", *_] | ["python", "-m", "service", *_]:
            make_parser("").parse_args(words[1:] if words[0] == "quartet" else words[3:])
        case ["quartet", "models", verb, *rest] if verb in VERBS:
            remote.make_parser("").parse_args([verb, *rest])
        case ["quartet", "keys", *_]:
            keys.make_parser("").parse_args(words[1:])
        case ["quartet", "captured", *_]:
            captured.make_parser("").parse_args(words[1:])
        case ["quartet", "replay", *_]:
            replay.make_parser("").parse_args(words[1:])
        case ["quartet", "feedback", *rest]:
            feedback.make_parser("").parse_args(rest)
        case ["quartet", "adopt", *rest]:
            adopt.read_options(rest, "")
        case ["quartet", "conformance", *rest]:
            conformance.make_parser("").parse_args(rest)
        case ["quartet", "completion", *rest]:
            completion.make_parser("").parse_args(rest)
        case ["quartet", *rest]:
            offline.make_parser("").parse_args(rest)
        case ["python", "-m", "pip", *_]:
            pass
        case ["python", "-c", program]:
            compile(program, "<page>", "exec")
        case ["python", "-m", module, *rest]:
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
            check_script_options(rest)
        case ["python", script, *rest] if script.endswith(".py"):
            assert (ROOT / script).exists() or script in WRITTEN, script
            check_script_options(rest)
        case _:
            raise AssertionError(f"{shlex.join(words)}: nothing here runs that")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_exist_and_take_their_options(page: Path, capsys: pytest.CaptureFixture[str]):
    for words in filter(None, printed(page.read_text())):
        try:
            accept(words)
        except SystemExit as ended:
            if ended.code:  # --help has none
                pytest.fail(f"{shlex.join(words)}: {capsys.readouterr().err}")
        except (AssertionError, ValueError) as error:
            pytest.fail(f"{shlex.join(words)}: {error}")


def test_commands_are_found_and_mistakes_in_them_as_well(capsys: pytest.CaptureFixture[str]):
    page = 'Run `make serve`, or\n```sh\nx="python -m training text \\\n  --wide"\n$x --data y  # so\n```\n'
    found = [words for words in printed(page) if words]
    assert found[1] == ["python", "-m", "training", "text", "--wide", "--data", "y"]
    assert found[2] == ["make", "serve"]
    for wrong in ("make poem", "python -m benchmarks.poem", "python -m benchmarks.training --poem", "quartet poem"):
        with pytest.raises(AssertionError):
            accept(wrong.split())
    for wrong in ("python -m training text --data x --target y", "quartet predict", "quartet train x --poem"):
        with pytest.raises((SystemExit, AssertionError)):
            accept([*wrong.split(), ""])
