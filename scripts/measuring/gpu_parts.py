"""The parts of `benchmark_gpu.py`: each yields rows, what was measured and its figures, as soon as it has them."""

import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from bertjax.batch import Batch
from bertjax.cli.process.process_setup import COMPILED_SETTINGS, deterministic_flags
from bertjax.training.multi.stacked_seeds import merged, stacked_step
from bertjax.training.optim.optimizer import make_optimizer, optax_chain
from bertjax.training.optim.schedules import learning_rate_schedule
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.mfu import training_flops
from bertjax.training.step.train_step import seed_key
from measuring import gpu_jobs
from measuring.bertjax_side import (
    TOTAL_STEPS,
    BertjaxSide,
    full_rows,
    in_execution,
    measured_peak,
    one_device,
    plain_step,
    random_model,
)
from measuring.gpu_sizes import SMOKE, Sizes
from measuring.text_data import SOURCES, TextData, text_data
from measuring.turns import Counts, speed_ratios, take_turns

T = TypeVar("T")
Run = Callable[[int], Any]


class Row(NamedTuple):
    """What was measured, and the figures of each side, by name."""

    about: str
    sides: dict[str, dict[str, Any]]


def rows(sizes: Sizes) -> Iterator[Row]:
    """Training steps on full rows, dropout on: bertjax beside torch, eager and compiled, and its share of the peak."""
    peak = None if sizes is SMOKE else measured_peak()
    if peak is not None:
        yield Row("product of random 8192 x 8192 matrices", {"bfloat16": {"tflops_per_second": peak / 1e12}})
    for length, count in sizes.full_rows:
        yield _on_full_rows(sizes, length, count, "bfloat16", peak)
    if peak is not None:
        yield _on_full_rows(sizes, *sizes.full_rows[0], "float32", None)


def _on_full_rows(sizes: Sizes, length: int, count: int, precision: str, peak: float | None) -> Row:
    from measuring.torch_side import torch_on_full_rows

    def ours(attention: str) -> Run:
        model, params = random_model(in_execution(sizes.base, precision=precision, attention=attention))
        return BertjaxSide.on_full_rows(model, params, length, count).run

    model, params = random_model(in_execution(sizes.base, precision=precision))
    batch = full_rows(model.config, length, count).batch
    makers: dict[str, Callable[[], Run]] = {
        "bertjax": lambda: ours("auto"),
        "bertjax, pallas": lambda: ours("pallas"),
        "torch": lambda: torch_on_full_rows(model, params, batch),
        "torch.compile": lambda: torch_on_full_rows(model, params, batch, sizes.compiler),
    }
    results, failures = _turns_of(makers, sizes)
    if peak is not None:
        flops = training_flops(model.config, count * length, count * length**2)
        for result in results.values():
            result["share_of_peak"] = 1e3 * flops / result["ms"] / peak
    return Row(f"{length} tokens x {count} rows, {precision}", _side_by_side(results, failures))


def texts(sizes: Sizes) -> Iterator[Row]:
    """Real texts: bertjax packed, beside the Trainer and hand-written loops, both in random order and by length."""
    for source in SOURCES if sizes.own_process else ("trec",):
        data = text_data(source, sizes.texts, sizes.base.vocab_size)
        for size in sizes.batch_sizes:
            yield _on_texts(sizes, data, size)


def _on_texts(sizes: Sizes, data: TextData, size: int) -> Row:
    from measuring.torch_side import PacedTrainer, Rows, torch_loop

    model, params = random_model(in_execution(sizes.base, precision="bfloat16"))
    given, packed = Rows.of(data.examples), data.batches(size, model.config.hidden_size)
    with ExitStack() as opened:

        def trainer(grouped: bool) -> Run:
            return opened.enter_context(closing(PacedTrainer(model, params, given, size, grouped))).run

        makers: dict[str, Callable[[], Run]] = {
            "bertjax": lambda: opened.enter_context(closing(BertjaxSide.on_texts(model, params, packed))).run,
            "Trainer": lambda: trainer(grouped=False),
            "Trainer, by length": lambda: trainer(grouped=True),
            "torch": lambda: torch_loop(model, params, given, size, grouped=False),
            "torch, by length": lambda: torch_loop(model, params, given, size, grouped=True),
        }
        results, failures = _turns_of(makers, sizes)
    return Row(f"{data.about}, batch {size}", _side_by_side(results, failures))


