"""The chapter's four exercises, and its remark on initialisation, as studies.

Each module has the same three functions: ``study`` runs, or goes on with, a
study and returns its rows; ``tables`` and ``figures`` make of the rows what
people look at; ``answer`` puts them into sentences. The notebooks and the
command line call the same ones.
"""

# What the command line calls them -> module
EXERCISES = {
    "1": "from_scratch",
    "2": "gru",
    "3": "more_books",
    "4": "authors",
    "initialisation": "initialisation",
}
