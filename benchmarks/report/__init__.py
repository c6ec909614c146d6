"""The report: page, charts, tables."""
