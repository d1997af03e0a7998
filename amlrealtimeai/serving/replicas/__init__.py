"""A model in several processes behind one server, which looks at keys, routes and counts as ever.

pool.Pool takes the place of a ConvertedModel in the table: each replica is a process (worker.py) that computes one
request at a time, and what arrives at a busy service goes to whichever is free, whatever connection it came by.
"""
