"""Sphinx: the documentation of mlip (`make docs`).

What code knows is written by code: the table of potentials from the registry, the reference of the command line from
the commands, both into `generated/` before the pages are read. Notebooks run on a small potential that `world.py`
trains once and keeps in `_build/world`.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from generated_pages import write_pages  # noqa: E402
from repository_links import to_the_code_host  # noqa: E402
from world import make_world  # noqa: E402

import mlip  # noqa: E402

project = "mlip"
author = copyright = "The mlip developers"
release = version = mlip.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "generated", "README.md"]
nitpicky = False  # annotations of arrays are jaxtyping's, which no inventory has
default_role = "code"
language = "en"

html_theme = "furo"
html_title = f"mlip {release}"
html_static_path = ["_static"]
html_css_files = ["mlip.css"]
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

nb_execution_mode = os.environ.get("MLIP_DOCS_EXECUTION", "cache")
nb_execution_timeout = 3600  # seconds a cell, of a machine that others use, too
nb_execution_raise_on_error = False  # a warning, which ends a build with -W after all others have run
nb_execution_show_tb = True
nb_merge_streams = True
nb_execution_cache_path = str(HERE / "_build" / "jupyter_cache")

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
autodoc_mock_imports = ["torch", "torch_sim"]
suppress_warnings = ["myst-nb.lexer"] if nb_execution_mode == "off" else []  # the kernel tells the language

# Other projects' inventories come from the network: INTERSPHINX=1 asks for them, and a build without is complete, too.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "ase": ("https://ase-lib.org", None),
        "pymatgen": ("https://pymatgen.org", None),
    }
    if os.environ.get("INTERSPHINX") == "1"
    else {}
)

linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1).*"]
linkcheck_timeout = 30

# Kernels of notebooks, and the commands in them, are those of this environment and of this tree.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "_ext"), str(HERE.parent)])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # XLA's remarks on slow compilations

write_pages(HERE / "generated")
if nb_execution_mode != "off":
    os.environ["MLIP_DOCS_WORLD"] = str(make_world(HERE / "_build" / "world"))


def _is_no_type(app, what, name, obj, options, lines):
    """A colon in the first line of an attribute's docstring is a colon; napoleon takes what is before it for a type."""
    if what in ("attribute", "property", "data"):
        lines.insert(0, "")


def setup(app):
    app.connect("source-read", to_the_code_host)
    app.connect("autodoc-process-docstring", _is_no_type, priority=100)
