# The public names: this file is the only list of them. Type checkers read it, and `__init__.py` imports from it.

from bertjax import losses as losses
from bertjax import training as training
from bertjax.baselines.compare.comparison import compare as compare
from bertjax.baselines.parity.checkpoint_parity import ParityResult as ParityResult
from bertjax.baselines.parity.checkpoint_parity import parity as parity
from bertjax.batch import Batch as Batch
from bertjax.batch import padded_batch as padded_batch
from bertjax.cli.experiment import PublishedScore as PublishedScore
from bertjax.cli.experiment import run_experiment as run_experiment
from bertjax.config import BertConfig as BertConfig
from bertjax.config import Execution as Execution
from bertjax.data.batching.packing import pack_batch as pack_batch
from bertjax.data.table import Masking as Masking
from bertjax.data.table import Table as Table
from bertjax.errors import UserError as UserError
from bertjax.inference.evaluate_table import EvaluationResult as EvaluationResult
from bertjax.inference.evaluate_table import evaluate as evaluate
from bertjax.inference.predictor import Predictor as Predictor
from bertjax.model.heads import BertOutput as BertOutput
from bertjax.model_folder import from_pretrained as from_pretrained
from bertjax.model_folder import save_pretrained as save_pretrained
from bertjax.settings import override as override
from bertjax.sweeps.driver import run_sweep as run_sweep
from bertjax.sweeps.search_space import Choice as Choice
from bertjax.sweeps.search_space import Grid as Grid
from bertjax.sweeps.search_space import LogUniform as LogUniform
from bertjax.sweeps.search_space import RandInt as RandInt
from bertjax.sweeps.search_space import Uniform as Uniform
from bertjax.sweeps.search_space import When as When
from bertjax.sweeps.sweep_config import Sweep as Sweep
from bertjax.tasks import Model as Model
from bertjax.tasks import Task as Task
from bertjax.tasks import make_model as make_model
from bertjax.tasks import register_task as register_task
from bertjax.tasks.postprocess import AnswerOptions as AnswerOptions
from bertjax.tracking.tracker import MemoryTracker as MemoryTracker
from bertjax.tracking.tracker import NullTracker as NullTracker
from bertjax.training.multi.multi_seed import SeedsResult as SeedsResult
from bertjax.training.multi.multi_seed import finetune_seeds as finetune_seeds
from bertjax.training.multi.ray_workers import finetune_on_workers as finetune_on_workers
from bertjax.training.optim.optimizer import make_optimizer as make_optimizer
from bertjax.training.run.finetuning import finetune as finetune
from bertjax.training.run.training_session import FineTuneResult as FineTuneResult
from bertjax.training.settings.finetune_config import FineTuneConfig as FineTuneConfig
from bertjax.training.settings.options import Checkpointing as Checkpointing
from bertjax.training.settings.options import EarlyStopping as EarlyStopping
from bertjax.training.settings.options import Evaluation as Evaluation
from bertjax.training.settings.options import Imbalance as Imbalance
from bertjax.training.settings.options import Optimizer as Optimizer
from bertjax.training.settings.options import Regularization as Regularization
from bertjax.training.settings.options import Workers as Workers
from bertjax.training.step.train_step import make_train_step as make_train_step
from bertjax.training.train_state import TrainState as TrainState

__version__: str
__all__: list[str]
