"""A real server of the MongoDB protocol for the tests, from Debian's packages: DocumentDB in PostgreSQL, and a gateway.

``place`` installs and starts the database, ``gateway`` speaks the protocol before it, ``__main__`` runs both until its
standard input ends. ``TEST_MONGODB_URI`` names a true MongoDB instead.
"""
