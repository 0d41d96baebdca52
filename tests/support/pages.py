"""The tables of an HTML page as text."""

import html
import re


def table_rows(page: str) -> list[list[str]]:
    """The cells of each row of all tables, without markup."""
    rows = re.findall(r"<tr.*?>(.*?)</tr>", page, flags=re.S)
    cells = (re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, flags=re.S) for row in rows)
    return [[" ".join(html.unescape(re.sub(r"<[^>]*>", "", cell)).split()) for cell in row] for row in cells]
