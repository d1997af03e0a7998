"""Containers by runc alone, for devices without podman and docker: the part of their command line that `Engine` uses.

runc starts a container from an unpacked image and knows nothing else. Here images are unpacked (store), a container is
described (spec), and a process of its own keeps it running and its log (supervise); __main__ reads the command line.
"""
