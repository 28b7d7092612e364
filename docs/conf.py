"""Sphinx configuration of the AquaMVS site, built by ``tox run -e docs``."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parent)]

project = "AquaMVS"
author = "The AquaMVS developers"
copyright = author
release = installed_version("aquamvs")
version = release

extensions = [
    "api_style",
    "colab_badge",
    "command_line",
    "configuration_table",
    "drawn_figure",
    "drawn_math",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_ext", "notebook_tools", "jupyter_execute", "**.ipynb_checkpoints"]

# Notebooks carry their outputs: they are executed by docs/notebooks.py, never by the site's build.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
smartquotes_action = "q"  # no dashes: options would be quoted as they are not typed

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # `= no_progress`, not the address of a function
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_math_renderer = "drawn"
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"AquaMVS {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "https://github.com/tlancaster6/AquaMVS/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
