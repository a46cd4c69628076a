"""Shares and steps of a canary as people write them: `5 % for 10 min, 25 % for 30 min, 100 %`."""

import re

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_SHARE = re.compile(rf"{_NUMBER}\s*(%?)")
_STEP = re.compile(rf"(.+?)(?:\s+for\s+{_NUMBER}\s*([a-z]+))?", re.IGNORECASE)
_MINUTES = {"s": 1 / 60, "sec": 1 / 60, "second": 1 / 60, "m": 1, "min": 1, "minute": 1, "h": 60, "hour": 60}
_MINUTES |= {"d": 24 * 60, "day": 24 * 60}


def parse_share(text: str) -> float:
    """The share, above 0 and at most 1, that a percentage such as `5`, `5%` or `0.5 %` stands for.

    Raises:
        ValueError: it is none, or could as well be a fraction.
    """
    found = _SHARE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text.strip()!r} is no percentage: write 5 or '5 %'")
    percentage = float(found[1])
    if percentage == 0 or percentage > 100:
        raise ValueError(f"{text.strip()!r} is not above 0 % and at most 100 %")
    if percentage < 1 and not found[2]:
        raise ValueError(f"{text.strip()!r} may be a fraction: write '{found[1]} %' or {100 * percentage:g}")
    return percentage / 100


def parse_steps(text: str) -> list[dict[str, float]]:
    """The steps of a canary as the server takes them: `share` (above 0, at most 1) and `minutes`.

    The last step has no `minutes` if no duration is given.

    Args:
        text: steps with commas between, such as `5 % for 10 min, 100 %`.

    Raises:
        ValueError: a step cannot be read; the message names it.
    """
    parts = [part.strip() for part in text.split(",")]
    steps = []
    for number, part in enumerate(parts, 1):
        found = _STEP.fullmatch(part)
        if not found:
            raise ValueError(f"step {number} is empty: write '5 % for 10 min, 100 %'")
        try:
            step = {"share": parse_share(found[1])}
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None
        if found[2]:
            step["minutes"] = _minutes(number, found[2], found[3])
        elif number < len(parts):
            raise ValueError(f"step {number}, {part!r}, has no duration: write '{part} for 10 min'")
        steps.append(step)
    return steps


def _minutes(step: int, count: str, unit: str) -> float:
    factor = _MINUTES.get(unit.lower()) or _MINUTES.get(unit.lower().removesuffix("s"))
    if factor is None:
        raise ValueError(f"step {step}: there is no unit {unit!r}: use s, min, h or d")
    if float(count) == 0:
        raise ValueError(f"step {step} lasts no time")
    return float(count) * factor
