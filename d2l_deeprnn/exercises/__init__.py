"""The chapter's four exercises, and its remark on initialisation, as studies.

Each module has the same three functions: ``study`` runs, or goes on with, a
study and returns its rows; ``tables`` and ``figures`` make of the rows what
people look at. The notebooks and the command line call the same ones; the
answers, written from the tables, are in the notebooks.
"""

# What the command line calls them -> module
EXERCISES = {
    "1": "from_scratch",
    "2": "gru",
    "3": "more_books",
    "4": "authors",
    "initialisation": "initialisation",
}
# What the command line calls them -> notebook, in the project's folder of that name
NOTEBOOKS = {
    "1": "exercise-1-from-scratch.ipynb",
    "2": "exercise-2-gru.ipynb",
    "3": "exercise-3-more-books.ipynb",
    "4": "exercise-4-authors.ipynb",
    "initialisation": "initialisation.ipynb",
}
