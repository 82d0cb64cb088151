"""Weight files of TabPFN and TabICL: where they are searched, and how they are read without downloads.

Both packages download a missing file. So the file is searched here first, and each package is then called with downloads disabled. A
network stays in memory until its file changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from nearward.tabular.errors import InputError, MissingWeights

_TABICL_REPOSITORY, _TABICL_FILE = "jingang/TabICL", "tabicl-classifier-v2-20260212.ckpt"


def find_tabpfn(model_path: str | Path | None) -> Path:
    """Find TabPFN's file: ``model_path``, else NEARWARD_TABPFN, else version 2 in the package's own cache. The file is not read.

    Raises
    ------
    MissingWeights
        There is no file.
    InputError
        The package is not installed.
    """
    os.environ.setdefault("TABPFN_DISABLE_TELEMETRY", "1")  # before version 9
    package = _package("tabpfn", "tabpfn.model_loading")
    cached = package.get_cache_dir() / package.ModelSource.get_classifier_v2().default_filename
    return _find("TabPFN", model_path, "NEARWARD_TABPFN", cached, str(cached))


def find_tabicl(model_path: str | Path | None) -> Path:
    """Find TabICL's file: ``model_path``, else NEARWARD_TABICL, else version 2 in the Hugging Face cache; errors as ``find_tabpfn``."""
    _package("tabicl", "tabicl")
    from huggingface_hub import try_to_load_from_cache  # reads the disk only

    cached = try_to_load_from_cache(_TABICL_REPOSITORY, _TABICL_FILE)
    home = f"the Hugging Face cache ({_TABICL_FILE} of {_TABICL_REPOSITORY})"
    return _find("TabICL", model_path, "NEARWARD_TABICL", Path(cached) if isinstance(cached, str) else None, home)


def tabpfn_network(path: Path) -> Any:
    """Read a TabPFN file, as an object that its classifier takes as ``model_path``.

    Raises
    ------
    InputError
        The file is not a TabPFN classifier's.
    """
    return _cached("TabPFN", _read_tabpfn, path)


def tabicl_network(path: Path) -> Any:
    """Read a TabICL file; errors as ``tabpfn_network``."""
    return _cached("TabICL", _read_tabicl, path)


def tabicl_classifier(path: Path | str, **options: Any) -> Any:
    """Make TabICL's classifier, with downloads disabled."""
    from tabicl import TabICLClassifier

    return TabICLClassifier(model_path=str(path), allow_auto_download=False, **options)


def _package(extra: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"the backbone {extra!r} needs a package that is not installed: pip install 'nearward[{extra}]'") from error


def _find(package: str, model_path: str | Path | None, variable: str, cached: Path | None, home: str) -> Path:
    path, reason = cached, "no file is given, and there is none in its cache"
    from_environment = os.environ.get(variable)
    if model_path is not None:
        path, reason = Path(model_path), f"model_path={str(model_path)!r} is not a file"
    elif from_environment:
        path, reason = Path(from_environment), f"{variable}={from_environment!r} is not a file"
    if path is None or not path.is_file():
        raise MissingWeights(package, reason, f"{package}Backbone(model_path='/path/to/the/file')", variable, home)
    return path.resolve()


def _read_tabpfn(path: str) -> Any:
    from tabpfn import ModelSpecs
    from tabpfn.constants import ModelVersion
    from tabpfn.model_loading import load_model_criterion_config

    models, _, configs, inference = load_model_criterion_config(
        path,
        check_bar_distribution_criterion=False,
        estimator_type="classifier",
        version=ModelVersion.V2.value,
        download_if_not_exists=False,
    )
    return ModelSpecs(models[0], configs[0], inference)


def _read_tabicl(path: str) -> Any:
    reader = tabicl_classifier(path)
    reader._load_model()
    return reader.model_


def _cached(package: str, read: Callable[[str], Any], path: Path) -> Any:
    """Read a file once; a replaced file is read again."""
    status = path.stat()
    return _read(package, read, str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read(package: str, read: Callable[[str], Any], path: str, _mtime: int, _size: int) -> Any:
    import torch

    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0").lower() in ("1", "y", "yes", "true"):
        raise InputError(
            f"{path} is not read while TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: code in the file would run. Unset the variable"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # initialising a network must not change the global random state
            return read(path)
    except Exception as error:
        raise InputError(
            f"{path} is not a classifier's weights as {package} writes them ({type(error).__name__}): "
            "download the file again, or give another; docs/guide/bring-your-own-backbone.md lists them"
        ) from error
