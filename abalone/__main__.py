"""``python -m abalone``."""

from abalone.cli.program import main

if __name__ == "__main__":
    main()
