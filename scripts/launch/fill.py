"""Prints a file of this folder with its ${NAME}s filled in from the environment, ${NAME:-DEFAULT}s where it has none.

python scripts/launch/fill.py scripts/launch/gpu.yaml > cluster.yaml
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

_PLACE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


def fill(text: str, environment: Mapping[str, str]) -> str:
    """The text with every place filled in; whole lines of comments stay as they are.

    Raises:
      KeyError: variables that are needed and not set, all of them.
    """
    lines = text.splitlines(keepends=True)
    places = [place for line in lines if not line.lstrip().startswith("#") for place in _PLACE.finditer(line)]
    values = {name: environment.get(name) or default for name, default in (place.groups() for place in places)}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise KeyError(*missing)
    return "".join(
        line if line.lstrip().startswith("#") else _PLACE.sub(lambda place: str(values[place[1]]), line)
        for line in lines
    )


def main() -> None:
    """Fills in the file of the command line."""
    path = Path(sys.argv[1])
    try:
        sys.stdout.write(fill(path.read_text(encoding="utf-8"), os.environ))
    except KeyError as missing:
        sys.exit(f"{path} needs the environment variables {', '.join(missing.args)}; its first lines say what they are")


if __name__ == "__main__":
    main()