def busy(sizes: Sizes) -> Iterator[Row]:
    """The share of time in which the GPU computes, from JAX's profile of a training on texts."""
    model, params = random_model(in_execution(sizes.base, precision="bfloat16"))
    data = text_data("trec", sizes.texts, model.config.vocab_size)
    for size in sizes.batch_sizes:
        side = BertjaxSide.on_texts(model, params, data.batches(size, model.config.hidden_size))
        side.step.wait()
        side.run(10 if sizes.own_process else 2)
        with tempfile.TemporaryDirectory() as scratch:
            with jax.profiler.trace(scratch):
                side.run(2 * sizes.steps)
            share = _busy_share(Path(scratch))
        side.close()
        yield Row(f"{data.about}, batch {size}", {"bertjax": {"gpu_busy_share": share}})


def _busy_share(folder: Path) -> float | None:
    """The union of the kernels' times, as a share of the time from the first to the last; None without a GPU."""
    (file,) = folder.rglob("*.xplane.pb")
    spans = sorted(
        (event.start_ns, event.start_ns + event.duration_ns)
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        if plane.name.startswith("/device:GPU")
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    )
    if not spans:
        return None
    covered, until = 0.0, spans[0][0]
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered / (until - spans[0][0])


def start(sizes: Sizes) -> Iterator[Row]:
    """Seconds from the start of a process to the end of its first step, with an empty cache of programs and again."""
    for name, shape in (("BERT-base", sizes.base), ("MiniLM", sizes.small))[: 2 if sizes.own_process else 1]:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            config = in_execution(shape, precision="bfloat16")
            gpu_jobs.write_job(folder, config, sizes.texts)
            variables = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), **COMPILED_SETTINGS}
            for kind in ("cold", "second"):
                began = time.time()
                done = sizes.called(variables, gpu_jobs.first_step, folder, folder / kind, config)
                yield Row(f"{name}, {kind} start", {"bertjax": {"seconds_to_first_step": done - began}})


