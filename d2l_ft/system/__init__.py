"""The machine and the terminal: cores, memory, signals, every line that a user sees.

It imports nothing of d2l_ft but its errors.
"""
