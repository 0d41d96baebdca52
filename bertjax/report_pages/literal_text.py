"""Escapes users' text (labels, names, messages) for where it is shown, so that nothing in it acts as markup.

Terminals obey escape sequences, Markdown knows `*`, `|` and `[link](...)`, matplotlib reads `$...$` as a formula.
"""

import re
import unicodedata

# Control characters, halves of surrogate pairs (which no encoding has), and separators of lines.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~$]|(?<!\w)_|_(?!\w)|:(?=\w+:)|^\s*[#+\-=]|^\s*\d+[.)]")


def literal(text: str) -> str:
    r"""One line of printable text: what a terminal would obey is written as Python writes it.

    >>> print(literal("spam \x1b[31m\n"), literal("[red] :warning:"))
    spam \x1b[31m\n [red] :warning:
    """
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in _UNPRINTABLE else sign for sign in text
    )


def markdown(text: str) -> str:
    r"""The same for a line of Markdown.

    >>> print(markdown("a|b [link](x) f1_macro"))
    a\|b \[link\](x) f1_macro
    """
    return _MARKDOWN.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", literal(text))


def figure_text(text: str) -> str:
    r"""The same for a text in a figure of matplotlib.

    >>> print(figure_text("$5 to $10"))
    \$5 to \$10
    """
    return literal(text).replace("$", r"\$")
