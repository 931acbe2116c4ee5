"""Sphinx settings: `sphinx-build -W docs docs/_build` (extra `docs`) turns these pages into HTML."""
project = "minidl"
extensions = ["myst_parser", "sphinx_design"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2
exclude_patterns = ["_build", "networks_head.md"]
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository that are no pages
html_theme = "alabaster"
html_theme_options = {"description": "deep learning, small enough to read", "page_width": "1100px"}
