"""``python -m napari_ood`` is the ``napari-ood`` command."""

import sys

from napari_ood.cli import main

sys.exit(main())
