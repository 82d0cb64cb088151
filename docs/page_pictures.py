"""Writes docs/pictures/pages: each page at 1,300 and 390 pixels, and in print, on the made-up ward.

Usage: .venv/bin/python docs/page_pictures.py [FOLDER]    (needs chromium; pictures of the print need pip install pypdfium2)

The pages themselves are left in FOLDER, where one is named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nearward as nw
from nearward.evaluation.events.description import describe_events
from nearward.evaluation.events.html_report import events_page
from nearward.evaluation.html_page import write_html
from nearward.evaluation.provenance import Provenance
from nearward.tabular.persistence.artifact import model_hash

FOLDER = Path(__file__).parent / "pictures" / "pages"
MOST_BYTES = 60_000
HEIGHTS = {1300: 1700, 390: 1700}  # of a picture: the top of the page


def write_pages(folder: Path) -> dict[str, Path]:
    """Fit a model on the northern hospital's first two years, and write every page that nearward has: name -> file."""
    stays = nw.datasets.ward(6000, seed=5).table.with_columns(pl.col("admission_type_id").cast(pl.String)).sort("admitted")
    north = stays.filter(pl.col("hospital") == "north")
    past, new = north.filter(pl.col("admitted") < date(2024, 1, 1)), north.filter(pl.col("admitted") >= date(2024, 1, 1))
    past.drop("hospital", "admitted").write_parquet(folder / "past.parquet")
    roles = ("--outcome", "died", "--group", "patient", "--id", "stay")
    _nearward("fit", folder / "past.parquet", *roles, "--effort", "fast", "--out", folder / "model")
    model = nw.load(folder / "model")
    pages = {"report": folder / "report.html", "comparison": folder / "comparison.html", "sheet": folder / "sheet.html"}
    scored = new.with_columns(model.predict_frame(new)["risk", "vote"].rename({"vote": "similar patients alone"}))
    scored.write_parquet(folder / "stays-2024.parquet")
    origin = Provenance.now(folder / "stays-2024.parquet", model_hash(folder / "model"))
    report = nw.evaluate_risk(scored, "died", "risk", group="patient", subgroups=["sex", "unit"], resamples=500)
    report.to_html(pages["report"], provenance=origin)
    report.to_json(folder / "report.json", provenance=origin)
    comparison = nw.compare_risks(scored, "died", ["risk", "similar patients alone"], group="patient", resamples=500)
    comparison.to_html(pages["comparison"], origin)
    row = int((scored["risk"] - 0.4).abs().arg_min() or 0)
    nw.patient_sheet(model, new.drop("hospital", "admitted")[row : row + 1], pages["sheet"], provenance=origin)
    nw.model_card(folder / "model", folder / "report.json").write(folder / "card")
    pages["model-card"] = folder / "card" / "card.html"
    return pages | {
        "drift": _watch(folder, new),
        "adaptation": _adapt(folder, model, stays.filter(pl.col("hospital") == "south")),
        "transport": _transport(folder, stays),
        "events": _describe_events(folder),
        "faith-card": _audit(folder, past, new),
    }


