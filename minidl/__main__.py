"""`python -m minidl` is the command `minidl`."""
import sys

if __name__ == "__main__":
    try:
        from minidl.cli.main import main
        sys.exit(main())
    except KeyboardInterrupt:  # while it is still loading; main looks after its own
        sys.exit(130)
