"""``python -m kcls`` is the same as ``kcls``."""

from kcls.cli import main

if __name__ == "__main__":
    main()
