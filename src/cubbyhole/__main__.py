# SPDX-License-Identifier: Apache-2.0
"""`python -m cubbyhole`."""

from cubbyhole.cli.main import main

if __name__ == "__main__":
    main()
