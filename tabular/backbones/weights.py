"""Files of pretrained weights: where they may lie, and how TabPFN and TabICL read them without a way to the network.

Both packages download a file that they miss. So the file is looked for here first, and each package is then called with its own
download switched off; what is read is kept until the file changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from nearward.tabular.errors import InputError, MissingWeights

_TABICL_REPOSITORY, _TABICL_FILE = "jingang/TabICL", "tabicl-classifier-v2-20260212.ckpt"


def find_tabpfn(model_path: str | Path | None) -> Path:
    """Find a file for TabPFN: the one named, else NEARWARD_TABPFN's, else version 2 in the package's own cache. Nothing is opened.

    Raises
    ------
    MissingWeights
        Where there is none.
    InputError
        Where the package is not installed.
    """
    os.environ.setdefault("TABPFN_DISABLE_TELEMETRY", "1")  # tabpfn below 9 reported its use; 9 has nothing left to switch off
    package = _package("tabpfn", "tabpfn.model_loading")
    cached = package.get_cache_dir() / package.ModelSource.get_classifier_v2().default_filename
    return _find("TabPFN", model_path, "NEARWARD_TABPFN", cached, str(cached))


def find_tabicl(model_path: str | Path | None) -> Path:
    """Find a file for TabICL: the one named, else NEARWARD_TABICL's, else version 2 in the Hugging Face cache; as ``find_tabpfn``."""
    _package("tabicl", "tabicl")
    from huggingface_hub import try_to_load_from_cache  # asks the disk alone

    cached = try_to_load_from_cache(_TABICL_REPOSITORY, _TABICL_FILE)
    home = f"the Hugging Face cache ({_TABICL_FILE} of {_TABICL_REPOSITORY})"
    return _find("TabICL", model_path, "NEARWARD_TABICL", Path(cached) if isinstance(cached, str) else None, home)


def tabpfn_network(path: Path) -> Any:
    """Read a file for TabPFN; given to its classifier as ``model_path``, it leaves the classifier nothing to look for.

    Raises
    ------
    InputError
        Where the file is not a TabPFN classifier's.
    """
    return _tabpfn(*_stamp(path))


def tabicl_network(path: Path) -> Any:
    """Read a file for TabICL; raises as ``tabpfn_network``."""
    return _tabicl(*_stamp(path))


def tabicl_classifier(path: Path | str, **options: Any) -> Any:
    """Make TabICL's classifier, with downloads off."""
    from tabicl import TabICLClassifier

    return TabICLClassifier(model_path=str(path), allow_auto_download=False, **options)


def _package(extra: str, module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"the backbone {extra!r} needs a package that is not installed: pip install 'nearward[{extra}]'") from error


def _find(package: str, model_path: str | Path | None, variable: str, cached: Path | None, home: str) -> Path:
    path, lacking = cached, "no file was named, and there is none in its cache"
    in_environment = os.environ.get(variable)
    if model_path is not None:
        path, lacking = Path(model_path), f"model_path={str(model_path)!r} is not a file"
    elif in_environment:
        path, lacking = Path(in_environment), f"{variable}={in_environment!r} is not a file"
    if path is None or not path.is_file():
        raise MissingWeights(package, lacking, f"{package}Backbone(model_path='/path/to/the/file')", variable, home)
    return path.resolve()


def _stamp(path: Path) -> tuple[str, int, int]:
    """What a network is remembered by: a file that was replaced is another file."""
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size


@lru_cache(maxsize=2)
def _tabpfn(path: str, _changed: int, _size: int) -> Any:
    def read() -> Any:
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

    return _read("TabPFN", path, read)


@lru_cache(maxsize=2)
def _tabicl(path: str, _changed: int, _size: int) -> Any:
    def read() -> Any:
        reader = tabicl_classifier(path)
        reader._load_model()
        return reader.model_

    return _read("TabICL", path, read)


def _read(package: str, path: str, read: Callable[[], Any]) -> Any:
    import torch

    try:
        with torch.random.fork_rng(devices=[]):  # building a network draws weights; what torch draws next must not depend on that
            return read()
    except Exception as error:
        raise InputError(
            f"{path} is not a classifier's weights as {package} writes them ({type(error).__name__}): "
            "fetch the file again, or name another; docs/guide/bring-your-own-backbone.md lists them"
        ) from error
