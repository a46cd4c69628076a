"""quartet models VERB: shows and changes which versions of a model a running server serves."""

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from quartet.console import FAILED, INTERRUPTED, MISUSED, fail
from quartet.offline.printing import add_format
from quartet.remote.steps import parse_share, parse_steps

if TYPE_CHECKING:
    from quartet.remote.administration import Administration

VERBS = {
    "status": "show the versions of a model: which are loaded, the default, aliases and shares",
    "load": "load a version, which then answers by its number",
    "unload": "unload a version",
    "pin": "make a version the default and keep it, whichever versions come",
    "promote": "make a version the default, at once or if it agrees with the default on live requests",
    "rollback": "return to the previous default",
    "canary": "have a version answer a share of the calls, or show how it does",
    "shadow": "have a version answer copies of the calls for comparison, or show the agreement",
    "alias": "give a version a name",
    "audit": "show who changed the serving policy, and when",
}
_AFTER = 1000
_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str], prog: str = "quartet") -> int:
    """Runs a verb.

    Args:
        arguments: `models`, the verb, and what follows.
        prog: the program's name in help and usage messages.

    Returns:
        0; 1 if the server refuses, does not answer, or has not promoted the version; 2 for an unknown model; 130 if the
        user stops waiting.
    """
    parser = make_parser(prog)
    options = parser.parse_args(arguments[1:])
    if problem := _problem(options):
        parser.error(problem)
    # The client takes its time to import; help and mistakes do not wait for it.
    from quartet.errors import QuartetError, UnknownModelError
    from quartet.remote.server import explain

    try:
        return asyncio.run(_run(options))
    except UnknownModelError as error:
        return fail(MISUSED, explain(error))
    except QuartetError as error:
        return fail(FAILED, explain(error))
    except KeyboardInterrupt:
        again = f"quartet models status {options.name}"
        return fail(INTERRUPTED, f"stopped; what the server is doing goes on: {again}")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of all verbs; it stores the verb in `verb`."""
    parser = argparse.ArgumentParser(prog=f"{prog} models", description="Administers the models of a running server.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    for verb in ("status", "rollback", "audit"):
        _add_verb(verbs, verb)
    for verb in ("load", "unload"):
        _add_verb(verbs, verb).add_argument("version", metavar="VERSION", help="its number, or an alias")
    _add_verb(verbs, "pin").add_argument(
        "version", metavar="VERSION", nargs="?", help="its number, or an alias (default: the one that answers now)"
    )
    promote = _add_verb(verbs, "promote")
    promote.add_argument(
        "version", metavar="VERSION", nargs="?", help="its number, or an alias (default: the one on trial)"
    )
    promote.add_argument(
        "--if-agreement", type=_fraction, metavar="SHARE",
        help="compare it as a shadow first, and promote it if the two agree on this share of the inputs, such as 0.98",
    )  # fmt: skip
    promote.add_argument(
        "--after", type=_count, metavar="N", help=f"with --if-agreement: compare N inputs first (default: {_AFTER})"
    )
    promote.add_argument("--no-wait", action="store_true", help="with --if-agreement: do not wait for the decision")
    canary = _add_trial(verbs, "canary")
    canary.add_argument("--share", type=_share, metavar="PERCENT", help="of the calls that it answers")
    canary.add_argument(
        "--steps", type=_steps, metavar="STEPS",
        help="growing shares: '5 %% for 10 min, 25 %% for 30 min, 100 %%'; it becomes the default after the last",
    )  # fmt: skip
    canary.add_argument(
        "--sticky", metavar="HEADER", help="the calls with the same value of this request header get the same version"
    )
    shadow = _add_trial(verbs, "shadow")
    shadow.add_argument("--share", type=_share, metavar="PERCENT", help="of the calls that are copied (default: 100)")
    alias = _add_verb(verbs, "alias")
    alias.add_argument("alias", metavar="ALIAS", help="the name")
    alias.add_argument("version", metavar="VERSION", nargs="?", help="that the name is to stand for")
    alias.add_argument("--clear", action="store_true", help="remove the name")
    return parser


def _add_verb(verbs: _Verbs, verb: str) -> argparse.ArgumentParser:
    summary = VERBS[verb]
    parser = verbs.add_parser(
        verb,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="The key of a server that asks for one is QUARTET_API_KEY.",
    )
    parser.add_argument("name", metavar="NAME", help="of the model")
    parser.add_argument(
        "--server", metavar="URL", help="of the server (default: QUARTET_URL, or port 8000 of this machine)"
    )
    add_format(parser, ("table", "json"))
    return parser


def _add_trial(verbs: _Verbs, verb: str) -> argparse.ArgumentParser:
    parser = _add_verb(verbs, verb)
    parser.add_argument(
        "version", metavar="VERSION", nargs="?", help="to try: its number, or an alias (default: show the figures)"
    )
    parser.add_argument("--clear", action="store_true", help=f"end the {verb}")
    return parser


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with options that each are valid; None if nothing is."""
    given = [name for name in ("share", "steps", "sticky") if getattr(options, name, None) is not None]
    match options.verb:
        case "promote" if options.if_agreement is None and (options.after or options.no_wait):
            return f"{'--after' if options.after else '--no-wait'} is for --if-agreement"
        case "canary" if options.version and ("share" in given) == ("steps" in given):
            return "a canary has either a --share or --steps"
        case "alias" if bool(options.version) == options.clear:
            return "give a VERSION for the name, or --clear to remove it"
        case "canary" | "shadow" if options.clear and (options.version or given):
            return "--clear takes nothing else"
        case "canary" | "shadow" if given and not options.version:
            return f"--{given[0]} needs a VERSION"
    return None


