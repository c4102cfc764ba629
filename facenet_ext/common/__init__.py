"""What several rooms use.

| file | what it does |
|---|---|
| `errors.py` | what ends a command: told in one line, without a traceback |
| `interrupts.py` | Ctrl-C while libraries load |
| `text.py` | reads a user's text files, and compares names |
| `files.py` | writes files whole or not at all, and JSON |
| `console.py`, `counting.py` | what commands print to, and their progress bars |
| `plain_warnings.py` | prints the warnings of libraries as plain lines |
| `figures.py`, `fonts.py` | what all pictures share |
"""
