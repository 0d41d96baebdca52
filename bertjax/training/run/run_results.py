"""What a run leaves in its folder when it is done: the model, the metrics, and the page for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.data.rows.data_report import DataReport
from bertjax.evaluation.reports import Report
from bertjax.evaluation.run_report import render_report
from bertjax.model_folder import save_pretrained
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.tasks import Params
from bertjax.tracking.tracker import Tracker
from bertjax.training.loop.train_metrics import RunRecord
from bertjax.training.run import run_folder
from bertjax.training.run.prepare import Prepared
from bertjax.training.settings.data_config import reading_of
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.step.engine import Engine


def training_metrics(record: RunRecord, engine: Engine, started: float) -> dict[str, float]:
    """How the training went, under the keys of `metrics.json`; where no step was left to do, no first one is named."""
    first_step = engine.first_step_done
    share = engine.matmul_share(record.real_tokens, record.token_pairs, record.seconds)
    return {
        **({} if first_step is None else {"train/seconds_to_first_step": first_step - started}),
        **({} if share is None else {"train/matmul_peak_share": share}),
        "train/loss": record.train_loss,
        "train/examples_per_second": record.examples_per_second,
        "train/tokens_per_second": record.tokens_per_second,
        "train/real_token_share": record.real_token_share,
        "train/skipped_steps": record.skipped_steps,
        "train/data_wait_share": record.data_wait_share,
        "train/compiles": engine.compiles,
        "train/compile_seconds": engine.compile_seconds,
    }


def write_model(folder: Path, config: FineTuneConfig, prepared: Prepared, params: Params) -> None:
    save_pretrained(
        folder / run_folder.MODEL,
        prepared.model,
        params,
        prepared.tokenizer,
        preprocessing=prepared.preprocessing,
        max_length=config.max_length,
        reading=reading_of(config, prepared.table),
    )


def write_results(
    folder: Path,
    config: FineTuneConfig,
    shown: Mapping[str, Any],
    data_report: DataReport,
    report: Report,
    metrics: Mapping[str, float],
    record: RunRecord,
    tracker: Tracker,
    step: int,
) -> None:
    title = f"{config.model} on {config.data.train}"
    html = render_report(title, report, metrics, record.history, shown, data_report)
    write_text(folder / run_folder.REPORT, html)
    artifacts = [run_folder.CONFIG, run_folder.ENVIRONMENT, run_folder.REPORT, run_folder.METRICS]
    if config.data.contract:
        findings = {"contract": config.data.contract, "tables": data_report.contract_report()}
        write_json(folder / run_folder.CONTRACT, findings)
        artifacts.append(run_folder.CONTRACT)
    write_json(folder / run_folder.METRICS, metrics)
    tracker.log_metrics(metrics, step)
    for name in artifacts:
        tracker.log_artifact(folder / name)
    tracker.log_model(folder / run_folder.MODEL, config.register)
