"""What several packages use.

| file | what it does |
|---|---|
| `errors.py` | errors that end a command with one line, without a traceback |
| `options.py` | declares the options of commands |
| `interrupts.py` | Ctrl-C while libraries load |
| `text.py` | reads a user's text files; compares, numbers and prints names |
| `files.py` | writes files whole or not at all, and JSON |
| `blocks.py` | long work in blocks that are on disk when they are done |
| `console.py`, `counting.py` | what commands print to, and their progress bars |
| `plain_warnings.py` | prints the warnings of libraries as plain lines |
| `figures.py`, `fonts.py` | what all pictures share |
"""
