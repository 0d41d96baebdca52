"""`bertjax finetune`: the main job."""

from collections.abc import Sequence

from bertjax.cli.finetune_job import RunFlags, run_job
from bertjax.cli.job_flags import parse_job


def main(arguments: Sequence[str]) -> int:
    """Runs the job and prints the scores of the test rows."""
    config, flags = parse_job(RunFlags, arguments, "bertjax finetune")
    return run_job(config, flags, "finetune", arguments)
