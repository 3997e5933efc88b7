"""``python -m ledger``: the command line, also where another program is called ledger."""

from ledger.cli.main import main

if __name__ == "__main__":
    main()
