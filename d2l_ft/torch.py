"""The names for PyTorch, whatever D2L_FT_BACKEND says: ``from d2l_ft import torch as d2l``."""

from typing import TYPE_CHECKING

from d2l_ft.framework_names import names_of

if TYPE_CHECKING:  # which knows the names by it
    from d2l_ft import *  # noqa: F403
else:
    __all__, __getattr__, __dir__ = names_of('pytorch')
