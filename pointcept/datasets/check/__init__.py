"""Looks at data before it is trained on: ``python -m pointcept.datasets.check CONFIG``."""

from pointcept.datasets.check.findings import Finding, find_problems
from pointcept.datasets.check.measure import CloudFacts, SplitFacts, measure_split

__all__ = ["CloudFacts", "Finding", "SplitFacts", "find_problems", "measure_split"]
