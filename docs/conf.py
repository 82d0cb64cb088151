"""Sphinx builds the documentation as a site: `make docs`. The pages of docs/ are its sources; nothing is fetched by the site.

Links from a page to a file outside docs/ (source files, the changelog) lead nowhere in a folder of HTML, and become plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nearward

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")

project, author, release = "nearward", "The nearward developers", nearward.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "**sg_execution_times.rst", "examples", "auto_examples/*.ipynb", "auto_examples/*.py", "*.py"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".markdown": "markdown"}
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False, "navbar_end": ["theme-switcher"], "secondary_sidebar_items": ["page-toc"]}
html_title = f"nearward {release}"
html_copy_source = False
html_show_sourcelink = False
myst_heading_anchors = 4
suppress_warnings = ["config.cache", "ref.python"]  # ref.python: two classes have a summary_
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/\d_",
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
}

_SECTIONS = {"Guide": "guide", "Reference": "reference", "Measurements": "benchmarks", "History": "log"}
_TEMPLATE = "```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"


def contents() -> str:
    """Return the toctrees of the first page: all pages of the folders, the examples and the API."""
    parts = []
    for caption, folder in _SECTIONS.items():
        pages = [f"{folder}/{path.stem}" for path in sorted((DOCS / folder).glob("*.md"))]
        extra = {"Guide": ["auto_examples/index"], "Reference": ["api"], "History": ["changelog"]}.get(caption, [])
        parts.append(_TEMPLATE.format(caption=caption, pages="\n".join([*extra, *pages])))
    return "\n".join(parts)


def plain_links(text: str, page: Path) -> str:
    """Turn links that leave docs/, or lead to what is no page, into their text."""

    def replace(match: re.Match[str]) -> str:
        target = (page.parent / match[2]).resolve()
        inside = target.is_relative_to(DOCS) and target.suffix in (".md", ".svg", ".png")
        return match[0] if inside else match[1]

    return LINK.sub(replace, text)


def api() -> str:
    """Return the page of the public names, grouped by the package that defines them."""
    packages: dict[str, list[str]] = {}
    for name, module in sorted(nearward._MODULE_OF.items()):
        packages.setdefault(module.split(".")[1], []).append(name)
    parts = ["API\n===\n\nEvery public name, as ``nearward.NAME``.\n"]
    for package, names in packages.items():
        heading = package.replace("_", " ")
        listed = "\n".join(f"   nearward.{name}" for name in names)
        parts.append(f"{heading}\n{'-' * len(heading)}\n\n.. autosummary::\n   :toctree: api_of\n\n{listed}\n")
    return "\n".join(parts)


def _read(_: Any, name: str, content: list[str]) -> None:
    if name.startswith(("auto_examples", "api")):
        return
    page = DOCS / f"{name}.md"
    content[0] = plain_links(content[0], page) + ("\n" + contents() if name == "index" else "")


def setup(app: Any) -> None:
    """Write the generated pages and register the reader of links."""
    (DOCS / "api.rst").write_text(api(), encoding="utf-8")
    changelog = (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    (DOCS / "changelog.markdown").write_text(re.sub(LINK, r"\1", changelog), encoding="utf-8")
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _rest)
    app.connect("autodoc-skip-member", _skip)


def _skip(_app: Any, _what: str, name: str, _object: Any, skip: bool, _options: Any) -> bool:
    """Leave out the methods that scikit-learn's metadata routing adds to every estimator."""
    return skip or re.fullmatch(r"set_\w+_request", name) is not None


def _rest(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Keep what docstrings write for readers of the source from being read as markup: * and | in shapes and signatures."""
    escaped: Iterable[str] = (
        re.sub(r"(?<![\w*`\\])\*(?=[\w])|(?<=\w)_(?=[\s,.;:)])", lambda match: "\\" + match[0], line) for line in lines
    )
    lines[:] = list(escaped)
