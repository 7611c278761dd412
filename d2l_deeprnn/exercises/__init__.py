"""The chapter's four exercises, and its remark on initialisation, as studies.

Each module has the same names:

- ``study(quick, out, observer)`` trains networks and returns rows of results, by kind. ``quick``
  takes two minutes, on the sample texts. ``out`` is a directory for the rows. If a study is
  interrupted, the same call resumes it.
- ``tables`` and ``figures`` show the rows, also those that were read from ``FILES``.
- ``NOTEBOOK`` is the notebook with the answer, which a person wrote from the tables.
"""

# Name on the command line -> module
EXERCISES = {
    "1": "from_scratch",
    "2": "gru",
    "3": "more_books",
    "4": "authors",
    "initialisation": "initialisation",
}
