"""penlib: what the tools of the pen suite share.

The modules stand on floors (see doc/design.md); a file imports only from floors below its own, so this
file imports nothing.
"""
