"""Sphinx's settings for the documentation; ``make docs`` builds it."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / 'backends')]

from d2l_ft import __version__  # noqa: E402

project = 'd2l_ft'
html_title = f'd2l_ft {__version__}'
copyright = 'MIT licence'
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'reference']

myst_heading_anchors = 3
smartquotes = False  # two hyphens begin an option
highlight_language = 'none'

autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
autodoc_default_options = {'members': True, 'show-inheritance': True}
napoleon_use_ivar = True

html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['docs.css']
html_js_files = ['copy.js']
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
# The same colours as the pages of the chapter: their contrast is high enough for small text.
pygments_style = 'a11y-high-contrast-light'
pygments_dark_style = 'a11y-high-contrast-dark'
