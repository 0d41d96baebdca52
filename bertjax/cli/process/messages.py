"""Lines of the command line, on stdout and stderr, with the text of users in them as it is."""

import sys

from bertjax.report_pages.literal_text import literal


def say(line: str) -> None:
    """Prints a line of the result."""
    print(literal(line))


def complain(message: str) -> None:
    """Prints what went wrong, in one line on stderr."""
    print(f"bertjax: {literal(' '.join(message.split()))}", file=sys.stderr)
