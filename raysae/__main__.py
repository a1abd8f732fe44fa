"""`python -m raysae` is `raysae`."""

from raysae.cli import main

main()
