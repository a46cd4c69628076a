"""Spreadsheets: the first sheet of an .xlsx file."""

from itertools import islice
from pathlib import Path

import openpyxl

from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.tables.table import Table, fitting, stored, text_of


def read_spreadsheet(path: Path, inspection: Inspection, problems: Problems, most: int | None) -> Table:
    """Reads the first sheet.

    Args:
        path: of the file.
        inspection: gets which sheets are passed over.
        problems: gets the rows that do not fit their header.
        most: the most rows to read; by default all.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise DataError(f"{path}: cannot be read as a spreadsheet: {error}") from error
    sheet = book.worksheets[0]
    if len(book.worksheets) > 1:
        others = ", ".join(repr(other.title) for other in book.worksheets[1:])
        inspection.notes.append(f"{path.name}: only the first sheet, {sheet.title!r}, is read, not {others}")
    every = (
        (line, [text_of(value) for value in cells])
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1)
    )
    header = next((cells for _, cells in every if any(cells)), None)
    if header is None:
        raise DataError(f"{path}: its first sheet, {sheet.title!r}, is empty.")
    while header and not header[-1]:
        header.pop()
    names = [cell or "" for cell in header]
    padded = ((line, cells + [None] * (len(names) - len(cells))) for line, cells in islice(every, most))
    table = stored(path.name, names, fitting(path.name, len(names), padded, problems))
    book.close()
    return table
