"""`Check`: a check that is ready to be asked, with every text that it makes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from random import Random
from typing import NamedTuple, get_args

from bertjax.evaluation.behaviour.behaviour_checks import BehaviourCheck, Kind
from bertjax.evaluation.behaviour.located import Located
from bertjax.evaluation.behaviour.perturbations import Perturbation, read_perturbation
from bertjax.evaluation.behaviour.templates import Fillings, combination, drawn, fill, num_combinations, slots_of

Parts = Mapping[str, str]
"""What a model reads at once: `text`, perhaps with its `pair`; or the cells of its columns."""

_FILE_KEYS = ("checks", "slots", "seed", "most_texts")
_CHECK_KEYS = tuple(field.name for field in fields(BehaviourCheck))
_KINDS = dict.fromkeys(get_args(Kind))
_MOST_TEXTS = 500  # of the combinations of a check's templates
# Kind -> the keys that it must have, and those that say nothing of it.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "minimum_functionality": ("expect",), "invariance": (), "direction": ("direction",),
}  # fmt: skip
_MEANINGLESS: Mapping[str, tuple[str, ...]] = {
    "minimum_functionality": ("perturb", "vary", "on", "direction"),
    "invariance": ("direction",),
    "direction": ("expect",),
}  # fmt: skip


class Case(NamedTuple):
    """A question to the model: one text, or a text and what became of it.

    Attributes:
      text: as it is.
      changed: as it becomes; None where only the text is asked.
      change: what changed it, in words.
      fillings: of the template that made it; None for a text that is no template.
      place: where it stands.
    """

    text: Parts
    changed: Parts | None
    change: str
    fillings: Fillings | None
    place: str

    @property
    def is_applicable(self) -> bool:
        """Whether there is something to test: a perturbation that changes nothing tests nothing."""
        return self.changed != self.text


class Check(NamedTuple):
    """A check and its cases.

    Attributes:
      name: of the check.
      capability: that it tests.
      kind: of the check.
      cases: in the order of its texts.
      expect, direction, tolerance: as in `BehaviourCheck`; what they may be depends on the model.
      combinations: of its templates, that there are.
      most_texts: of these combinations, at most.
      place: where it stands.
    """

    name: str
    capability: str
    kind: Kind
    cases: Sequence[Case]
    expect: Located | None
    direction: Located | None
    tolerance: float | None
    combinations: int
    most_texts: int
    place: Located


class Checks(NamedTuple):
    """All checks of a file.

    Attributes:
      path: of the file, as the user gave it.
      seed: of drawn combinations and perturbations.
      checks: in their order.
    """

    path: str
    seed: int
    checks: Sequence[Check]


class _Settings(NamedTuple):
    """What holds for all checks of a file."""

    slots: Mapping[str, Sequence[str]]
    seed: int
    most_texts: int


class _Written(NamedTuple):
    """A text or template as it is written, and what it becomes there."""

    parts: Parts
    becomes: Sequence[Parts]
    place: Located


def read_checks(root: Located, path: str) -> Checks:
    """The checks of a file.

    Args:
      root: what is in it.
      path: of the file.

    Raises:
      ConfigError: a mistake; the message names its place.
    """
    entries = root.mapping("a file of checks", _FILE_KEYS)
    if "checks" not in entries:
        raise root.wrong("there is no list of checks under the key 'checks'")
    slots = _read_slots(entries["slots"]) if "slots" in entries else {}
    seed = entries["seed"].count("seed", 0) if "seed" in entries else 0
    most_texts = entries["most_texts"].count("most_texts", 1) if "most_texts" in entries else _MOST_TEXTS
    settings = _Settings(slots, seed, most_texts)
    places: dict[str, Located] = {}
    checks = []
    for value in entries["checks"].items("checks"):
        check = _read_check(value, settings)
        if check.name in places:
            raise value.wrong(f"there are two checks named {check.name!r}; give one of them another name")
        places[check.name] = value
        checks.append(check)
    return Checks(path, seed, checks)


def _read_check(value: Located, settings: _Settings) -> Check:
    entries = value.mapping("a check", _CHECK_KEYS)
    for key in ("name", "kind"):
        if key not in entries:
            raise value.wrong(f"a check needs a {key}")
    name, kind_name = entries["name"].text("name"), entries["kind"].text("kind")
    entries["kind"].known("kind", kind_name, _KINDS)
    for key in _NEEDED[kind_name]:
        if key not in entries:
            raise value.wrong(f"check {name!r} needs {key!r}, as one of kind {kind_name}")
    for key in _MEANINGLESS[kind_name]:
        if key in entries:
            raise entries[key].wrong(f"{key!r} means nothing for a check of kind {kind_name}")
    kind: Kind = next(known for known in get_args(Kind) if known == kind_name)
    making = _Making(value, entries, settings, kind)
    return Check(
        name,
        entries["capability"].text("capability").strip() if "capability" in entries else kind.replace("_", " "),
        kind,
        list(making.cases()),
        entries.get("expect"),
        entries.get("direction"),
        entries["tolerance"].number("tolerance", 0) if "tolerance" in entries else None,
        making.combinations,
        settings.most_texts,
        value,
    )


class _Making:
    """Makes the cases of one check."""

    def __init__(self, place: Located, entries: Mapping[str, Located], settings: _Settings, kind: Kind):
        self._place, self._settings, self._kind = place, settings, kind
        self._name = entries["name"].content
        self._texts = [_read_written(item) for item in _items(entries, "texts")]
        self._templates = [_read_written(item) for item in _items(entries, "templates")]
        if not self._texts and not self._templates:
            raise place.wrong(f"check {self._name!r} has no texts; give it 'texts' or 'templates'")
        self._perturbations = [read_perturbation(item) for item in _items(entries, "perturb")]
        self._on = [(item, item.text("on")) for item in _items(entries, "on")]
        self._vary = entries["vary"].text("vary") if "vary" in entries else None
        own = _read_slots(entries["slots"]) if "slots" in entries else {}
        self._fillers = {**settings.slots, **own}
        self._slots = [self._slots_of(template) for template in self._templates]
        if unused := [slot for slot in own if not any(slot in slots for slots in self._slots)]:
            raise entries["slots"].content[unused[0]].wrong(f"no template of the check has the slot {unused[0]!r}")
        if self._vary is not None:
            self._check_varied(entries["vary"], self._vary)
        totals = [num_combinations(self._held(slots), self._fillers) for slots in self._slots]
        self._totals, self.combinations = totals, sum(totals)

    def cases(self) -> Iterator[Case]:
        """The cases of all texts, then those of all templates.

        Raises:
          ConfigError: a text that nothing changes where something must, or a part that it does not have.
        """
        for written in self._texts:
            yield from self._cases_of(written, [], None)
        random = Random(f"{self._settings.seed} {self._name!a}")
        for number in drawn(self.combinations, self._settings.most_texts, random):
            yield from self._cases_of_combination(number)

    def _cases_of_combination(self, number: int) -> Iterator[Case]:
        which = 0
        while number >= self._totals[which]:
            number -= self._totals[which]
            which += 1
        template, slots = self._templates[which], self._slots[which]
        fillings = combination(number, self._held(slots), self._fillers)
        if self._vary is None:
            yield from self._cases_of(_filled(template, fillings), [], fillings)
            return
        first, *others = (fillings | {self._vary: filler} for filler in self._fillers[self._vary])
        varied = [(f"{self._vary}: {other[self._vary]}", _filled(template, other).parts) for other in others]
        yield from self._cases_of(_filled(template, first), varied, first)

    def _cases_of(
        self, written: _Written, varied: Sequence[tuple[str, Parts]], fillings: Fillings | None
    ) -> Iterator[Case]:
        parts, place = written.parts, written.place
        if self._kind == "minimum_functionality":
            if written.becomes:
                raise place.wrong("'becomes' means nothing for a check of kind minimum_functionality")
            yield Case(parts, None, "", fillings, place.place)
            return
        changed = [*varied, *(("as written", other) for other in written.becomes)]
        changed += [(change.name, self._perturbed(parts, change, place)) for change in self._perturbations]
        if not changed:
            raise place.wrong("nothing changes this text; give the check 'perturb' or 'vary', or the text 'becomes'")
        for change, other in changed:
            yield Case(parts, other, change, fillings, place.place)

    def _perturbed(self, parts: Parts, change: Perturbation, place: Located) -> Parts:
        for item, part in self._on:
            if part not in parts:
                raise item.wrong(f"'on' names {part!r}; the text at {place.place} has {', '.join(map(repr, parts))}")
        chosen = [part for _, part in self._on] or [next(iter(parts))]
        return {**parts, **{part: change(parts[part], self._settings.seed) for part in chosen}}

    def _held(self, slots: Sequence[str]) -> list[str]:
        """The slots that make another text, not a changed one."""
        return [slot for slot in slots if slot != self._vary]

    def _slots_of(self, template: _Written) -> list[str]:
        slots: dict[str, None] = {}
        for text in (text for parts in (template.parts, *template.becomes) for text in parts.values()):
            try:
                slots |= dict.fromkeys(slots_of(text))
            except ValueError as error:
                raise template.place.wrong(f"in the template {text!r}: {error}") from None
        for slot in slots:
            template.place.known("slot", slot, self._fillers)
        return list(slots)

    def _check_varied(self, value: Located, vary: str) -> None:
        value.known("slot", vary, self._fillers)
        if not self._templates or not all(vary in slots for slots in self._slots):
            raise value.wrong(f"'vary' names the slot {vary!r}, which each template of the check must have")
        if len(self._fillers[vary]) < 2:
            raise value.wrong(f"the slot {vary!r} has one filler; 'vary' needs two or more")


def _items(entries: Mapping[str, Located], key: str) -> list[Located]:
    return entries[key].items(key) if key in entries else []


def _read_slots(value: Located) -> dict[str, Sequence[str]]:
    slots: dict[str, Sequence[str]] = {}
    for slot, fillers in value.mapping("slots").items():
        if not slot.isidentifier():
            raise fillers.wrong(f"{slot!r} is no name of a slot; use letters, digits and _")
        slots[slot] = [_read_filler(item, slot) for item in fillers.items(f"slot {slot!r}")]
    return slots


def _read_filler(value: Located, slot: str) -> str:
    """A filler, which may be empty."""
    return value.content if value.content == "" else value.text(f"a filler of slot {slot!r}")


def _read_written(value: Located) -> _Written:
    """A text of a file with its parts, and what it becomes."""
    if isinstance(value.content, str):
        return _Written({"text": value.text("a text")}, (), value)
    entries = dict(value.mapping("a text"))
    becomes = entries.pop("becomes", None)
    parts = {part: item.text(repr(part)) for part, item in entries.items()}
    if not parts:
        raise value.wrong("a text has 'text', or the columns of the model; this one has only 'becomes'")
    changed = [] if becomes is None else [_read_changed(item, parts) for item in becomes.items("becomes")]
    return _Written(parts, changed, value)


def _read_changed(value: Located, parts: Parts) -> Parts:
    """What becomes of a text: its first part, or those that a mapping names."""
    if isinstance(value.content, str):
        return {**parts, next(iter(parts)): value.text("a text")}
    changes = value.mapping("a changed text", tuple(parts))
    return {**parts, **{part: item.text(repr(part)) for part, item in changes.items()}}


def _filled(template: _Written, fillings: Fillings) -> _Written:
    def of(parts: Parts) -> Parts:
        return {part: fill(text, fillings) for part, text in parts.items()}

    return template._replace(parts=of(template.parts), becomes=[of(parts) for parts in template.becomes])
