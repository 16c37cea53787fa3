"""The report: results, curves, spheres, matches and an explorer on one self-contained page."""

from spheremap.report.build import build_report
from spheremap.report.matches import Match, draw_strip, read_match
from spheremap.report.params import ReportParams, ReportSlice

__all__ = ["Match", "ReportParams", "ReportSlice", "build_report", "draw_strip", "read_match"]
