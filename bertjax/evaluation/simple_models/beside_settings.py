"""The settings of simple models: which ones, and what they read. Cheap to import."""

from dataclasses import dataclass

from bertjax.errors import ConfigError
from bertjax.settings import require

BESIDE = "beside"  # anchor of the section
NAMES = ("majority", "tfidf", "embeddings", "keywords")


@dataclass(frozen=True)
class SimpleModels:
    """Which simple models the network stands beside: fitted on the training rows, judged on the test rows."""

    beside: tuple[str, ...] = ()
    """Simple models beside the network: majority (the most frequent class, the mean, or the most frequent label of a
    word), tfidf and embeddings (a logistic regression of TF-IDF, or of the vectors of a checkpoint that was not
    fine-tuned; a ridge regression where numbers are learned), keywords (rules of --keywords)."""

    beside_model: str | None = None
    """The checkpoint of --beside embeddings; default: the one that a run starts from, minilm-l6 for bertjax
    evaluate."""

    keywords: str | None = None
    """A YAML file of the words and phrases that speak for each label, for --beside keywords."""

    def __post_init__(self) -> None:
        for name in self.beside:
            require(name in NAMES, f"--beside takes {', '.join(NAMES)}", name)
        require(len(set(self.beside)) == len(self.beside), "--beside names a model twice", " ".join(self.beside))
        for flag, value, name in (
            ("--keywords", self.keywords, "keywords"),
            ("--beside-model", self.beside_model, "embeddings"),
        ):
            if value is not None and name not in self.beside:
                raise ConfigError(f"{flag} is for --beside {name}; give that too, or leave {flag} out")
        if "keywords" in self.beside and self.keywords is None:
            raise ConfigError("--beside keywords needs --keywords, a YAML file of the words that speak for each label")


@dataclass(frozen=True)
class BesideTable(SimpleModels):
    """Simple models, and the rows that they are fitted on."""

    beside_train: str | None = None
    """The training table of --beside, in the form of --data; rows whose text is repeated, or is among the judged rows,
    are left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.beside) != (self.beside_train is not None):
            raise ConfigError("--beside and --beside-train, the rows to fit simple models on, go together; give both")
