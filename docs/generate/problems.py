"""The table of the problems that the API may answer with."""

from docs.generate.tables import table
from service.catalogue import CATALOGUE


def in_markdown() -> str:
    """A row for each problem."""
    return table(
        ("status", "code", "meaning", "what to do", "retry?"),
        ((f"{each.status:d}", f"`{each.code}`", each.meaning, each.remedy, each.retry) for each in CATALOGUE.values()),
    )
