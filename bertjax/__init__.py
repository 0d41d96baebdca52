"""bertjax fine-tunes BERT in JAX: pure functions, pretrained weights, packed batches, every device.

    import bertjax

    config = bertjax.FineTuneConfig(data=bertjax.Table("reviews.csv", text=("title", "body"), label="stars"))
    result = bertjax.finetune(config)
    model, params = bertjax.from_pretrained(result.model_dir)

Everything in `__all__` is imported when it is first used, so `import bertjax` costs nothing. The names and their
modules are those of the stub `__init__.pyi`, as in SPEC 1 of Scientific Python.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.2.0"

# Public name -> (module, name in it).
_EXPORTS = {
    alias.asname: (str(line.module), alias.name)
    for line in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(line, ast.ImportFrom)
    for alias in line.names
}

__all__ = [*_EXPORTS]  # noqa: PLE0604 (the stub is the list)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _EXPORTS[name]
    if module == __name__:  # a module of the package itself
        return import_module(f"{module}.{original}")
    return getattr(import_module(module), original)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
