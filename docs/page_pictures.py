"""Writes docs/pictures/pages: each page at 1,300 and 390 pixels, and in print, on public biopsies.

Usage: .venv/bin/python docs/page_pictures.py    (needs chromium; pictures of the print need pip install pypdfium2)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import polars as pl
from PIL import Image
from sklearn.datasets import load_breast_cancer

import nearward as nw
from nearward.evaluation.provenance import Provenance
from nearward.tabular.persistence.artifact import model_hash

FOLDER = Path(__file__).parent / "pictures" / "pages"
MOST_BYTES = 60_000
HEIGHTS = {1300: 1700, 390: 1700}  # of a picture: the top of the page


def write_pages(folder: Path) -> dict[str, Path]:
    """Fit a model on biopsies, and write its report, the sheet of one biopsy, and its card."""
    bunch = load_breast_cancer()
    biopsies = pl.DataFrame(bunch.data, schema=[str(name) for name in bunch.feature_names]).with_columns(
        malignant=pl.Series(bunch.target == 0)
    )
    biopsies = biopsies.sample(fraction=1.0, shuffle=True, seed=0)
    past, new = biopsies[:350], biopsies[350:]
    model = nw.RiskClassifier(random_state=0).fit(past.drop("malignant"), past["malignant"])
    model.save(folder / "model")
    scored = new.with_columns(model.predict_frame(new.drop("malignant"))["risk"])
    size = pl.when(pl.col("mean radius") > 14).then(pl.lit("large")).otherwise(pl.lit("small")).alias("size")
    scored = scored.select("malignant", "risk", size)
    scored.write_parquet(folder / "biopsies.parquet")
    provenance = Provenance.now(folder / "biopsies.parquet", model_hash(folder / "model"))
    report = nw.evaluate_risk(scored, "malignant", "risk", subgroups=["size"], resamples=500)
    report.to_html(folder / "report.html", provenance=provenance)
    report.to_json(folder / "report.json", provenance=provenance)
    row = int((scored["risk"] - 0.6).abs().arg_min() or 0)
    nw.patient_sheet(model, new.drop("malignant")[row : row + 1], folder / "sheet.html", label=f"row {row}", provenance=provenance)
    nw.model_card(folder / "model", folder / "report.json").write(folder / "card")
    return {"report": folder / "report.html", "sheet": folder / "sheet.html", "card": folder / "card" / "card.html"}


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
    with tempfile.TemporaryDirectory() as folder:
        for name, page in write_pages(Path(folder)).items():
            for width in HEIGHTS:
                save(screenshot(page, width), FOLDER / f"{name}-{width}.png")
            save(first_sheets(page), FOLDER / f"{name}-print.png")
    print(f"{FOLDER} written")


if __name__ == "__main__":
    main()
