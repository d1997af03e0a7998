"""Where a service runs, behind one small protocol (base.Target): deploy, update, scale, status, logs, delete.

embedded: a gRPC server on this machine, in this process or in a child process.
"""
