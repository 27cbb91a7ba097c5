"""What `mvgamba` can be told to do: a module for each family of commands. Only `mvgamba.__main__` uses them.

Each has `add`, which adds its arguments to the command line with a function `run(args)` that gives the exit status.
"""
