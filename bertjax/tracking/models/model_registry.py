"""MLflow's model registry: registered models, and the address `models:/NAME@ALIAS` wherever a model is named.

The version in use has the alias `champion`; the newest other one is the `challenger` until the user moves the aliases.
"""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bertjax.catalog import cache_folder
from bertjax.errors import AssetError, first_line
from bertjax.storage.atomic_write import replaced_folder
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address
from bertjax.tracking.quiet_mlflow import quiet_mlflow

CHAMPION, CHALLENGER = "champion", "challenger"


def register(client: Any, name: str, run_id: str, source: str) -> None:
    """Registers the model of a run as the next version; a run that has a version already keeps it.

    Args:
      name: of the registered model, which is created where there is none.
      source: the address of the model among the run's artifacts.
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
        raise AssetError(f"{address} is not in {store.name}, {_alternatives(store.client, parts['name'])}") from None
    source = store.client.get_model_version_download_uri(version.name, version.version)
    return download_model(store, f"models:/{version.name}/{version.version}", source, version.run_id)


def _alternatives(client: Any, name: str) -> str:
    """The registered models, or the versions of this one, for an error message."""
    models = {model.name: model for model in client.search_registered_models()}
    if name not in models:
        return f"which has {', '.join(sorted(models)) or 'no models'}"
    versions = [int(each.version) for each in client.search_model_versions(f"name = '{name}'")]
    if not versions:
        return f"where {name} has no version yet; a run with --register {name} makes one"
    aliases = ", ".join(f"@{alias} (version {version})" for alias, version in sorted(models[name].aliases.items()))
    return f"where {name} has {aliases or 'no aliases'} and versions up to {max(versions)}"


def download_model(store: MlflowStore, address: str, source: str, run_id: str) -> Path:
    """The model folder among MLflow's artifacts, in the cache unless the store is on this machine.

    Args:
      store: connected.
      address: of the model, such as `models:/NAME/VERSION`.
      source: the address of its files.
      run_id: of the run that has uploaded them.

    Raises:
      AssetError: it cannot be fetched.
    """
    folder = _download(store, address, source, run_id)
    pyfunc_configs = sorted(folder.glob("artifacts/*/config.json"))  # see `save_pyfunc`
    return pyfunc_configs[0].parent if pyfunc_configs else folder


def _download(store: MlflowStore, address: str, source: str, run_id: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    digest = hashlib.sha256(f"{store.name} {source} {_last_upload(store, run_id)}".encode()).hexdigest()[:12]
    cached = cache_folder() / "registry" / f"{address.partition(':/')[2].replace('/', '-')}-{digest}"
    if cached.is_dir():
        return cached
    local = Path(url2pathname(urlsplit(source).path) if source.startswith("file://") else source)
    try:
        if local.is_dir():
            return local
        with quiet_mlflow(), replaced_folder(cached) as scratch:
            download_artifacts(artifact_uri=source, dst_path=str(scratch), tracking_uri=store.address)
            (downloaded,) = scratch.iterdir()  # MLflow adds a level
            for path in downloaded.iterdir():
                path.rename(scratch / path.name)
            downloaded.rmdir()
    except MlflowException as error:
        raise AssetError(f"{address} cannot be fetched: {first_line(error)}") from None
    return cached


def _last_upload(store: MlflowStore, run_id: str) -> int | None:
    """When the run of a model ended last: one that was resumed has uploaded another model to the same place."""
    from mlflow.exceptions import MlflowException

    try:
        end_time: int | None = store.client.get_run(run_id).info.end_time
    except MlflowException:  # a version that was registered without a run
        return None
    return end_time
