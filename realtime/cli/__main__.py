"""`python -m realtime.cli`."""

from realtime.cli import main

main()
