"""Results and how they are shown: records, statistics, plots, progress and pages of reports."""
