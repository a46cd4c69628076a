"""quartet: every command of the project under one name.

Only the module of the given command is imported, so that an installation of the client alone can report which extra is
missing.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from quartet import __version__
from quartet.console import FAILED, INTERRUPTED, MISUSED, fail

_SERVICE, OFFLINE, _TRAINING = "service.__main__", "quartet.offline.command_line", "training.__main__"
# The module of each command, which runs it with `main(arguments=[command, …], prog="quartet")`, and its summary.
COMMANDS = {
    "train": (_TRAINING, "train a network on your data and export it for the service"),
    "inspect": (_TRAINING, "say what a data set is for and what is in it"),
    "serve": (_SERVICE, "serve the models in a folder over HTTP"),
    "models": (OFFLINE, "list the models of a folder or a server; load, promote, roll back … those of a server"),
    "predict": (OFFLINE, "a model's answers for a few files, without a server or from one"),
    "score": (OFFLINE, "a model's answers for a folder or a file of any size, into a file"),
    "doctor": (OFFLINE, "say what this machine is, and what can serve on it"),
    "triton-repository": (OFFLINE, "write the served models as a repository that Triton and KServe serve"),
    "conformance": ("quartet.conformance.command_line", "say whether a server speaks the Open Inference Protocol"),
    "adopt": ("quartet.adopt.command_line", "serve a model that was trained elsewhere: any ONNX file"),
    "keys": ("quartet.keys", "add, list, rotate and revoke the API keys of a server"),
    "captured": ("quartet.captured.command_line", "list, export and delete what a server has kept of its requests"),
    "feedback": ("quartet.feedback", "tell a server which of its answers were right"),
    "replay": ("quartet.replay.command_line", "run captured items through other versions, or send them to a server"),
    "publish": (_TRAINING, "publish the draft of a finished training"),
    "evaluate": (_TRAINING, "measure a published model on any labelled data"),
    "quantize": (_TRAINING, "add smaller or faster variants to a published model"),
    "ood": (_TRAINING, "add an out-of-distribution score to a published model, and measure it"),
    "drift": (_TRAINING, "add histograms of its validation split to a published model, to notice drift"),
    "card": (_TRAINING, "render the card of a published model again"),
    "completion": ("quartet.completion", "print the code for shell completion"),
}
# Accepted for one version.
_RENAMED = {"familiarize": "ood"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line; None for those of the process.

    Returns:
        0 if the command has done what it was asked; 1 if it, or an item, failed; 2 for a wrong command, option or
        setting, or an unknown model; 130 after Ctrl-C.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see service/__init__.py; some commands load the runtime first
    if "_ARGCOMPLETE" in os.environ:
        from quartet.completion import complete

        complete(COMMANDS)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if given else MISUSED
    if given[0] in ("-V", "--version"):
        print(f"quartet {__version__}")
        return 0
    given[0] = _RENAMED.get(given[0], given[0])
    if given[0] not in COMMANDS:
        near = difflib.get_close_matches(given[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`quartet --help` lists the commands."
        return fail(MISUSED, f"there is no command {given[0]!r}: {hint}")
    module, _ = COMMANDS[given[0]]
    try:
        code: int = importlib.import_module(module).main(arguments=given, prog="quartet")
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name not in ("service", "training"):
            raise
        return fail(
            FAILED,
            f"`quartet {given[0]}` needs more than the client, which is all that is installed here: use a clone of "
            "Quartet, or its container image. `quartet predict` and `quartet models` can ask a server: --server URL.",
        )
    except KeyboardInterrupt:
        return fail(INTERRUPTED, "stopped.")
    except BrokenPipeError:  # what reads the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {words}" for name, (_, words) in COMMANDS.items())
    return (
        f"usage: quartet COMMAND …\n\nFrom a data set to a GPU endpoint.\n\ncommands:\n{lines}\n\n"
        "exit codes: 0 done; 1 the command, or an item, failed; 2 a wrong command, option or setting, or an unknown\n"
        "model; 130 and 143 ended by Ctrl-C and SIGTERM\n\n"
        "`quartet COMMAND --help` shows the options of a command; `quartet --version` shows the version."
    )


if __name__ == "__main__":
    sys.exit(main())
