"""Converters from raw data sets to the layout that the readers of ``pointcept.datasets`` expect."""
