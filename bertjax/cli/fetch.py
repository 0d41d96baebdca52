"""`bertjax fetch`: weights and data sets of the catalog, into the cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from bertjax import catalog
from bertjax.cli.flags.parse_flags import parse
from bertjax.stage_progress import stages_for_stderr


@dataclass(frozen=True)
class Arguments:
    """Fetch weights and data sets of the catalog into the cache and check their hashes."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Assets to fetch; without any, the catalog is listed."""

    licenses: bool = False
    """Print the licences of all assets and fetch nothing."""


def main(arguments: Sequence[str]) -> int:
    """Prints the folder of each asset, or the catalog."""
    parsed = parse(Arguments, arguments, "bertjax fetch")
    names = parsed.names
    if parsed.licenses:
        print(catalog.licenses())
        return 0
    if not names:
        width = max(map(len, catalog.CATALOG))
        for asset in catalog.CATALOG.values():
            print(f"{asset.name:<{width}} {asset.kind:<6} {asset.license}")
    progress = stages_for_stderr()
    for name in names:
        print(catalog.fetch(name, progress))
    return 0
