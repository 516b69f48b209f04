"""The subcommands of `skyloom`, one module for each group; each function takes its name and its arguments."""
