"""Results and their presentation: records, statistics, plots, progress and report pages."""