async def _run(options: argparse.Namespace) -> int:
    from quartet.remote.administration import Administration
    from quartet.remote.server import connect

    # A rollback that is sent twice would return to where it began; a server that restarts goes on with the decision.
    async with connect(options.server, retry_for=0) as once, connect(options.server) as patient:
        return await _do(options, Administration(once, options.name), Administration(patient, options.name))


async def _do(options: argparse.Namespace, model: "Administration", patient: "Administration") -> int:
    from quartet.remote import words
    from quartet.remote.promotion import wait

    changed = _change(options, model)
    if changed is None:
        shown, describe = await _shown(options, model)
        _print(options, shown, describe(shown))
        return 0
    before = await model.state()
    state = await changed()
    if options.verb != "promote" or options.if_agreement is None:
        _print(options, state, [*words.describe_state(state), words.describe_change(before, state)])
        return 0
    if options.no_wait:
        later = f"the server decides; see: quartet models status {options.name}"
        _print(options, state, [*words.describe_state(state), words.describe_change(before, state), later])
        return 0
    trial = state["shadow"] or before["shadow"] or before["canary"]
    version = words.number_of(state, options.version or trial["version"])
    state, undecided = await wait(patient, state, version)
    _print(options, state, [*words.describe_state(state), words.describe_outcome(state, version, undecided)])
    return 0 if state["default"] == version else FAILED


def _change(options: argparse.Namespace, model: "Administration") -> Callable[[], Coroutine[Any, Any, Any]] | None:
    """What changes the policy; None if it is only to be shown."""
    version = {"version": getattr(options, "version", None)}
    match options.verb:
        case "load" | "unload" | "pin":
            return lambda: model.act(options.verb, version)
        case "rollback":
            return lambda: model.act("rollback", {})
        case "promote":
            after = None if options.if_agreement is None else options.after or _AFTER
            return lambda: model.act("promote", {**version, "if_agreement": options.if_agreement, "after": after})
        case "alias" if options.clear:
            return lambda: model.clear("aliases", options.alias)
        case "alias":
            return lambda: model.put("aliases", options.alias, body=version)
        case "canary" | "shadow" if options.clear:
            return lambda: model.clear(options.verb)
        case "canary" if options.version:
            body = {"share": options.share, "steps": options.steps, "sticky": options.sticky}
            return lambda: model.put("canary", body={**version, **body})
        case "shadow" if options.version:
            return lambda: model.put("shadow", body={**version, "share": options.share})
    return None


async def _shown(options: argparse.Namespace, model: "Administration") -> tuple[Any, Callable[[Any], Iterable[str]]]:
    """A document of the server, and what describes it."""
    from quartet.remote import words

    match options.verb:
        case "canary":
            return await model.show("canary"), words.describe_canary
        case "shadow":
            return await model.show("shadow"), words.describe_shadow
        case "audit":
            return await model.show("audit"), words.describe_audit
        case _:
            return await model.state(), words.describe_state


def _print(options: argparse.Namespace, document: Any, lines: Iterable[str]) -> None:
    print(json.dumps(document, ensure_ascii=False) if options.format == "json" else "\n".join(lines))


def _share(text: str) -> float:
    try:
        return parse_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _steps(text: str) -> list[dict[str, float]]:
    try:
        return parse_steps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fraction(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1; 0.98 stands for 98 %")
    return share


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count
