"""The subcommands of ``facenet`` other than ``train``: a file each, with ``execute(options)``."""
