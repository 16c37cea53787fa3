"""The report: results, curves, spheres, matches and an explorer on one self-contained page."""

from spheremap.config import Report as ReportParams
from spheremap.config import ReportSlice
from spheremap.report.build import build_report
from spheremap.report.matches import Match, draw_strip, read_match

__all__ = ["Match", "ReportParams", "ReportSlice", "build_report", "draw_strip", "read_match"]
