"""``python -m abalone``."""

from abalone.cli import main

if __name__ == "__main__":
    main()
