"""Writes the results of a run: the evaluation of its test rows, the model, the metrics, the report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bertjax.data.table_reading import TableReading
from bertjax.evaluation.judged_rows import JudgedRows, ScoredRows
from bertjax.evaluation.judgement import Judgement, judge
from bertjax.evaluation.run_report import RunReport, write_page
from bertjax.evaluation.simple_models.beside_report import beside_simple_models
from bertjax.evaluation.simple_models.simple_model import Labelled
from bertjax.inference.loaded_model import LoadedModel
from bertjax.metrics.reports import Report
from bertjax.model_folder.adapter_folder import save_adapter
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.pretrained.files import local_folder
from bertjax.report_pages.blocks import CHARTS, MARKDOWN, REPORT
from bertjax.report_pages.png_charts import charts_of
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


def judge_test(
    config: FineTuneConfig,
    prepared: Prepared,
    params: Params,
    scores: np.ndarray,
    report: Report,
    temperature: float,
) -> Judgement:
    """All that is found about the test rows; all processes of a run must ask for it.

    Args:
      config: of the run.
      prepared: its input.
      params: the trained ones, as they are saved.
      scores: of the test rows (`Task.scores`), before the temperature.
      report: of them.
      temperature: of the probabilities.
    """
    model, split, looks = prepared.model, prepared.test_rows, prepared.looks
    if split.rows is None:
        return judge(ScoredRows(model, temperature, split.examples.labels, scores, report, split.num_rows), looks)
    loaded = LoadedModel(
        model,
        params,
        prepared.tokenizer,
        prepared.preprocessing,
        config.max_length,
        prepared.table,
        config.masking,
        temperature=temperature,
    )
    compared = []
    if prepared.learned is not None:
        test, settings = Labelled(split.rows, split.examples), config.simple_models
        compared.append(
            beside_simple_models(config.task, model.labels, test, report, prepared.learned, settings, config.model)
        )
    return judge(JudgedRows(loaded, split.rows, split.examples, scores, report, split.source), looks, compared)


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


def write_adapter(run: PreparedRun, params: Params) -> None:
    """Writes the adapters of a run, where it has some.

    Args:
      run: of the adapters.
      params: the trained ones, not merged, in the units of the table.
    """
    if run.trained.config.adapters is None:
        return
    base = run.config.model
    of_this_machine = local_folder(base)
    base = base if of_this_machine is None else str(of_this_machine.absolute())
    save_adapter(run.folder / run_folder.ADAPTER, run.trained, params, base)


def write_results(
    run: PreparedRun,
    command: str,
    report: Report,
    metrics: Mapping[str, float],
    judgement: Judgement,
    tracker: Tracker,
) -> None:
    """Writes report, findings and, last, metrics, and records them with the model, which is written."""
    folder, config, data_report = run.folder, run.config, run.prepared.data_report
    title, settings = f"{config.model} on {config.data.train}", flatten(config)
    shown = RunReport(
        title,
        report,
        metrics,
        settings,
        data_report,
        run.train_metrics.history,
        judgement.findings,
        judgement.intervals,
        command,
        run_folder.earlier_starts(folder)[-1],
    ).page()
    write_page(folder, shown)
    artifacts = [
        run_folder.CONFIG, run_folder.ENVIRONMENT, REPORT, MARKDOWN, run_folder.METRICS
    ]  # fmt: skip
    for finding in judgement.findings:
        for name, content in finding.files.items():
            write_text(folder / name, content)
            artifacts.append(name)
    if config.data.contract:
        found = {"contract": config.data.contract, "tables": data_report.contract_report()}
        write_json(folder / run_folder.CONTRACT, found)
        artifacts.append(run_folder.CONTRACT)
    write_json(folder / run_folder.METRICS, metrics)
    write_made_from(folder, run.fingerprints)
    tracker.log_metrics(metrics, int(metrics["train/steps"]))
    for name in artifacts:
        tracker.log_artifact(folder / name)
    tracker.log_charts(charts_of(shown.sections), folder / CHARTS)
    tracker.log_model(folder / run_folder.MODEL, config.register)
