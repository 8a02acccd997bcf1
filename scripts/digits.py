"""Train on digits with cross-entropy and with infogain: python scripts/digits.py --seeds 10."""


def main() -> object:
    import tyro

    from studies import digits

    return digits.run(tyro.cli(digits.Options))


if __name__ == "__main__":
    from _entry import entry

    entry(main)
