"""Evaluation: matching, scoring, and the files that hold the scores."""

from spheremap.config import Evaluate as EvaluateParams
from spheremap.config import EvaluateSlice
from spheremap.metrics.evaluation.agreement import check_adapter, check_agreement
from spheremap.metrics.evaluation.measure import Measurements, measure
from spheremap.metrics.evaluation.results import Results, evaluate, write_results
from spheremap.metrics.evaluation.validation import (
    AdaptedValidation,
    Validation,
    make_adapted_validation,
    make_validation,
)

__all__ = [
    "AdaptedValidation",
    "EvaluateParams",
    "EvaluateSlice",
    "Measurements",
    "Results",
    "Validation",
    "check_adapter",
    "check_agreement",
    "evaluate",
    "make_adapted_validation",
    "make_validation",
    "measure",
    "write_results",
]
