"""`python -m xent`: see `xent.cli`."""

from xent.cli import main

raise SystemExit(main())
