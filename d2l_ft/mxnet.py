"""The names of d2l_ft, bound to MXNet:  ``from d2l_ft import mxnet as d2l``."""

from d2l_ft.bound import names_of

__all__, __getattr__, __dir__ = names_of('mxnet')
