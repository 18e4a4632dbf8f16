"""Guests that declare system tasks: each task once, with its definition, its purpose and its work."""
