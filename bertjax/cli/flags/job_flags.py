"""The flags of a training job: every setting of `FineTuneConfig` and the command's own, in three groups of the help.

A setting's flag is the last part of its dotted path, unless `_NAMES` has a clearer one; type, default and text are the
setting's own, so that nothing is written twice. `--help` describes the common flags, which fit on a screen, and names
the others; `--help-all` describes them all.
"""

import ast
import contextlib
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.errors import ConfigError, RunFolderError
from bertjax.settings import check_ranges, ranges_of
from bertjax.training.run.run_folder import IfExists
from bertjax.training.settings.finetune_config import FineTuneConfig

T = TypeVar("T")

_COMMON = (
    "model", "data.train", "data.validation", "data.test", "data.text", "data.label", "task", "epochs", "batch_size",
    "optimizer.learning_rate", "max_length", "seed", "seeds", "frameworks", "dropout",
    "out", "resume", "overwrite",
)  # fmt: skip
_NAMES = {
    "data.text": "text-columns",
    "data.text_pair": "pair-columns",
    "data.label": "label-column",
    "data.labels": "label-columns",
    "optimizer.name": "optimizer",
    "lora.rank": "lora-rank",
    "lora.alpha": "lora-alpha",
    "lora.dropout": "lora-dropout",
    "lora.targets": "lora-targets",
}
_GROUPS = ("common", "data", "advanced")


class Flag(NamedTuple):
    """A setting as a flag.

    Attributes:
      path: dotted, as in `bertjax.settings.flatten`.
      type: the annotation of its field.
      default: `tyro.MISSING` for a flag that must be given.
      text: for the help; None hides the flag.
      limits: the range of a number, which follows the text in `--help-all`.
    """

    path: str
    type: Any
    default: Any
    text: str | None
    limits: str = ""

    @property
    def name(self) -> str:
        """The flag without its dashes."""
        return _NAMES.get(self.path, self.path.rpartition(".")[2].replace("_", "-"))

    @property
    def group(self) -> str:
        """Its group in the help."""
        return "common" if self.path in _COMMON else "data" if self.path.startswith("data.") else "advanced"


