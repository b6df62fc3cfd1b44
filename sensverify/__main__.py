"""``python -m sensverify``: the command line, also for launchers that start modules."""

from sensverify.cli import main

if __name__ == "__main__":
    main()
