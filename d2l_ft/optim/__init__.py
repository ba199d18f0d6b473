"""Hyper-parameters and schedules, in one convention for both frameworks.

It imports nothing of d2l_ft but its errors. Begin with ``recipe``.
"""
