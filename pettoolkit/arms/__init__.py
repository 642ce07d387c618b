"""One folder per privacy-enhancing technology, each with the same three files.

``inside.py`` is what happens in a hospital, ``outside.py`` what is done with the answers,
``config.py`` the arm's keys in an experiment file.
"""
