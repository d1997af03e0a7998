"""A serving process: started from the command line, following files, supervised, logging."""
