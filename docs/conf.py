"""How the documentation is built: Markdown pages, and the API from the docstrings of the rooms."""

import shutil
import sys
from importlib import import_module
from importlib.metadata import version as installed_version
from pathlib import Path

# autodoc imports the rooms from this checkout, whatever is installed
sys.path.insert(0, str(Path(__file__).parent.parent))

project = "Permafrost"
author = "the Permafrost authors"
copyright = author
release = version = installed_version("permafrost")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# pages of names that are exported no more would stay and be warned of
shutil.rmtree(Path(__file__).parent / "api", ignore_errors=True)

# each room's page lists what its `__all__` names, though most of it lives in files below the room
rooms = ("data", "extract", "heads", "pipelines")
autosummary_generate = True
autosummary_context = {"exports": {room: sorted(import_module(room).__all__) for room in rooms}}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# numpydoc would list the members a second time, as autodoc already does
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2}
html_show_sphinx = False


def _skip_member(app, what, name, member, skip, options):
    """Leave out the metadata requests that scikit-learn adds to every estimator."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _skip_member)
