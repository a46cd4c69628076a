"""Which column of a table is to be predicted: the one that the user names, or one whose name and values say so."""

from collections.abc import Sequence

from training.data.dataset import DataError
from training.data.recognise import Recognised, Source
from training.data.tables import Table
from training.parser import did_you_mean
from training.tabular.columns import Profile, profile

# Names that say it, and names that may be of any column; one of these counts if no other one fits.
_NAMES = ("target", "label", "정답", "타깃", "라벨")
_USUAL_NAMES = ("class", "outcome", "diagnosis", "species", "income", "price", "churn", "survived", "이탈", "가격", "y")
_DIMENSIONS = frozenset(("x", "z"))
_MOST_CLASSES, _FEWEST_ROWS_PER_CLASS = 50, 5
_LISTED = 12


def recognise_table(source: Source) -> Recognised | None:
    """Whether a source is a table, and its target; raises DataError if there is no such column, or no telling one."""
    if source.example_of:
        return Recognised("tabular", f"it is the example of {source.example_of}")
    if (table := source.table) is None:
        return None
    if source.target is not None:
        check_target(source.name, table.columns, source.target)
    target = source.target or guess_target(source.name, table)
    reason = f"a table of {len(table.columns)} columns"
    return Recognised("tabular", reason, {"target": target}, sure=source.target is not None)


def check_target(source: str, known: Sequence[str], target: str) -> None:
    """Raises DataError, with the nearest name, if no column is called so."""
    if target in known:
        return
    same = next((name for name in known if name.casefold() == target.strip().casefold()), None)
    hint = f": did you mean {same}?" if same else did_you_mean(target, known) or "."
    raise DataError(f"{source}: has no column {target!r}{hint} It has the columns {', '.join(known)}.")


def guess_target(source: str, table: Table) -> str:
    """The column whose usual name fits its values; raises DataError, which lists plausible ones, if that is unclear."""
    by_name = {name.strip().lower(): name for name in reversed(table.columns)}
    fitting: dict[str, str] = {}
    for names in (_NAMES, _USUAL_NAMES):
        columns = [by_name[name] for name in names if name in by_name]
        if _DIMENSIONS & by_name.keys():
            columns = [name for name in columns if name.lower() != "y"]
        fitting |= {name: words for name in columns if (words := _plausible(profile(table, name), table.rows))}
        if fitting and (names is _NAMES or len(fitting) == 1):
            return next(iter(fitting))
    if not fitting:
        last_first = (*table.columns[-1:], *table.columns[:-1])  # the last one is most often meant
        every = ((name, _plausible(profile(table, name), table.rows)) for name in last_first)
        fitting = {name: words for name, words in every if words}
    listed = ", ".join(f"{name!r} ({words})" for name, words in list(fitting.items())[:_LISTED])
    more = ", …" * (len(fitting) > _LISTED)
    what = f"{len(table.columns)} columns; name the one to predict with --target"
    raise DataError(f"{source}: a table of {what}. Plausible: {listed or ', '.join(table.columns)}{more}.")


def _plausible(column: Profile, rows: int) -> str:
    """What a column would be predicted as; empty if it is an id, a text, a date, constant, or has too many classes."""
    card = column.card
    if card is None or column.left_out or card.kind == "date" or column.distinct < 2:
        return ""
    if column.kind == "regression":
        return "a number"
    few = column.distinct <= max(2, min(_MOST_CLASSES, rows // _FEWEST_ROWS_PER_CLASS))
    return f"{column.distinct} classes" if few else ""
