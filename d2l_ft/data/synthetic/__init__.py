"""The built-in sample: pictures of food, drawn by code.

Begin with ``tasks``, which says what is drawn.
"""
