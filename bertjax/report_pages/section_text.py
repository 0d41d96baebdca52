"""Sections as text for the terminal."""

from bertjax.report_pages.blocks import DataTable, Paragraph, Section
from bertjax.report_pages.cell_text import cell_text, is_text, shortened
from bertjax.report_pages.literal_text import literal
from bertjax.report_pages.text_table import TextTable, print_table

_MOST_ROWS = 10
_LONGEST = 80  # characters of a cell
_WIDTH_OF_A_LOG = 160


def print_section(section: Section) -> None:
    """Prints the paragraphs and the first rows of the tables of a section, without what is folded away."""
    print(literal(section.title))
    for block in section.blocks:
        if isinstance(block, Paragraph):
            print(literal(block.text))
        elif isinstance(block, DataTable):
            print_table(_text_table(block), _WIDTH_OF_A_LOG)


def _text_table(block: DataTable) -> TextTable:
    table = TextTable(title=block.caption or None)
    for i, column in enumerate(block.columns):
        words = any(is_text(row[i]) for row in (*block.rows, *block.averages))
        table.add_column(column, justify="left" if words else "right")
    for rows in (block.rows[:_MOST_ROWS], block.averages):
        for row in rows:
            table.add_row(*(shortened(cell_text(cell), _LONGEST) for cell in row))
        table.add_section()
    return table