def parse_job(
    kind: type[T], arguments: Sequence[str], program: str, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[FineTuneConfig, T]:
    """Reads the settings of a job, and a command's own flags.

    Args:
      kind: a dataclass of the command's own flags; its docstring describes the command.
      arguments: the words after the command's name.
      program: the command, for messages.
      changes: path of a setting -> fields of its `Flag` that differ for this command, such as another default.

    Raises:
      ConfigError: a flag is unknown, a value does not fit, or a setting contradicts another.
      SystemExit: after `--help` and `--help-all`, with status 0.
    """
    flags = [*_flags_of(FineTuneConfig), *_flags_of(kind)]
    flags = [flag._replace(**(changes or {}).get(flag.path, {})) for flag in flags]
    description = inspect.getdoc(kind)
    if "--help-all" in arguments:
        parse(_grouped(flags, _GROUPS), ["--help"], program, description=description)
    if "--help" in arguments or "-h" in arguments:
        with contextlib.suppress(SystemExit):
            brief = [flag._replace(limits="") for flag in flags]
            parse(_grouped(brief, _GROUPS[:1]), ["--help"], program, description=description)
        print(_names_of_others(flags, program))
        raise SystemExit(ExitCode.OK)
    groups = parse(_grouped(flags, _GROUPS), arguments, program, description=description)
    values = {flag.path: getattr(getattr(groups, flag.group), _field_name(flag)) for flag in flags}
    try:
        config, own = _built(FineTuneConfig, values), _built(kind, values)
        check_ranges(own)
        return config, own
    except ConfigError as error:
        raise ConfigError(f"{error} (see {program} --help)") from None


def _flags_of(kind: Any, prefix: str = "") -> Iterator[Flag]:
    """The fields of a dataclass and of the dataclasses nested in it, in their order."""
    types, texts = get_type_hints(kind), _texts_of(kind)
    for item in fields(kind):
        path = f"{prefix}{item.name}"
        if is_dataclass(types[item.name]):
            yield from _flags_of(types[item.name], f"{path}.")
        else:
            numbers = ranges_of(kind).get(item.name)
            limits = "" if numbers is None else f" ({numbers.text})"
            yield Flag(path, types[item.name], item.default, texts[item.name], limits)


def _texts_of(kind: Any) -> dict[str, str]:
    """Field of a dataclass, inherited ones included -> the string below it in the source."""
    texts: dict[str, str] = {}
    bases: Any = filter(is_dataclass, reversed(kind.__mro__))
    for base in bases:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for item, below in pairwise(ast.iter_child_nodes(definition)):
            match item, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts


def _grouped(flags: Sequence[Flag], shown: Sequence[str]) -> Any:
    """A dataclass of the groups, which tyro draws as boxes; the groups that are not shown are hidden."""
    groups = []
    for title in _GROUPS:
        members = [flag for flag in flags if flag.group == title]
        if title == "common":
            members.sort(key=lambda flag: _COMMON.index(flag.path))
        kind = make_dataclass(title, [_field(flag, title in shown) for flag in members], frozen=True)
        groups.append((title, Annotated[kind, tyro.conf.arg(help="")], field(default_factory=kind)))
    return make_dataclass("Flags", groups, frozen=True)


def _field(flag: Flag, shown: bool) -> tuple[str, Any, Any]:
    # The flag's text explains its default better than "(default: None)".
    silent = flag.default is None or flag.default is False or flag.default == ()
    hint = "" if silent else None
    text = None if flag.text is None else flag.text + flag.limits
    options = [tyro.conf.arg(name=flag.name, help=text, metavar=_metavar(flag.type), help_behavior_hint=hint)]
    if flag.text is None or not shown:
        options.append(tyro.conf.Suppress)
    return _field_name(flag), Annotated[flag.type, *options], field(default=flag.default)


def _metavar(hint: Any) -> str | None:
    """The placeholder of a flag's value in the help; None leaves it to tyro.

    >>> _metavar(float | None), _metavar(tuple[str, ...]), _metavar(Literal["on", "off"] | None)
    ('FLOAT', 'STR ...', '{on,off}')
    """
    if get_origin(hint) in (Union, UnionType):
        return _metavar(next(option for option in get_args(hint) if option is not NoneType))
    if get_origin(hint) is tuple:
        return f"{get_args(hint)[0].__name__.upper()} ..."
    if get_origin(hint) is Literal:
        return f"{{{','.join(get_args(hint))}}}"
    return None if hint is bool else hint.__name__.upper()


def _names_of_others(flags: Sequence[Flag], program: str) -> str:
    """The names of the flags that `--help` does not describe."""
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    lines = []
    for title in _GROUPS[1:]:
        members = [flag for flag in flags if flag.group == title and flag.text is not None]
        names = [f"--no-{flag.name}" if flag.default is True else f"--{flag.name}" for flag in members]
        lines += [f"{title} options:", *wrapper.wrap(" ".join(names))]
    return "\n".join([*lines, "", f"{program} --help-all describes them."])


def _field_name(flag: Flag) -> str:
    return flag.path.replace(".", "__")


def _built(kind: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """The inverse of `_flags_of`: an instance of a dataclass from the values of its flags."""
    types = get_type_hints(kind)
    return kind(**{
        item.name: _built(types[item.name], values, f"{prefix}{item.name}.") if is_dataclass(types[item.name])
        else values[f"{prefix}{item.name}"]
        for item in fields(kind)
    })  # fmt: skip


def if_exists(resume: bool, overwrite: bool, allow_changed: bool = False) -> IfExists:
    """The policy for a run that is already in `--out`, by the three flags.

    Raises:
      RunFolderError: the flags contradict each other.
    """
    if resume and overwrite:
        raise RunFolderError("--resume continues a run and --overwrite deletes it; give one of them")
    if resume:
        return "resume_changed" if allow_changed else "resume"
    return "overwrite" if overwrite else "error"