def _watch(folder: Path, new: pl.DataFrame) -> Path:
    """Score four quarters, the last with lactate in another unit, and compare them."""
    runs = []
    for quarter in range(4):
        rows = new.filter((pl.col("admitted").dt.month() - 1) // 3 == quarter)
        if quarter == 3:
            rows = rows.with_columns(lactate=9 * pl.col("lactate"))
        runs.append(folder / f"2024-Q{quarter + 1}")
        rows.drop("died").write_parquet(folder / "quarter.parquet")
        _nearward("score", folder / "model", folder / "quarter.parquet", "--out", runs[-1])
    outcomes = ("--outcomes", folder / "stays-2024.parquet", "--outcome", "died")
    _nearward("watch", *runs, *outcomes, "--report", folder / "drift.html")
    return folder / "drift.html"


def _nearward(*words: object) -> None:
    subprocess.run([str(Path(sys.executable).parent / "nearward"), *map(str, words), "--quiet"], check=True, capture_output=True)


def _adapt(folder: Path, model: Any, south: pl.DataFrame) -> Path:
    """Bring the model up to date at the southern hospital."""
    local = south[:1200]
    local.write_parquet(folder / "south.parquet")
    adapted = model.adapt(local, local["died"], groups=local["patient"])
    adapted.save(folder / "model-south")
    adapted.adaptation_.to_html(folder / "adaptation.html", Provenance.now(folder / "south.parquet", model_hash(folder / "model-south")))
    return folder / "adaptation.html"


def _transport(folder: Path, stays: pl.DataFrame) -> Path:
    """Leave each unit of each hospital out of a logistic regression."""
    numbers = stays.select(pl.selectors.numeric()).drop("died")
    regression = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    units = stays.select(pl.concat_str("hospital", "unit", separator=", ")).to_series()
    nw.transport(regression, numbers, stays["died"], groups=stays["patient"], site=units, resamples=200).to_html(folder / "transport.html")
    return folder / "transport.html"


def _describe_events(folder: Path) -> Path:
    events, labels = nw.datasets.ward_events(600, seed=0)
    write_html(events_page(describe_events(events, labels), "ward"), folder / "events.html")
    return folder / "events.html"


def _audit(folder: Path, past: pl.DataFrame, new: pl.DataFrame) -> Path:
    """Make a synthetic table of the past stays, and evaluate it."""
    columns = pl.exclude("stay", "patient", "hospital", "admitted", "diagnoses")
    train, holdout = (rows.unique("patient", keep="first", maintain_order=True).select(columns) for rows in (past, new))
    synthetic = nw.Synthesizer(seed=0).fit(train, outcome="died").sample(train.height)
    nw.faith_card(train=train, holdout=holdout, synthetic=synthetic, outcome="died").to_html(folder / "faith-card.html")
    return folder / "faith-card.html"


def browse(page: Path, *words: str) -> None:
    """Run the browser without a screen."""
    browser = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    subprocess.run([browser, *flags, f"--user-data-dir={page.parent / 'profile'}", *words, page.as_uri()], capture_output=True, check=True)


def screenshot(page: Path, width: int) -> Image.Image:
    """Return the top of a page in a frame of this width: no window is narrower than 500."""
    height, frame = HEIGHTS[width], page.parent / f"frame-{page.stem}-{width}.html"
    frame.write_text(f'<body style="margin:0"><iframe src="{page.name}" width="{width}" height="{height}" style="border:0"></iframe>')
    browse(frame, f"--window-size={max(width, 500)},{height}", f"--screenshot={page.parent / 'shot.png'}")
    return Image.open(page.parent / "shot.png").convert("RGB").crop((0, 0, width, height))


def first_sheets(page: Path) -> Image.Image:
    """Return the first two printed sheets side by side."""
    import pypdfium2

    browse(page, f"--print-to-pdf={page.parent / 'page.pdf'}", "--no-pdf-header-footer")
    sheets = [sheet.render(scale=1.2).to_pil() for sheet in list(pypdfium2.PdfDocument(page.parent / "page.pdf"))[:2]]
    together = Image.new("RGB", (sum(sheet.width for sheet in sheets), sheets[0].height), "white")
    for i, sheet in enumerate(sheets):
        together.paste(sheet, (i * sheets[0].width, 0))
    return together


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG of 40 colours, scaled down until it is small enough."""
    width = min(picture.width, 760)
    while True:
        small = picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
        small.quantize(40, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            return
        width = int(width * 0.9)


def main() -> None:
    """Write all pictures."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1764460800")  # reproducible
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if sys.argv[1:] else temporary).resolve()
        folder.mkdir(exist_ok=True)
        for name, page in write_pages(folder).items():
            for width in HEIGHTS:
                save(screenshot(page, width), FOLDER / f"{name}-{width}.png")
            save(first_sheets(page), FOLDER / f"{name}-print.png")
    print(f"{FOLDER} written")


if __name__ == "__main__":
    main()
