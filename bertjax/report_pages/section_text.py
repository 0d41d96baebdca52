"""Sections as text for the terminal."""

from bertjax.report_pages.blocks import Cell, DataTable, Paragraph, Section
from bertjax.report_pages.literal_text import literal
from bertjax.report_pages.text_table import TextTable, print_table

_MOST_ROWS = 10
_LONGEST = 80  # characters of a cell


def print_section(section: Section) -> None:
    """Prints the paragraphs and the first rows of the tables of a section."""
    print(literal(section.title))
    for block in section.blocks:
        if isinstance(block, Paragraph):
            print(literal(block.text))
        elif isinstance(block, DataTable):
            table = TextTable(*block.columns, title=block.caption)
            for row in block.rows[:_MOST_ROWS]:
                table.add_row(*map(_text, row))
            print_table(table, width_of_a_log=160)


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.4f}"
    text = "" if cell is None else " ".join(str(cell).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
