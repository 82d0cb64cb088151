"""What an extension, a removal and an adaptation of a model did: typed, printable, and saved with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearward.evaluation.provenance import Provenance


@dataclass(frozen=True)
class CalibrationCheck:
    """Calibration of risks of stored patients, each from models that had not seen the patient.

    Parameters
    ----------
    rows, events : int
    expected : float
        Sum of the risks: the number of events that the model expected.
    intercept : float or None
        Calibration in the large, log-odds: the shift with which expected and observed events agree. None where it has no finite value.
    slope : float or None
        Calibration slope; 1 is right, below 1 the risks are too far apart.
    """

    rows: int
    events: int
    expected: float
    intercept: float | None
    slope: float | None

    def __str__(self) -> str:
        intercept, slope = ("undefined" if value is None else f"{value:.2f}" for value in (self.intercept, self.slope))
        return f"{self.events} events in {self.rows} rows, {self.expected:.1f} expected; calibration intercept {intercept}, slope {slope}"


@dataclass(frozen=True)
class Extension:
    """What ``RiskClassifier.extend`` stored.

    Parameters
    ----------
    rows, events, patients : int
        Of the new rows; events are rows outside the commonest class where there are more than two.
    known_patients : int
        Patients among them who had rows in the model before: the new rows are in the shard of the old ones.
    rows_by_shard : tuple of int
    stored : int
        Rows that the model stores now.
    check : CalibrationCheck or None
        Of the new rows, scored before they were stored; None with more than two classes.
    """

    rows: int
    events: int
    patients: int
    known_patients: int
    rows_by_shard: tuple[int, ...]
    stored: int
    check: CalibrationCheck | None

    def __str__(self) -> str:
        known = f" ({self.known_patients} of them stored before)" if self.known_patients else ""
        text = f"{self.rows} rows of {self.patients} patients{known} added, {self.events} events; {self.stored} rows are stored now"
        return text if self.check is None else f"{text}. As scored before they were stored: {self.check}"


@dataclass(frozen=True)
class Removal:
    """What ``RiskClassifier.forget`` removed, and what was fitted on the patients and still stands.

    Parameters
    ----------
    patients, rows, events : int
        That were removed; events are rows outside the commonest class where there are more than two.
    not_stored : int
        Ids that no stored patient has.
    stored, stored_events : int
        Rows and events that remain.
    removed_from : tuple of str
        Parts of the model from which rows were removed.
    still_fitted : tuple of str
        Parts that were fitted on the patients among others, and are unchanged. After a refit of a table's model empty.
    check : CalibrationCheck or None
        Of the rows that remain; None with more than two classes, after an adaptation, and after a refit.
    """

    patients: int
    rows: int
    events: int
    not_stored: int
    stored: int
    stored_events: int
    removed_from: tuple[str, ...]
    still_fitted: tuple[str, ...]
    check: CalibrationCheck | None

    def refitted(self, still_fitted: tuple[str, ...] = ()) -> Removal:
        """Return the removal after a refit, with the parts that were fitted on the patients and stand all the same."""
        return replace(self, still_fitted=still_fitted, check=None)

    def __str__(self) -> str:
        lines = [f"{self.patients} patients removed ({self.rows} rows, {self.events} events); {self.stored} rows remain"]
        if self.not_stored:
            lines.append(f"{self.not_stored} ids are of no stored patient")
        lines.append(f"removed from: {', '.join(self.removed_from)}")
        if self.still_fitted:
            lines.append(f"fitted on them among others, and unchanged: {', '.join(self.still_fitted)}")
        else:
            lines.append("every part was fitted again without them")
        if self.check is not None:
            lines.append(f"calibration on the rows that remain: {self.check}")
        return "\n".join(lines)


@dataclass(frozen=True)
class AdaptationStep:
    """One step of an adaptation.

    Parameters
    ----------
    name : str
    used : bool
    why : str
    log_loss_before, log_loss_after : float or None
        Mean log-loss of the local rows, cross-fitted by patient, without and with the step; None where it was not tried.
    gain, standard_error : float or None
        Their difference, and its standard error over patients.
    detail : str
        What the step found: the shift, the weights.
    """

    name: str
    used: bool
    why: str
    log_loss_before: float | None = None
    log_loss_after: float | None = None
    gain: float | None = None
    standard_error: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class RiskGroup:
    """A fifth of the local rows by risk: observed events, and those expected by the model as it came and by the adapted one."""

    rows: int
    observed: int
    expected_source: float
    expected_adapted: float


@dataclass(frozen=True)
class Adaptation:
    """What ``RiskClassifier.adapt`` did: the value of ``adaptation_``.

    Parameters
    ----------
    rows, events, patients : int
        Local.
    steps : tuple of AdaptationStep, in the order in which they were tried
    intercept, slope : float
        Of the local recalibration of the log-odds in use; 0 and 1 without one.
    log_loss_source, log_loss_adapted : float
        Mean log-loss of the local rows: by the model as it came, and cross-fitted by the adapted one.
    band : str
        What the interval of a risk rests on.
    novelty : str
        What novelty is relative to.
    groups : tuple of RiskGroup
    missing_columns : tuple of str
        Columns of the model that the site lacks.
    renamed : dict
        The site's name of a column -> the model's.
    """

    rows: int
    events: int
    patients: int
    steps: tuple[AdaptationStep, ...]
    intercept: float
    slope: float
    log_loss_source: float
    log_loss_adapted: float
    band: str
    novelty: str
    groups: tuple[RiskGroup, ...] = ()
    missing_columns: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the steps in use."""
        return tuple(step.name for step in self.steps if step.used)

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries."""
        return asdict(self)

    def to_html(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write a page with one figure: events observed here, and expected by the model as it came and by the adapted one."""
        from nearward.adaptation.page import adaptation_page
        from nearward.evaluation.html_page import write_html

        write_html(adaptation_page(self, provenance), path)

    def __str__(self) -> str:
        used = ", ".join(self.used) or "nothing: the model as it came is used"
        return (
            f"{self.rows} local rows of {self.patients} patients, {self.events} events; in use: {used}; "
            f"log-loss {self.log_loss_source:.4f} as it came, {self.log_loss_adapted:.4f} adapted (cross-fitted)"
        )


PERSISTED_TYPES: tuple[type, ...] = (Adaptation, AdaptationStep, RiskGroup)
