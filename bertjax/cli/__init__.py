"""The command line: `main` finds the subcommand, one thin file each; the rest of the package knows nothing of it."""
