"""Leave MXNet: read its trained nets without it, and write them as plain PyTorch modules.

Begin in ``formats.py`` (what a file is), then ``graph.py``, ``rules.py`` and ``source.py`` (a
symbol's graph as a module's source), ``package.py`` (the folder that is written), ``observe.py``
(what is computed on both sides), ``verify.py`` (the proof), ``witness.py`` (the proof's half that
an old machine computes), ``trainable.py`` (the net as an architecture). ``command.py`` and
``verify_command.py`` are what the commands do. May import ``report`` and what stands below
``sources``; no framework: what computes is asked of the backends.
"""
