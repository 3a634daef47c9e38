"""`python -m kdnb` is the command line."""

from kdnb.cli import main

main()
