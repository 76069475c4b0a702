"""`python -m kwela` is the `kwela` command."""

from kwela.cli import main

main()
