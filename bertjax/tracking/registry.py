"""MLflow's model registry: a finished model under a name, and `models:/NAME@ALIAS` wherever a model is named.

The model that everybody should use is the `champion`; a new version is the `challenger` until somebody decides.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from bertjax.catalog import cache_folder
from bertjax.errors import AssetError
from bertjax.pretrained.files import written_at_once
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address

CHAMPION, CHALLENGER = "champion", "challenger"


def register(client: Any, name: str, run_id: str, source: str) -> None:
    """Makes the model of a run the next version of a registered model; for a run that has one already, nothing changes.

    Args:
      client: of MLflow.
      name: the registered model, which is made if there is none.
      run_id: the run.
      source: where its artifacts have the model.
    """
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((each.version for each in versions if each.run_id == run_id), None)
    if version is None:
        version = client.create_model_version(name, source, run_id).version
    aliases = client.get_registered_model(name).aliases
    if CHAMPION not in aliases:
        client.set_registered_model_alias(name, CHAMPION, version)
    elif str(version) not in map(str, aliases.values()):
        client.set_registered_model_alias(name, CHALLENGER, version)


def fetch_model(address: str) -> Path:
    """The local folder of a registered model, downloaded unless an earlier call has done so.

    Args:
      address: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
      AssetError: there is no such model.
      ConfigError: MLflow does not answer.
    """
    parts = re.fullmatch(r"models:/(?P<name>[^/@]+)(@(?P<alias>[\w-]+)|/(?P<version>\d+))", address)
    if parts is None:
        raise AssetError(f"{address} is no model of a registry; write models:/NAME@ALIAS or models:/NAME/VERSION")
    store = MlflowStore(tracking_address())
    store.connect()
    from mlflow.exceptions import MlflowException

    try:
        if parts["alias"]:
            version = store.client.get_model_version_by_alias(parts["name"], parts["alias"])
        else:
            version = store.client.get_model_version(parts["name"], parts["version"])
    except MlflowException:
        raise AssetError(f"{address} is not in {store.name}, {_known(store.client, parts['name'])}") from None
    found = _download(store, version)
    inside = sorted(found.glob("artifacts/*/config.json"))  # what `save_pyfunc` wrote
    return inside[0].parent if inside else found


def _known(client: Any, name: str) -> str:
    """What the registry has instead."""
    models = {model.name: model for model in client.search_registered_models()}
    if name not in models:
        return f"which has {', '.join(sorted(models)) or 'no models'}"
    aliases = ", ".join(f"@{alias} (version {version})" for alias, version in sorted(models[name].aliases.items()))
    return f"where {name} has {aliases or 'no aliases'} and versions up to {models[name].latest_versions[-1].version}"


def _download(store: MlflowStore, version: Any) -> Path:
    """The files of a version, on this machine."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    source = store.client.get_model_version_download_uri(version.name, version.version)
    digest = hashlib.sha256(f"{store.name} {source}".encode()).hexdigest()[:12]
    cached = cache_folder() / "registry" / f"{version.name}-{version.version}-{digest}"
    if cached.is_dir():
        return cached
    try:
        if Path(source.removeprefix("file://")).is_dir():
            return Path(source.removeprefix("file://"))
        with written_at_once(cached) as scratch:
            download_artifacts(artifact_uri=source, dst_path=str(scratch), tracking_uri=store.address)
            (inside,) = scratch.iterdir()  # MLflow adds a folder of its own
            for path in inside.iterdir():
                path.rename(scratch / path.name)
            inside.rmdir()
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise AssetError(f"models:/{version.name}/{version.version} cannot be fetched: {reason}") from None
    return cached
