"""The names for MXNet, whatever D2L_FT_BACKEND says: ``from d2l_ft import mxnet as d2l``."""

from d2l_ft.framework_names import names_of

__all__, __getattr__, __dir__ = names_of('mxnet')
