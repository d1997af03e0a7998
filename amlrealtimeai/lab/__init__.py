"""What lessons import: pictures, plots, widgets, exercise checks, the doctor.

Submodules are imported by name; none of them loads before it is asked for.
"""
