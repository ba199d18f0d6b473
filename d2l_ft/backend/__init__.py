"""The interface between the core and the frameworks.

A backend is a module with the names of ``protocol.Backend``; ``registry`` finds it. It may import
``data`` and what lies below it, and no framework.
"""
