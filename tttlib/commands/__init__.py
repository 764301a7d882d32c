"""What `tttlib` does on the command line, beyond the short commands in `__main__`."""
