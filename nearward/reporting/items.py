"""The items of a model card: CHAI's Applied Model Card, and a self-check by the domains of PROBAST+AI; titles in our words.

TRIPOD+AI's items are those of ``nearward.evaluation.risk.tripod_json``.

References
----------
Coalition for Health AI: Applied Model Card (2024), https://chai.org.
Moons et al.: PROBAST+AI: an updated quality, risk of bias, and applicability assessment tool (2025), BMJ 388:e082505. It has 16 questions
on development and 18 on evaluation; the self-check here is shorter, and no substitute for an assessment by others.
"""

from __future__ import annotations

CHAI: dict[str, tuple[str, ...]] = {
    "Overview": (
        "Name",
        "Developer",
        "Contact for questions and problems",
        "Release stage",
        "Release date",
        "Version",
        "Where it is available",
        "Regulatory approval",
        "Summary",
        "Keywords",
    ),
    "Uses and directions": (
        "Intended use and workflow",
        "Primary users",
        "How to use it",
        "Target population",
        "Settings and uses out of scope",
    ),
    "Warnings": ("Known risks and limitations", "Known biases and ethical considerations", "Clinical risk level"),
    "Trust ingredients": (
        "Outcome and output",
        "Type of model",
        "Foundation models",
        "Source of input data",
        "Types of input and output data",
        "Development data",
        "Evaluation data",
        "Bias mitigation",
        "Monitoring and maintenance",
        "Security and compliance",
        "Transparency, intelligibility and accountability",
    ),
    "Transparency": ("Funding", "Third parties", "Stakeholders consulted"),
    "Key metrics": ("Usefulness and efficacy", "Fairness and equity", "Safety and reliability"),
    "Resources": ("Publications", "Datasheets of the data", "Patient consent or disclosure"),
}

PROBAST: dict[str, tuple[tuple[str, str], ...]] = {
    "Participants and data sources": (
        ("1.1", "Are the data sources appropriate for the question and the target population?"),
        ("1.2", "Are inclusions and exclusions appropriate?"),
        ("1.3", "Are groups of patients represented as they are where the model will be used?"),
    ),
    "Predictors": (
        ("2.1", "Are predictors defined and measured alike for all participants?"),
        ("2.2", "Are predictors measured without knowledge of the outcome?"),
        ("2.3", "Are all predictors known at the time of prediction?"),
    ),
    "Outcome": (
        ("3.1", "Is the outcome defined and determined appropriately, and alike for all participants?"),
        ("3.2", "Is the outcome determined without knowledge of the predictors?"),
        ("3.3", "Is the time between predictors and outcome appropriate?"),
    ),
    "Analysis": (
        ("4.1", "Are there enough participants with the outcome?"),
        ("4.2", "Are missing data handled appropriately?"),
        ("4.3", "Is leakage between development and evaluation avoided?"),
        ("4.4", "Are overfitting and class imbalance dealt with, and risks recalibrated?"),
        ("4.5", "Are discrimination, calibration and net benefit evaluated, with intervals?"),
        ("4.6", "Is performance evaluated within groups of patients?"),
        ("4.7", "Is the model evaluated on other data than those of its development?"),
    ),
}
