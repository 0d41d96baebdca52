"""Templates: texts with slots, such as `{adjective} networks for {task}.`, and the combinations of what fills them."""

import math
import string
from collections.abc import Mapping, Sequence
from random import Random

Fillings = Mapping[str, str]
"""Slot -> what fills it."""


def slots_of(template: str) -> list[str]:
    """The slots of a template, each once, in their order. Two braces are one of the text.

    Raises:
      ValueError: a brace that belongs to no slot, or a slot that is no name.

    >>> slots_of("{a} and {b} and {a} {{c}}")
    ['a', 'b']
    """
    slots = []
    for _, name, options, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or options or conversion:
            raise ValueError(f"{{{name}}} is no slot, whose name has letters, digits and _; write {{{{ for a brace")
        slots.append(name)
    return list(dict.fromkeys(slots))


def fill(template: str, fillings: Fillings) -> str:
    """A template with its slots filled.

    >>> fill("{a} {{b}}", {"a": "x"})
    'x {b}'
    """
    return template.format_map(fillings)


def num_combinations(slots: Sequence[str], fillers: Mapping[str, Sequence[str]]) -> int:
    """In how many ways slots can be filled."""
    return math.prod(len(fillers[slot]) for slot in slots)


def combination(number: int, slots: Sequence[str], fillers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """One of the ways to fill slots, the last slot changing first.

    >>> combination(3, ["a", "b"], {"a": "xy", "b": "123"})
    {'a': 'y', 'b': '1'}
    """
    chosen = {}
    for slot in reversed(slots):
        number, place = divmod(number, len(fillers[slot]))
        chosen[slot] = fillers[slot][place]
    return {slot: chosen[slot] for slot in slots}


def drawn(total: int, most: int, random: Random) -> Sequence[int]:
    """Numbers below `total`, ascending: all of them, or `most` distinct ones."""
    if total <= most:
        return range(total)
    numbers = set[int]()
    while len(numbers) < most:
        numbers.add(random.randrange(total))  # sample() needs a range that fits a machine's word
    return sorted(numbers)
