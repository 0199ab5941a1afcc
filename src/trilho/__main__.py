"""`python -m trilho` is `trilho`."""

from trilho.cli import main

if __name__ == "__main__":
    main()