def update(sizes: Sizes) -> Iterator[Row]:
    """The update alone, beside Optax's chain and torch's fused AdamW with clipping."""
    import torch

    from measuring.torch_side import device, wait

    settings: Any = Optimizer().resolved()
    model, params = random_model(sizes.base)
    grads = jax.tree.map(lambda leaf: jnp.asarray(1e-2 * leaf), params)

    def ours(optimizer: Any) -> Run:
        from bertjax import make_train_step
        from bertjax.losses import cross_entropy

        step = make_train_step(model, optimizer, cross_entropy)
        states = [jax.device_put(step.init(jax.tree.map(jnp.asarray, params), seed_key(0)))]
        compiled = jax.jit(step.update, donate_argnums=0).lower(states[0], grads, jnp.float32(1)).compile()

        def run(steps: int) -> Counts:
            for _ in range(steps):
                states[0], _ = compiled(states[0], grads, jnp.float32(1))
            jax.block_until_ready(states[0])
            return Counts(steps, 1, 1)

        return run

    def theirs() -> Run:
        tensors = [torch.nn.Parameter(torch.tensor(leaf, device=device())) for leaf in jax.tree.leaves(params)]
        for tensor in tensors:
            tensor.grad = 1e-2 * tensor.detach()
        optimizer = torch.optim.AdamW(tensors, lr=settings.learning_rate, fused=True)

        def run(steps: int) -> Counts:
            for _ in range(steps):
                torch.nn.utils.clip_grad_norm_(tensors, settings.clip_norm)
                optimizer.step()
            wait()
            return Counts(steps, 1, 1)

        return run

    chain = optax_chain(settings, learning_rate_schedule(settings, TOTAL_STEPS), model)
    makers: dict[str, Callable[[], Run]] = {
        "bertjax": lambda: ours(make_optimizer(settings, TOTAL_STEPS, model)),
        "Optax's chain": lambda: ours(chain),
        "torch, fused": theirs,
    }
    results, failures = _turns_of(makers, sizes)
    yield Row(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters", _side_by_side(results, failures))


def memory(sizes: Sizes) -> Iterator[Row]:
    """Most memory of the device in a few steps, each side in a process of its own."""
    length, count = sizes.full_rows[min(1, len(sizes.full_rows) - 1)]
    config = in_execution(sizes.base, precision="bfloat16")
    own = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    jobs: dict[str, Callable[[], int]] = {
        "bertjax": lambda: sizes.called(own, gpu_jobs.bertjax_memory, config, length, count),
        "torch": lambda: sizes.called(own, gpu_jobs.torch_memory, config, length, count, None),
        "torch.compile": lambda: sizes.called(own, gpu_jobs.torch_memory, config, length, count, sizes.compiler),
    }
    taken = {side: _tried(job) for side, job in jobs.items()}
    ours = taken["bertjax"]
    sides: dict[str, dict[str, Any]] = {}
    for side, given in taken.items():
        if isinstance(given, str):
            sides[side] = {"failed": given}
        else:
            sides[side] = {"mib": given / 2**20}
            if side != "bertjax" and given and not isinstance(ours, str):
                sides[side]["bertjax / this"] = ours / given
    yield Row(f"{length} tokens x {count} rows, bfloat16", sides)


def attention(sizes: Sizes) -> Iterator[Row]:
    """The attention module alone, forward and backward: XLA, this package's kernel, cuDNN's."""
    import benchmark_attention

    for length, examples in benchmark_attention.SHAPES if sizes.own_process else ((8, 1),):
        for rate in benchmark_attention.RATES:
            tokens = benchmark_attention.TOKENS if sizes.own_process else 16
            result = benchmark_attention.measured(length, examples, rate, sizes.rounds, sizes.base, tokens)
            names = ("ms", "temporary_mib", "error", "failed")
            figures = {
                side: {name: result[name][side] for name in names if side in result[name]}
                for side in (*result["ms"], *result["failed"])
            }
            yield Row(f"{length} tokens, {examples} examples a row, dropout {rate}", figures)


def seeds(sizes: Sizes) -> Iterator[Row]:
    """Stacked seeds of a small network: seconds to compile, and what a step of all of them costs beside one's."""
    model, params = random_model(in_execution(sizes.small, precision="bfloat16"))
    data = text_data("trec", sizes.texts, model.config.vocab_size)
    source = data.batches(sizes.batch_sizes[0], model.config.hidden_size)
    batch = next(source.batches()).batch
    sides: dict[str, Run] = {}
    for count in sizes.seeds:
        seconds, sides[str(count)] = stacked_seeds(model, params, batch, count)
        yield Row(f"to compile, {data.about}, batch {sizes.batch_sizes[0]}", {f"{count} seeds": {"seconds": seconds}})
    results = take_turns(sides, sizes.rounds, sizes.steps, sizes.warm)
    one = results[str(sizes.seeds[0])]["each_ms"]
    for result in results.values():
        result["of one's"] = statistics.median(a / b for a, b in zip(result["each_ms"], one, strict=True))
    names = ("ms", "of one's", "each_ms")
    figures = {f"{seeds} seeds": {name: of[name] for name in names} for seeds, of in results.items()}
    yield Row("a step of all", figures)


def stacked_seeds(model: Any, params: Any, batch: Batch, count: int) -> tuple[float, Run]:
    """Seconds that the step of so many runs takes to compile, and what trains them."""
    devices, step = one_device(), plain_step(model)
    states = [step.init(params, seed_key(seed)) for seed in range(count)]
    state = devices.place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    del states
    whole = merged([batch] * count, 1)
    train_step = CompiledTrainStep(devices, model, stacked_step(step, count), state, [whole])
    train_step.wait()
    placed, held = train_step.place(whole), [state]

    def run(steps: int) -> Counts:
        for _ in range(steps):
            held[0], _ = train_step(held[0], placed)
        jax.block_until_ready(held[0])
        return Counts(steps, 1, 1)

    return train_step.compile_seconds, run


def deterministic(sizes: Sizes) -> Iterator[Row]:
    """What the flags of `--deterministic` cost, and whether two runs with them leave the same bits; and without."""
    length, count = sizes.full_rows[0]
    config = in_execution(sizes.base, precision="bfloat16")
    with tempfile.TemporaryDirectory() as scratch:
        kept = {"JAX_COMPILATION_CACHE_DIR": str(Path(scratch) / "compiled"), **COMPILED_SETTINGS}
        flags = {"XLA_FLAGS": " ".join(deterministic_flags(keeps_choices=True))}
        without_cache = {"XLA_FLAGS": " ".join(deterministic_flags(keeps_choices=False))}
        kinds = {
            "as it is": {},
            "deterministic, kernel choices kept": kept | flags,
            "deterministic, nothing kept": without_cache,
        }
        for kind, variables in list(kinds.items())[: 3 if sizes.own_process else 1]:
            steps = sizes.rounds * sizes.steps
            job = partial(sizes.called, variables, gpu_jobs.timed_training, config, length, count, steps)
            (first, digest), (second, other) = job(), job()
            figures = {"ms": statistics.median([first, second]), "each_ms": [first, second]}
            yield Row("two runs", {kind: {**figures, "same_bits": digest == other}})


def _turns_of(makers: Mapping[str, Callable[[], Run]], sizes: Sizes) -> tuple[dict[str, Any], dict[str, str]]:
    """The results of the sides that run, and why the others do not."""
    made: dict[str, Any] = {
        side: _tried(maker) for side, maker in makers.items()
    }  # bertjax compiles while the others are made
    started = time.perf_counter()
    first: dict[str, Any] = {}
    for side, run in made.items():
        if not isinstance(run, str):
            first[side] = _tried(partial(_first_seconds, run, started))
    failures = {side: value for side, value in (made | first).items() if isinstance(value, str)}
    running = {side: made[side] for side in makers if side not in failures}
    return take_turns(running, sizes.rounds, sizes.steps, sizes.warm), failures


def _first_seconds(run: Run, started: float) -> float:
    run(1)
    return time.perf_counter() - started


def _side_by_side(results: Mapping[str, Any], failures: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The figures of each side, with how many times as fast as it bertjax is."""
    ratios = speed_ratios(results, "bertjax") if "bertjax" in results else {}
    for side, ratio in ratios.items():
        results[side]["bertjax is faster by"] = ratio
    return {**results, **{side: {"failed": why} for side, why in failures.items()}}


def _tried(function: Callable[[], T]) -> T | str:
    """Its value, or the first line of its error: one side that fails leaves the others."""
    try:
        return function()
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


class Part(NamedTuple):
    """A part, and after how many seconds it is stopped."""

    measure: Callable[[Sizes], Iterator[Row]]
    seconds: int


PARTS: Mapping[str, Part] = {
    "rows": Part(rows, 420),
    "texts": Part(texts, 400),
    "start": Part(start, 200),
    "busy": Part(busy, 120),
    "memory": Part(memory, 200),
    "seeds": Part(seeds, 240),
    "attention": Part(attention, 240),
    "update": Part(update, 90),
    "deterministic": Part(deterministic, 300),
}
