"""`python -m vcframe`."""

from vcframe.cli import main

main()
