"""Kill the worker that is in the middle of a slide: SCHEDULER FOLDER-OF-THE-COHORT."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from distributed import Client


def main() -> None:
    address, folder = sys.argv[1], Path(sys.argv[2])
    with Client(address, timeout=60, set_as_default=False) as client:
        processes = client.run(os.getpid)
        while True:
            begun = any(folder.glob("*.ood.zarr/done/c/*/*"))
            busy = [worker for worker, tasks in client.processing().items() if tasks]
            if begun and busy:
                break
            time.sleep(0.2)
        os.kill(processes[busy[0]], signal.SIGKILL)
        print(f"killed {busy[0]}", flush=True)


if __name__ == "__main__":
    main()
