"""The results of a run: the model, the metrics, and the report page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bertjax.data.table_reading import TableReading
from bertjax.evaluation.judged_rows import Finding
from bertjax.evaluation.run_report import RunReport
from bertjax.metrics.reports import Report
from bertjax.model_folder import save_pretrained
from bertjax.settings import flatten
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.tasks import Params
from bertjax.tracking.tracker import Tracker
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.run import run_folder
from bertjax.training.run.made_from import write_made_from
from bertjax.training.run.prepare import Prepared
from bertjax.training.run.prepared_run import PreparedRun
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.step.compiled_step import CompiledTrainStep


def training_metrics(train_metrics: TrainMetrics, train_step: CompiledTrainStep, started: float) -> dict[str, float]:
    """Speed and loss of the training, under the keys of `metrics.json`; a run with no step left has no first step."""
    first_step = train_step.first_step_done
    mfu = train_step.mfu(train_metrics.real_tokens, train_metrics.token_pairs, train_metrics.seconds)
    return {
        **({} if first_step is None else {"train/seconds_to_first_step": first_step - started}),
        **({} if mfu is None else {"train/matmul_peak_share": mfu}),
        "train/loss": train_metrics.train_loss,
        "train/examples_per_second": train_metrics.examples_per_second,
        "train/tokens_per_second": train_metrics.tokens_per_second,
        "train/real_token_share": train_metrics.real_token_share,
        "train/skipped_steps": train_metrics.skipped_steps,
        "train/data_wait_share": train_metrics.data_wait_share,
        "train/compiles": train_step.compiles,
        "train/compile_seconds": train_step.compile_seconds,
    }


def write_model(folder: Path, config: FineTuneConfig, prepared: Prepared, params: Params, temperature: float) -> None:
    save_pretrained(
        folder / run_folder.MODEL,
        prepared.model,
        params,
        prepared.tokenizer,
        preprocessing=prepared.preprocessing,
        max_length=config.max_length,
        reading=TableReading(prepared.table, config.masking).stored(),
        temperature=temperature,
    )


def write_results(
    run: PreparedRun,
    command: str,
    report: Report,
    metrics: Mapping[str, float],
    findings: Sequence[Finding],
    tracker: Tracker,
) -> None:
    """Writes report, contract findings and, last, metrics, and records them with the model, which is written."""
    folder, config, data_report = run.folder, run.config, run.prepared.data_report
    title, settings = f"{config.model} on {config.data.train}", flatten(config)
    shown = RunReport(
        title,
        report,
        metrics,
        settings,
        data_report,
        run.train_metrics.history,
        findings,
        command=command,
        environment=run_folder.earlier_starts(folder)[-1],
    )
    write_text(folder / run_folder.REPORT, shown.html())
    write_text(folder / run_folder.REPORT_MARKDOWN, shown.markdown())
    artifacts = [
        run_folder.CONFIG, run_folder.ENVIRONMENT, run_folder.REPORT, run_folder.REPORT_MARKDOWN, run_folder.METRICS
    ]  # fmt: skip
    if config.data.contract:
        found = {"contract": config.data.contract, "tables": data_report.contract_report()}
        write_json(folder / run_folder.CONTRACT, found)
        artifacts.append(run_folder.CONTRACT)
    write_json(folder / run_folder.METRICS, metrics)
    write_made_from(folder, run.fingerprints)
    tracker.log_metrics(metrics, int(metrics["train/steps"]))
    for name in artifacts:
        tracker.log_artifact(folder / name)
    tracker.log_model(folder / run_folder.MODEL, config.register)
